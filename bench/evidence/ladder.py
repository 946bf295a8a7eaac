"""The same calls under every timer of the ladder: ``python -m sparsity_roofline.bench.evidence.ladder OUT.csv``.

Cold under CUPTI records and CUDA events, hot under all three; a CUDA graph is cold only over rotating operands, which a
run with ``--timer cuda-graph`` builds. Needs an NVIDIA GPU.
"""

from __future__ import annotations

import csv
import statistics
import sys
from pathlib import Path

from sparsity_roofline.bench.evidence.cells import empty_cell, prepared_cells
from sparsity_roofline.bench.timing import timer_for
from sparsity_roofline.bench.timing.protocol import InvalidMeasurement, L2State, Regime, Stopping
from sparsity_roofline.model.errors import UserError

COLUMNS: tuple[tuple[str, L2State], ...] = (
    ("cupti-kineto", "cold-clean"),
    ("cuda-events", "cold-clean"),
    ("cupti-kineto", "cold-dirty"),
    ("cupti-kineto", "hot"),
    ("cuda-graph", "hot"),
    ("cuda-events", "hot"),
)


def ladder() -> list[dict[str, float | str]]:
    """One row per cell, median us under each timer and cache state; "" where a timer could not vouch for its samples.

    Raises:
        UserError: no GPU, or a timer that cannot run here.
    """
    for name, _ in COLUMNS:
        support = timer_for("cuda", name).available()
        if not support:
            raise UserError(f"{name}: {support.reason}", 6)
    rows: list[dict[str, float | str]] = []
    for cell in [empty_cell(), *prepared_cells()]:
        row: dict[str, float | str] = {"kernel": cell.name}
        for name, l2 in COLUMNS:
            try:
                samples = timer_for("cuda", name).measure(cell.launch, Regime(l2), Stopping(maximum=60, seconds=0.5))
                row[f"{name} {l2} us"] = round(statistics.median(samples.busy_ns) / 1e3, 3)
            except InvalidMeasurement:
                row[f"{name} {l2} us"] = ""
        rows.append(row)
    return rows


def main(arguments: list[str]) -> int:
    """Measure, write the table and print it."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m sparsity_roofline.bench.evidence.ladder OUT.csv\n")
        return 2
    try:
        rows = ladder()
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    with Path(arguments[0]).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        sys.stdout.write(
            "  ".join(f"{value!s:>12}" if i else f"{value:42}" for i, value in enumerate(row.values())) + "\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
