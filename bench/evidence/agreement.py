"""The table of our device times beside another tool's: when they agree, how the table is written and told."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

from sparsity_roofline.model.errors import UserError

Row = dict[str, float | str]
"""``kernel``, ``ours_us``, the other tool's column, ``difference_us`` and ``difference_share`` without its constant."""


def within(row: Row) -> bool:
    """The bar: 3 % from 20 us up, 0.5 us below."""
    time, off, share = (float(row[key]) for key in ("ours_us", "difference_us", "difference_share"))
    return abs(share) <= 0.03 if time >= 20 else abs(off) <= 0.5


def write_and_tell(rows: Sequence[Row], path: Path, tool: str, column: str, what: str) -> None:
    """Write the rows as CSV, five significant digits, and print how many agree and each of them.

    Args:
        rows: at least one; the keys of the first are the columns.
        path: of the CSV file.
        tool, column: the other tool's name, and the column of its time.
        what: what a row is, in the plural.

    Raises:
        UserError: the file cannot be written; the rows are printed all the same.
    """
    agree = [row for row in rows if within(row)]
    sys.stdout.write(f"{len(agree)} of {len(rows)} {what} within 3 % (from 20 us up) or 0.5 us (below)\n")
    for row in rows:
        mark = "" if within(row) else "  <-- outside"
        sys.stdout.write(
            f"{row['kernel']:42} ours {row['ours_us']:10.2f} us  {tool} {row[column]:10.2f} us  "
            f"less constant {row['difference_us']:+8.2f} us ({row['difference_share']:+.1%}){mark}\n"
        )
    write_rows(rows, path)


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """Write rows as CSV, five significant digits.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
