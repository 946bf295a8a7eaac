"""Is the gate right? The same commit against itself, and slowdowns of known size, in the same processes.

    python -m sparsity_roofline.bench.evidence.gate OUT [--processes 2]
    python -m sparsity_roofline.bench.evidence.gate OUT --judge

Two sides, base and head, take turns in fresh processes, as in ``compare --worktree``. Both are this commit. Only in
head the kernels of ``slowed_together`` do more work, by design; each percentage is judged as a comparison of its own.
All other cells are the same on both sides: every way to divide the processes into two sides is a comparison of the
commit with itself, in which every REGRESSED and IMPROVED is a false one. There is one look: none is taken back.

What could be found is then simulated on these records: one side's times multiplied by a factor (no kernel ran slower),
and cells drawn from the spread that was seen, for other numbers of processes.

Each process leaves its run folder in OUT/runs as it goes. ``--judge`` makes the rest of them: one file of records a
side, with a run id for each process (which stands for OUT/runs where that is gone), the comparisons as JSON, and
``gate.json`` with the summary.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from sparsity_roofline.bench.compare import IMPROVED, REGRESSED, Comparison, Side, compare_sides, read_side
from sparsity_roofline.bench.compare_live import Arm, Request, measure_arms
from sparsity_roofline.bench.compare_reports import to_json
from sparsity_roofline.bench.environment import pick_device
from sparsity_roofline.bench.evidence.gate_simulated import simulated_processes, simulated_slowdown
from sparsity_roofline.bench.evidence.slowed import VARIABLE
from sparsity_roofline.bench.evidence.slowed_together import WORK
from sparsity_roofline.bench.folder import ENVIRONMENT, write_json
from sparsity_roofline.bench.plan import make_plan
from sparsity_roofline.bench.store import write_records
from sparsity_roofline.bench.suites.load import parse_suite
from sparsity_roofline.kernels.protocol import Device
from sparsity_roofline.kernels.registry import load_kernels
from sparsity_roofline.model.errors import UserError

AIMS = {3: 0.5, 5: 0.95, 10: 1.0}
"""Share of the cells, noise permitting, in which a slowdown of so many percent must be found."""
SIDES = ("base", "head")
SLOWED = "sparsity_roofline.bench.evidence.slowed_together"
LOG, RUNS, SUMMARY = "log.txt", "runs", "gate.json"

SUITES = {
    # Planted first, so that a run that is cut short has them. Their K is 200 steps: percentages are whole steps.
    "cuda": """
dtypes = ["fp16", "fp32"]
[timing]
minimum = 20
maximum = 40
seconds = 0.2
[[entries]]
collection = "shapes:512x6400,1024x6400"
prune = ["unstructured"]
sparsities = [0.9]
columns = [256, 512, 1024]
kernels = ["csr.torch"]
dense = ["dense.slowed.*"]
[[entries]]
collection = "shapes:512x512,1024x512,512x2048"
prune = ["unstructured"]
sparsities = [0.7, 0.8, 0.9]
columns = [256, 512, 1024, 2048]
kernels = ["csr.triton", "csr.torch"]
dense = ["dense.cublas"]
[[entries]]
collection = "shapes:512x512,1024x512,512x2048"
prune = ["block64x64"]
sparsities = [0.9]
columns = [256, 512, 1024, 2048]
kernels = ["bsr.triton", "bsr.torch"]
dense = ["dense.cublas"]
""",
    "cpu": """
[timing]
minimum = 10
maximum = 10
seconds = 0.1
[[entries]]
collection = "shapes:256x256"
prune = ["unstructured"]
sparsities = [0.9]
columns = [16, 32]
kernels = ["csr.scipy"]
dense = ["dense.torch"]
""",
}


class Log:
    """What was done and when, in seconds from the beginning, on stderr and in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._start = time.monotonic()

    def __call__(self, text: str) -> None:
        line = f"{time.monotonic() - self._start:7.2f} s  {text}\n"
        sys.stderr.write(line)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line)


