"""What Nsight Compute counts of several kernels beside what the cost functions charge.

    python -m sparsity_roofline.bench.evidence.profiles FOLDER [--table]

profiles every target below (about half a minute each, on an NVIDIA GPU with the permission to count), one JSON a kernel
in FOLDER as soon as it is there; those that are there already are kept. The table of bytes and operations, and of the
first finding of each, is made from what FOLDER holds; ``--table`` makes it alone, anywhere.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sparsity_roofline.bench.profile.analyse import profile
from sparsity_roofline.bench.profile.target import Target
from sparsity_roofline.model import cost, table
from sparsity_roofline.model.case import Case
from sparsity_roofline.model.errors import UserError

COLUMNS = (
    "kernel", "case", "us", "fraction_of_bound", "dram_mb", "charged_paper_mb", "charged_bound_mb", "dram_over_bound",
    "l2_mb", "operations_g", "charged_operations_g", "first_finding", "speedup_if_mended", "counted",
)  # fmt: skip


def _pruned(shape: str, pattern: str, N: int, kernel: str, sparsity: float | None = 0.75) -> Target:
    levels = () if sparsity is None else (sparsity,)
    name = f"{shape}@{pattern}@{0.5 if sparsity is None else sparsity:g}"
    return Target(f"uniform:{shape}", name, N, "fp16", kernel, (pattern,), levels)


TARGETS = (
    Target("uniform:4096x4096", "4096x4096", 2048, "fp16", "dense.cublas"),
    Target("uniform:4096x4096", "4096x4096", 2048, "fp16", "dense.triton"),
    _pruned("4096x4096", "block64x64", 2048, "bsr.triton"),
    _pruned("4096x4096", "block64x64", 2048, "bsr.wgmma"),
    _pruned("4096x4096", "unstructured", 2048, "csr.wgmma"),
    _pruned("4096x4096", "unstructured", 256, "csr.triton"),
    _pruned("4096x4096", "unstructured", 256, "csr.torch"),
    _pruned("14336x4096", "2:4", 16, "nm.wgmma", None),
)
"""Dense and sparse, ours and peers, bound by operations and by bytes."""


def row(found: dict[str, Any]) -> dict[str, Any]:
    """One line of the table from a profile's JSON."""
    case = Case.from_dict(found["case"])
    facts, limits = found["facts"], found["limits"]
    paper = float(cost.cost(table.CaseTable.of([case]), cost.PRESETS["paper"]).bytes[0])
    read, written = facts["dram_read"], facts["dram_write"]
    dram = None if read is None or written is None else read + written
    first = found["findings"][0] if found["findings"] else {"term": "", "speedup": None}
    return {
        "kernel": found["target"]["kernel"],
        "case": f"{case.M} x {case.K} x {case.N} {case.pattern} {case.dtype}",
        "us": found["time_ns"] / 1e3,
        "fraction_of_bound": found["fraction"],
        "dram_mb": _mega(dram),
        "charged_paper_mb": _mega(paper),
        "charged_bound_mb": _mega(limits["bytes"]),
        "dram_over_bound": None if dram is None else dram / limits["bytes"],
        "l2_mb": _mega(facts["l2_to_sm"]),
        "operations_g": None if not facts["operations"] else facts["operations"] / 1e9,
        "charged_operations_g": limits["flops"] / 1e9,
        "first_finding": first["term"],
        "speedup_if_mended": first["speedup"],
        "counted": found["counted"],
    }


def write_table(folder: Path) -> list[dict[str, Any]]:
    """``profiles.csv`` from the JSON files of a folder, in the order of their names.

    Raises:
        UserError: there is none.
    """
    files = sorted(folder.glob("*.json"))
    if not files:
        raise UserError(f"{folder} holds no profile: run without --table on a GPU first")
    rows = [row(json.loads(file.read_text(encoding="utf-8"))) for file in files]
    with (folder / "profiles.csv").open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in one.items()} for one in rows)
    return rows


def _mega(value: float | None) -> float | None:
    return None if value is None else value / 1e6


def main(arguments: Sequence[str] | None = None) -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(prog="python -m sparsity_roofline.bench.evidence.profiles", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--table", action="store_true", help="only make the table of what is there")
    given = parser.parse_args(arguments)
    try:
        if not given.table:
            given.folder.mkdir(parents=True, exist_ok=True)
            for target in TARGETS:
                _one(target, given.folder)
        rows = write_table(given.folder)
    except (UserError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code if isinstance(error, UserError) else 2
    for one in rows:
        shown = ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in one.items())
        sys.stdout.write(shown + "\n")
    return 0


def _one(target: Target, folder: Path) -> None:
    name = f"{target.kernel}-{target.matrix.replace('@', '-').replace(':', 'of')}-{target.N}.json"
    if (folder / name).is_file():
        return
    try:
        found = profile(target)
    except UserError as error:
        sys.stderr.write(f"{name}: {error}\n")
        return
    (folder / name).write_text(json.dumps(found.to_json(), indent=1), encoding="utf-8")
    sys.stderr.write(f"{name}: {found.why or 'counted'}\n")


if __name__ == "__main__":
    sys.exit(main())
