"""Is the gate right? The same commit against itself, and slowdowns of known size.

    python -m sparsity_roofline.bench.evidence.gate OUT [--part same] [--part planted] [--processes 3]
    python -m sparsity_roofline.bench.evidence.gate OUT --judge

- same: three sides of one commit, in fresh processes in turn; each is compared with each other, in one look. Every
  REGRESSED or IMPROVED is a false one, and no second look takes it back.
- planted: ``dense.slowed`` does more work by design, one arm for each percentage, and each is compared with the arm
  that does none; what is not SAME is measured again. A percentage more work is a little less than that of time, so that
  a little more is planted than is to be found; the table tells both.

Both go the way that ``compare --worktree`` goes. On a GPU every kernel is first compiled by processes side by side
whose times are thrown away. OUT gets the records of every process (one Parquet file a side, a run id for each process),
the comparisons as JSON, the log, and ``gate.json`` with the summary; ``--judge`` makes comparisons and summary again
from the records.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from sparsity_roofline.bench.compare import IMPROVED, REGRESSED, Comparison, Rule, compare_sides, read_side
from sparsity_roofline.bench.compare_live import Arm, Cells, Process, Request, compare_arms, measure_arms
from sparsity_roofline.bench.compare_reports import to_json
from sparsity_roofline.bench.environment import pick_device
from sparsity_roofline.bench.evidence.slowed import VARIABLE
from sparsity_roofline.bench.folder import ENVIRONMENT, PARQUET, read_json, write_json
from sparsity_roofline.bench.only import write_cells
from sparsity_roofline.bench.plan import make_plan
from sparsity_roofline.bench.store import read_records, write_records
from sparsity_roofline.bench.suites.load import parse_suite
from sparsity_roofline.bench.timing.gpu import SETTLE
from sparsity_roofline.kernels.protocol import Device
from sparsity_roofline.kernels.registry import load_kernels
from sparsity_roofline.model.errors import UserError

PLANTED = {3: "3.5", 5: "5.5", 10: "11"}
"""What is to be found, in percent of time -> what is planted, in percent of work."""
AIMS = {3: 0.5, 5: 0.95, 10: 1.0}
"""Share of the cells, noise permitting, in which a slowdown of so many percent must be found."""
SIDES = ("one", "two", "three")
KERNEL = {"cuda": "dense.slowed", "cpu": "csr.slowed"}
SLOWED = "sparsity_roofline.bench.evidence.slowed"

SUITES = {
    # Short and middling kernels of three formats, ours and the vendor's.
    ("same", "cuda"): """
name = "same"
devices = ["cuda"]
dtypes = ["fp16", "fp32"]
[timing]
minimum = 20
maximum = 40
seconds = 0.2
[[entries]]
collection = "shapes:512x512,1024x512,512x2048"
prune = ["unstructured"]
sparsities = [0.7, 0.9]
columns = [64, 256, 1024, 4096]
kernels = ["csr.triton", "csr.cusparse"]
dense = ["dense.cublas"]
[[entries]]
collection = "shapes:512x512,1024x512,512x2048"
prune = ["block32x32", "block64x64"]
sparsities = [0.9]
columns = [64, 256, 1024, 4096]
kernels = ["bsr.triton", "bsr.cusparse"]
dense = ["dense.cublas"]
""",
    # K is 200 steps of the dense kernel's K loop: every percentage is whole steps.
    ("planted", "cuda"): """
name = "planted"
devices = ["cuda"]
dtypes = ["fp16", "fp32"]
[timing]
minimum = 20
maximum = 40
seconds = 0.2
[[entries]]
collection = "shapes:512x6400,1024x6400,2048x6400"
prune = ["unstructured"]
sparsities = [0.9]
columns = [128, 256, 512, 1024]
kernels = ["csr.slowed"]
dense = ["dense.slowed"]
""",
    ("same", "cpu"): """
name = "same"
devices = ["cpu"]
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
    ("planted", "cpu"): """
name = "planted"
devices = ["cpu"]
[timing]
minimum = 10
maximum = 10
seconds = 0.1
[[entries]]
collection = "shapes:256x512"
prune = ["unstructured"]
sparsities = [0.9]
columns = [16, 32]
kernels = ["csr.slowed"]
dense = ["dense.torch"]
""",
}