def measure(out: Path, processes: int, device: Device) -> None:
    """Measure into ``out/runs``; what a process has finished is there whatever happens next.

    Raises:
        UserError: a process measured nothing, or ``out`` holds something.
    """
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out} is not empty: choose another folder")
    out.mkdir(parents=True, exist_ok=True)
    log = Log(out / LOG)
    with tempfile.TemporaryDirectory() as folder:
        suite = Path(folder) / "gate-evidence.toml"
        suite.write_text(SUITES[device], encoding="utf-8")
        plan = make_plan(parse_suite(SUITES[device], "gate-evidence"), kernels=load_kernels([SLOWED]), device=device)
        # Of the long weights only the planted kernels are of interest.
        cells = [job.key for job in plan.jobs if job.case.K != 6400 or job.kernel.startswith("dense.slowed")]
        arguments = ("--suite", str(suite), "--device", device, "--kernel", SLOWED)
        request = Request(arguments, processes, 1, ahead=device == "cuda")
        log(f"{len(cells)} cells, {processes} processes a side")
        arms = [Arm(name, environment={VARIABLE: planted}) for name, planted in zip(SIDES, "01", strict=True)]
        measure_arms(arms, out / RUNS, request, cells=cells, say=log)
    log("end")


def judge(out: Path) -> dict[str, Any]:
    """Judge what ``measure`` left, write the comparisons and ``gate.json``; its content.

    Raises:
        UserError: nothing was measured there, or on one side only.
    """
    sides = [_side(out, name) for name in SIDES]
    planted = [side.records["kernel"].str.startswith("dense.slowed.") for side in sides]
    same = pd.concat([s.records[~p].assign(of=s.label) for s, p in zip(sides, planted, strict=True)])
    found: dict[str, Any] = {"processes": [side.processes for side in sides], "same": [], "planted": []}
    for number, comparison in enumerate((compare_sides(*pair) for pair in _divisions(same)), 1):
        (out / f"same-{number}.json").write_text(to_json(comparison), encoding="utf-8")
        found["same"].append(_same(comparison))
    found["simulated_slowdown"] = simulated_slowdown(_divisions(same))
    found["simulated_processes"] = simulated_processes(same)
    for percent in WORK:
        kernel = f"dense.slowed.{percent}"
        base, head = (Side(s.label, s.records[s.records["kernel"] == kernel]) for s in sides)
        if len(base.records) and len(head.records):
            comparison = compare_sides(base, head)
            (out / f"planted-{percent}.json").write_text(to_json(comparison), encoding="utf-8")
            found["planted"].append(_planted(comparison, base, percent))
    write_json(out / SUMMARY, found)
    return found


def _side(out: Path, name: str) -> Side:
    """From the run folders, which then become one file, or from that file."""
    runs, file = out / RUNS / name, out / f"{name}.parquet"
    if runs.exists():
        side = read_side(runs, name)
        write_records(side.records.drop(columns="process"), file)
        first = sorted(runs.iterdir())[0]
        if (first / ENVIRONMENT).exists() and not (out / ENVIRONMENT).exists():
            shutil.copyfile(first / ENVIRONMENT, out / ENVIRONMENT)
    return read_side(file, name)


def _divisions(records: pd.DataFrame) -> Iterator[tuple[Side, Side]]:
    """Every way to divide the processes into two sides as large; first the way they were measured."""
    runs = records.groupby("of", sort=False)["run_id"].unique()
    everyone = [run for side in SIDES for run in runs[side]]
    half = len(everyone) // 2
    for chosen in itertools.combinations(everyone, half):
        if everyone[0] not in chosen:
            break  # from here on they are those before, the sides exchanged
        ours = records["run_id"].isin(chosen)
        parts = [records[mask].assign(process=lambda r: r["run_id"].map(everyone.index)) for mask in (ours, ~ours)]
        label = [" and ".join(str(everyone.index(run) + 1) for run in part["run_id"].unique()) for part in parts]
        yield Side(label[0], parts[0]), Side(label[1], parts[1])


