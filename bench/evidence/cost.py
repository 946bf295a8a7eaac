"""What a run's trustworthiness costs: ``python -m sparsity_roofline.bench.evidence.cost RUN [OUT.csv]``.

Splits the wall time of a run into the phases that its records name (``wall_ns``) and what lies outside of the jobs
(``wall_s`` of run.json): start-up, writing records, tables. Phases that a process pays once (library start, clock
settling) are counted where they fell; the column of the largest share of one record shows them.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from sparsity_roofline.bench.folder import RUN, read_json
from sparsity_roofline.bench.measure import TOTAL
from sparsity_roofline.bench.store import read_records
from sparsity_roofline.model.errors import UserError

PHASES = {
    "load": "load and count the matrix",
    "conversion": "convert (and copies for a rotating timer)",
    "inputs": "X and Y",
    "oracle": "float64 product",
    "first launch": "first launch",
    "check": "check, three times",
    "warm-up": "warm-up",
    "timing": "timing, with readings around it",
    "library start": "libraries' first use, timer's start",
    "clock settling": "clocks settle, once a process",
}
"""Phases of a job in the order of the table, in words."""
OUTSIDE = {
    "start-up": "start-up and calibration",
    "records": "writing records",
    "tables": "Parquet at the end",
}
"""Parts of a run outside of its jobs."""
BOOKKEEPING, BETWEEN = "rest of a job", "rest of the run"


@dataclass(frozen=True)
class Part:
    """One row: seconds in all, share of the run, ms for each record, and the largest of one record."""

    name: str
    seconds: float
    share: float
    mean_ms: float
    most_ms: float

    def __str__(self) -> str:
        most = f"{self.most_ms:10.1f}" if self.most_ms == self.most_ms else " " * 10
        return f"{self.name:44}{self.seconds:9.2f}{self.share:8.1%}{self.mean_ms:10.2f}{most}"


HEADING = f"{'':44}{'s':>9}{'share':>8}{'ms/record':>10}{'largest':>10}"


def split(records: pd.DataFrame, meta: dict[str, Any]) -> list[Part]:
    """The parts of a run's wall time, which add up to it; the last is the sum.

    Raises:
        UserError: records without ``wall_ns``, as older versions wrote them.
    """
    walls = [json.loads(text) for text in records["wall_ns"] if text]
    if not walls:
        raise UserError("the records hold no wall times: they were made by an older version; measure again")
    table = pd.DataFrame(walls).fillna(0.0) / 1e9
    jobs = table.pop(TOTAL)
    table = table.reindex(columns=[*PHASES, *(c for c in table.columns if c not in PHASES)], fill_value=0.0)
    table[BOOKKEEPING] = jobs - table.sum(axis=1)
    outside = {part: float(meta.get("wall_s", {}).get(part, 0.0)) for part in OUTSIDE}
    whole = float(meta.get("seconds") or 0.0) or float(jobs.sum()) + sum(outside.values())
    count = len(walls)

    def part(name: str, seconds: float, most_s: float = float("nan")) -> Part:
        return Part(name, seconds, seconds / whole, seconds / count * 1e3, most_s * 1e3)

    parts = [part(PHASES.get(c, c), float(table[c].sum()), float(table[c].max())) for c in table.columns]
    parts += [part(OUTSIDE[name], seconds) for name, seconds in outside.items()]
    parts.append(part(BETWEEN, whole - sum(p.seconds for p in parts)))
    return [*parts, part(f"all, {count} records", whole)]


def main(arguments: list[str]) -> int:
    """Print the split of a run; write it as CSV where a second name is given."""
    if len(arguments) not in (1, 2):
        sys.stderr.write("usage: python -m sparsity_roofline.bench.evidence.cost RUN [OUT.csv]\n")
        return 2
    run = Path(arguments[0])
    try:
        parts = split(read_records(run), read_json(run / RUN))
        if len(arguments) == 2:
            frame = pd.DataFrame([vars(p) for p in parts])
            frame.to_csv(arguments[1], index=False, float_format="%.5g", lineterminator="\n")
    except (UserError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code if isinstance(error, UserError) else 2
    sys.stdout.write("\n".join([HEADING, *map(str, parts)]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