LOOKS = {"same": 1, "planted": 2}
WALLS = "walls.json"


class Log:
    """What was done, with the second it began, on stderr and in a list."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._start

    def __call__(self, text: str) -> None:
        self.lines.append(f"{self.seconds:7.2f} s  {text}")
        sys.stderr.write(self.lines[-1] + "\n")


def measure(out: Path, parts: Sequence[str], processes: int, device: Device) -> None:
    """Measure and keep the records in ``out``; what was finished is kept whatever happens.

    Raises:
        UserError: a process measured nothing.
    """
    log = Log()
    out.mkdir(parents=True, exist_ok=True)
    walls: dict[str, float] = read_json(out / WALLS)["seconds"] if (out / WALLS).exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        for part in parts:
            began, runs = log.seconds, Path(folder) / part
            suite = Path(folder) / f"{part}.toml"
            suite.write_text(SUITES[part, device], encoding="utf-8")
            arguments = ("--suite", str(suite), "--device", device)
            if part == "planted":
                arguments += ("--kernel", SLOWED)
            jobs = make_plan(
                parse_suite(suite.read_text(encoding="utf-8"), part),
                kernels=load_kernels([SLOWED] if part == "planted" else []),
                device=device,
            ).jobs
            cells = [job.key for job in jobs if part == "same" or job.kernel == KERNEL[device]]
            request = Request(arguments, processes, LOOKS[part], ahead=device == "cuda")
            log(f"{part}: {len(cells)} cells")
            try:
                if device == "cuda":
                    _compile(Path(folder) / "compiled", arguments, cells)
                    log("compiled")
                if part == "same":
                    measure_arms([Arm(name) for name in SIDES], runs, request, cells=cells, say=log)
                else:
                    arms = [Arm(f"slowed-{percent}", environment={VARIABLE: work}) for percent, work in PLANTED.items()]
                    base = Arm("base", environment={VARIABLE: "0"})
                    compare_arms(base, arms, runs, request, cells=cells, say=log)
            finally:
                walls[part] = round(log.seconds - began, 1)
                _keep(runs, out / part, out)
                write_json(out / WALLS, {"seconds": walls, "processes": processes, "device": device})
                log("kept")
                (out / f"log-{part}.txt").write_text("\n".join(log.lines) + "\n", encoding="utf-8")


def _compile(folder: Path, arguments: Sequence[str], cells: Cells) -> None:
    """One process for each kernel, all at once: compilers leave their work on disk, times are worth nothing."""
    folder.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        started = []
        for kernel in dict.fromkeys(kernel for _, kernel in cells):
            named = folder / f"{kernel}.json"
            write_cells([cell for cell in cells if cell[1] == kernel], named)
            more = [*arguments, "--cells", str(named)]
            started.append(Process(Arm("compile"), folder / kernel, more, {SETTLE: "0"}))
            stack.callback(started[-1].close)
        for process in started:
            process.release()
        for process in started:
            process.wait()


def _keep(runs: Path, target: Path, out: Path) -> None:
    """One file of records for each arm; the environment once."""
    target.mkdir(parents=True, exist_ok=True)
    for arm in sorted(path for path in runs.glob("*") if path.is_dir()):
        folders = sorted(path.parent for path in arm.glob(f"*/{PARQUET}"))
        if not folders:
            continue
        write_records(pd.concat([read_records(f) for f in folders], ignore_index=True), target / f"{arm.name}.parquet")
        if not (out / ENVIRONMENT).exists():
            shutil.copyfile(folders[0] / ENVIRONMENT, out / ENVIRONMENT)


def judge(out: Path) -> dict[str, Any]:
    """Compare what ``measure`` kept, write each comparison and ``gate.json``; its content.

    Raises:
        UserError: nothing was measured there.
    """
    found: dict[str, Any] = {**read_json(out / WALLS), "same": [], "planted": []}

    def compared(part: str, base: str, head: str) -> Comparison:
        sides = (read_side(out / part / f"{name}.parquet", name) for name in (base, head))
        comparison = compare_sides(*sides, Rule(looks=LOOKS[part]))
        (out / part / f"{base}-{head}.json").write_text(to_json(comparison), encoding="utf-8")
        return comparison

    if (out / "same").exists():
        for base, head in itertools.combinations(SIDES, 2):
            found["same"].append(_same(f"{base} and {head}", compared("same", base, head)))
    if (out / "planted").exists():
        for percent in PLANTED:
            found["planted"].append(_planted(compared("planted", "base", f"slowed-{percent}"), out, percent))
    write_json(out / "gate.json", found)
    return found


def _same(name: str, comparison: Comparison) -> dict[str, Any]:
    cells = comparison.cells
    return {
        "name": name,
        "cells": len(cells),
        **comparison.counts,
        "beyond_3_percent": int((cells["change"].abs() > 0.03).sum()),
        "median_spread": float(cells["spread"].median()),
        "exit_code": comparison.exit_code,
    }


def _planted(comparison: Comparison, out: Path, percent: int) -> dict[str, Any]:
    """In how many cells the slowdown was found, of all and of those whose noise allows it.

    Noise allows it where one process of the baseline spreads by at most half of what the slowdown exceeds the threshold
    by. The baseline's spread is looked at alone, so that what was found has no say in it.
    """
    base = [read_side(out / "planted" / "base.parquet", name) for name in ("base", "itself")]
    spread = compare_sides(*base).cells.set_index(["case", "kernel"])["spread"]
    cells = comparison.cells.join(spread.rename("own_spread"), on=["case", "kernel"])
    allowed = cells[cells["own_spread"] <= (percent / 100 - cells["threshold"]) / 2]
    found = int((allowed["verdict"] == REGRESSED).sum())
    return {
        "percent": percent,
        "work": PLANTED[percent],
        "cells": len(cells),
        "found": int((cells["verdict"] == REGRESSED).sum()),
        "allowed": len(allowed),
        "found_of_allowed": found,
        "share": found / len(allowed) if len(allowed) else None,
        "aim": AIMS[percent],
        "median_change": float(cells["change"].median()),
        "lowest_change": float(cells["change"].min()),
        "called_faster": int((cells["verdict"] == IMPROVED).sum()),
    }


def told(found: dict[str, Any]) -> str:
    """The summary as text."""
    lines = [
        f"{row['name']}: {row['cells']} cells: {row['REGRESSED']} REGRESSED, {row['IMPROVED']} IMPROVED, {row['SAME']} "
        f"SAME, {row['INCONCLUSIVE']} INCONCLUSIVE; {row['beyond_3_percent']} differ by more than 3 %, spread of one "
        f"process {row['median_spread']:.2%}"
        for row in found["same"]
    ]
    for row in found["planted"]:
        share = "none" if row["share"] is None else f"{row['share']:.0%}"
        lines.append(
            f"{row['percent']:2} % ({row['work']} % work, {row['median_change']:+.1%} time): found in {row['found']} "
            f"of {row['cells']} cells, in {row['found_of_allowed']} of the {row['allowed']} whose noise allows it "
            f"({share}, aim {row['aim']:.0%})"
        )
    walls = ", ".join(f"{name} {seconds:g} s" for name, seconds in found["seconds"].items())
    return "\n".join([*lines, f"wall time: {walls}, {sum(found['seconds'].values()):.0f} s in all"])


def main(arguments: Sequence[str]) -> int:
    """Measure unless told only to judge, and print the summary."""
    parser = argparse.ArgumentParser(prog="python -m sparsity_roofline.bench.evidence.gate")
    parser.add_argument("out", type=Path)
    parser.add_argument("--judge", action="store_true", help="judge the records that are there")
    parser.add_argument("--part", action="append", choices=list(LOOKS), help="same or planted [both]")
    parser.add_argument("--processes", type=int, default=3, help="a side, for each look [3]")
    parser.add_argument("--device", choices=["cuda", "cpu"])
    given = parser.parse_args(list(arguments))
    try:
        if not given.judge:
            measure(given.out, given.part or list(LOOKS), given.processes, given.device or pick_device())
        sys.stdout.write(told(judge(given.out)) + "\n")
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