def _same(comparison: Comparison) -> dict[str, Any]:
    cells = comparison.cells
    return {
        "sides": f"{comparison.base} against {comparison.head}",
        "cells": len(cells),
        **comparison.counts,
        "beyond_3_percent": int((cells["change"].abs() > 0.03).sum()),
        "median_spread": float(cells["spread"].median()),
        "exit_code": comparison.exit_code,
    }


def _planted(comparison: Comparison, base: Side, percent: int) -> dict[str, Any]:
    """In how many cells the slowdown was found, of all and of those whose noise allows it.

    Noise allows it where one process of the baseline spreads by at most a quarter of what the slowdown exceeds the
    threshold by. The baseline's spread is looked at alone, so that what was found has no say in it.
    """
    alone = compare_sides(base, Side("itself", base.records)).cells.set_index(["case", "kernel"])["spread"]
    cells = comparison.cells.join(alone.rename("own_spread"), on=["case", "kernel"])
    allowed = cells[cells["own_spread"] <= (percent / 100 - cells["threshold"]) / 4]
    found = int((allowed["verdict"] == REGRESSED).sum())
    return {
        "percent": percent,
        "work": WORK[percent],
        "cells": len(cells),
        "found": int((cells["verdict"] == REGRESSED).sum()),
        "allowed": len(allowed),
        "found_of_allowed": found,
        "share": found / len(allowed) if len(allowed) else None,
        "aim": AIMS[percent],
        "median_change": float(cells["change"].median()),
        "median_own_spread": float(cells["own_spread"].median()),
        "called_faster": int((cells["verdict"] == IMPROVED).sum()),
    }


def told(found: dict[str, Any]) -> str:
    """The summary as text."""
    lines = [
        f"same commit, processes {row['sides']}: {row['cells']} cells: {row['REGRESSED']} REGRESSED, "
        f"{row['IMPROVED']} IMPROVED, {row['SAME']} SAME, {row['INCONCLUSIVE']} INCONCLUSIVE; "
        f"{row['beyond_3_percent']} differ by more than 3 %, spread of one process {row['median_spread']:.2%}"
        for row in found["same"]
    ]
    for row in found["simulated_slowdown"]:
        lines.append(
            f"simulated: {row['percent']:2} % on these records: found in {row['found']:.0%}, false {row['false']:.1%}"
        )
    for row in found["simulated_processes"]:
        lines.append(
            f"simulated: threshold {row['threshold']:.0%}, {row['processes']:2} processes a side: SAME "
            f"{row['same']:.0%}, found: 3 % {row['found_3']:.0%}, 5 % {row['found_5']:.0%}, 10 % {row['found_10']:.0%}"
        )
    for row in found["planted"]:
        share = "none" if row["share"] is None else f"{row['share']:.0%}"
        lines.append(
            f"planted {row['percent']} % ({row['work']:g} % work, {row['median_change']:+.1%} time): found in "
            f"{row['found']} of {row['cells']} cells, in {row['found_of_allowed']} of the {row['allowed']} whose noise "
            f"allows it ({share}, aim {row['aim']:.0%})"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Measure unless told only to judge, and print the summary."""
    parser = argparse.ArgumentParser(prog="python -m sparsity_roofline.bench.evidence.gate")
    parser.add_argument("out", type=Path)
    parser.add_argument("--judge", action="store_true", help="judge what is there")
    parser.add_argument("--processes", type=int, default=2, help="on each side [2]")
    parser.add_argument("--device", choices=["cuda", "cpu"])
    given = parser.parse_args(list(arguments))
    try:
        if not given.judge:
            measure(given.out, given.processes, given.device or pick_device())
        sys.stdout.write(told(judge(given.out)) + "\n")
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
