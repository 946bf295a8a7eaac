"""How often a slowdown of known size is seen: ``python -m sparsity_roofline.bench.evidence.planted OUT.csv``.

The kernels of ``slowed`` do 0, 2, 5 and 10 % more work. Processes run one after the other; each measures every cell
under every percentage as a run does, check included, in an order that changes from process to process. Three questions
are then asked of a slowed and a baseline measurement that come from different processes, and of two baselines, where
every yes is a false alarm:

- intervals: do the recorded 95 % intervals of the two medians lie apart?
- and 1 %: and do the medians differ by more than 1 %?
- two a side: are the slowed medians of two processes more than 1 % above the baselines of two others?

``--judge OUT.csv`` asks them again of a table that is there. Needs an NVIDIA GPU.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sparsity_roofline.bench.evidence import slowed
from sparsity_roofline.bench.inputs import dense_name, dense_weight, derived_seed
from sparsity_roofline.model.case import Case, Format
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.matrix import Matrix

PERCENTS = (0, 2, 5, 10)
AHEAD = 2  # processes that wait with everything imported, without a context on the device
SPARSITY = 0.9
PRACTICAL = 0.01
LONG_NS = 20e3

Shape = tuple[int, int, int]
CELLS: tuple[tuple[str, str, Shape], ...] = (
    # K is 100 or 200 steps of the K loop: every percentage is whole steps.
    *(("dense.slowed", "fp16", (1024, 3200, N)) for N in (256, 1024, 4096)),
    *(("dense.slowed", "fp16", (2048, 6400, N)) for N in (64, 256, 1024, 2048)),
    *(("dense.slowed", "fp32", (512, 3200, N)) for N in (128, 512)),
    *(("dense.slowed", "fp32", (1024, 3200, N)) for N in (64, 256, 512)),
    *(("csr.slowed", dtype, (1024, 2048, N)) for dtype in ("fp16", "fp32") for N in (128, 256, 1024)),
    *(("csr.slowed", dtype, (2048, 2048, N)) for dtype in ("fp16", "fp32") for N in (64, 128, 256, 512, 1024, 2048)),
    *(("csr.slowed", dtype, (512, 4608, N)) for dtype in ("fp16", "fp32") for N in (196, 784, 1568)),
)


@cache
def weight(name: str) -> Matrix:
    """``dense/MxK``, or ``MxK`` for an unstructured mask of it; seeded."""
    M, K = (int(n) for n in name.removeprefix("dense/").split("x"))
    dense = dense_weight(M, K, 0)
    if name.startswith("dense/"):
        return dense
    mask = np.random.default_rng(derived_seed("planted", M, K)).random((M, K)) >= SPARSITY
    return Matrix.from_dense(name, dense.dense_operand(), mask, synthetic=True)


def cases() -> list[tuple[str, Case]]:
    """(kernel, case) of every cell."""
    out = []
    for kernel, dtype, (M, K, N) in CELLS:
        form: Format = "dense" if kernel.startswith("dense") else "csr"
        matrix = weight(dense_name(M, K) if form == "dense" else f"{M}x{K}")
        out.append((kernel, Case.of(matrix, N, dtype, form, collection="planted")))
    return out


def measured(order: Sequence[int]) -> list[dict[str, Any]]:
    """One row per cell and percentage, measured in this process.

    Raises:
        UserError: no GPU, or no timer.
    """
    from sparsity_roofline.bench.environment import device_name
    from sparsity_roofline.bench.measure import Bench
    from sparsity_roofline.bench.rows import Evidence
    from sparsity_roofline.bench.timing.kineto import KinetoTimer
    from sparsity_roofline.bench.timing.protocol import Stopping

    timer = KinetoTimer(settle_seconds=0.0)  # the device is taken over from a process that has just kept it busy
    support = timer.available()
    if not support:
        raise UserError(f"{timer.name}: {support.reason}", 6)
    evidence = Evidence("planted", "cuda", device_name("cuda"), "")
    kernels = {kernel.name: kernel for kernel in slowed.KERNELS}
    stopping = Stopping(minimum=20, maximum=100, seconds=0.4)  # as the suite main has it
    bench = Bench(kernels, lambda _, name: weight(name), evidence, timer, stopping=stopping)
    out = []
    for kernel, case in cases():
        for percent in order:
            os.environ[slowed.VARIABLE] = str(percent)
            record = bench.run(case, kernel, 0)
            if record.status != "ok":
                raise UserError(f"{kernel} on {case.key}: {record.status}: {record.reason}", 3)
            out.append(
                {
                    "kernel": kernel,
                    "case": record.case,
                    "percent": percent,
                    "work_ratio": json.loads(record.kernel_config)["work_ratio"],
                    "time_ns": record.time_ns,
                    "low_ns": record.time_ci_low_ns,
                    "high_ns": record.time_ci_high_ns,
                    "samples": record.samples,
                    "sm_clock_mhz": record.sm_clock_mhz,
                    "clock_state": record.clock_state,
                    "device": record.device,
                    "wall_ms": json.loads(record.wall_ns)["total"] / 1e6,
                }
            )
    return out


# -- processes


def child(turn: int) -> int:
    """Import and make the weights, say so, wait for the word, measure, print the rows."""
    import torch
    import triton  # noqa: F401

    for kernel, case in cases():
        for percent in PERCENTS if kernel.startswith("csr") else ():
            slowed.with_more_entries(weight(case.matrix), float(percent))
    torch.cuda.device_count()  # looks at the driver without a context on the device
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    if not sys.stdin.readline():
        return 0
    first = turn % len(PERCENTS)
    try:
        rows = measured([*PERCENTS[first:], *PERCENTS[:first]])
    except UserError as error:
        sys.stdout.write(json.dumps({"error": str(error), "exit_code": error.exit_code}) + "\n")
        return error.exit_code
    sys.stdout.write(json.dumps(rows) + "\n")
    sys.stdout.flush()
    os._exit(0)  # without the libraries' slow farewell


def processes(seconds: float) -> pd.DataFrame:
    """Rows of as many processes as fit into ``seconds``, two at least.

    Raises:
        UserError: what a process said, or that it died.
    """
    start, longest = time.monotonic(), 0.0
    waiting: list[subprocess.Popen[str]] = []
    tables: list[pd.DataFrame] = []
    try:
        while len(tables) < 2 or time.monotonic() - start + longest <= seconds:
            while len(waiting) <= AHEAD:
                waiting.append(_start(len(tables) + len(waiting)))
            process = waiting.pop(0)
            began = time.monotonic()
            try:
                rows = _rows(process)
            finally:
                _end(process)
            tables.append(pd.DataFrame(rows).assign(process=len(tables)))
            took = time.monotonic() - began
            sys.stderr.write(f"process {len(tables)}: {took:.1f} s\n")
            longest = max(longest, took) if len(tables) > 1 else 0.0  # the first one compiles
    finally:
        for process in waiting:
            _end(process)
    return pd.concat(tables, ignore_index=True)


def _start(turn: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", __spec__.name, "--child", str(turn)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _end(process: subprocess.Popen[str]) -> None:
    """End it and close its pipes; its context is off the device when this returns."""
    process.kill()
    process.communicate()


def _rows(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    assert process.stdin is not None
    assert process.stdout is not None
    if process.stdout.readline().strip() == "ready":
        process.stdin.write("go\n")
        process.stdin.flush()
        for line in process.stdout:
            if line.startswith(("[", "{")):
                answer = json.loads(line)
                if isinstance(answer, dict):
                    raise UserError(str(answer["error"]), int(answer["exit_code"]))
                return list(answer)
    raise UserError(f"a measuring process ended with exit code {process.wait()}", 4)


# -- judgement


@dataclass(frozen=True)
class Seen:
    """Of the cells of one size class under one planted percentage.

    Attributes:
        name: which cells.
        percent: planted; 0 is baseline against baseline.
        cells, processes: how many.
        work, time: geometric mean of the ratio of work by design, and of the ratio of device time.
        intervals, beyond: share of (cell, pair of processes) seen by the two rules.
        two: share of (cell, two processes a side) seen; NaN with fewer than four processes.
    """

    name: str
    percent: float
    cells: int
    processes: int
    work: float
    time: float
    intervals: float
    beyond: float
    two: float

    def __str__(self) -> str:
        intervals, beyond, two = ("-" if np.isnan(x) else f"{x:.1%}" for x in (self.intervals, self.beyond, self.two))
        return (
            f"{self.name:15} {self.percent:4g} % {self.cells:5} {self.processes:9} {self.work - 1:+7.2%} "
            f"{self.time - 1:+7.2%} {intervals:>10} {beyond:>9} {two:>10}"
        )


HEADING = "cells           plant cells processes    work    time  intervals   and 1 % two a side"


def judge(rows: pd.DataFrame) -> list[Seen]:
    """What was seen, by size class and percentage; baseline against baseline counts false alarms of a slowdown.

    Raises:
        UserError: no baseline, or cells that were not measured in every process.
    """
    keys = ["kernel", "case"]
    medians = rows.pivot_table(index=keys, columns=["percent", "process"], values="time_ns")
    if 0 not in rows["percent"].to_numpy() or medians.isna().any(axis=None):
        raise UserError("not a table of planted slowdowns: a baseline and every cell in every process are needed")
    lows, highs = (
        rows.pivot_table(index=keys, columns=["percent", "process"], values=c) for c in ("low_ns", "high_ns")
    )
    work = rows.groupby([*keys, "percent"])["work_ratio"].first().unstack("percent")
    base = pd.DataFrame(medians[0])
    long = (base.median(axis=1) >= LONG_NS).to_numpy()
    out = []
    for name, mask in (("20 us and more", long), ("below 20 us", ~long)):
        for percent in sorted(rows["percent"].unique()) if mask.any() else ():
            now = pd.DataFrame(medians[percent])
            pairs = [(b, s) for b in base.columns for s in now.columns if b != s]
            apart = [(lows[percent][s] > highs[0][b])[mask] for b, s in pairs]
            more = [(now[s] > base[b] * (1 + PRACTICAL))[mask] for b, s in pairs]
            slowdown = now.median(axis=1) / base.median(axis=1)
            out.append(
                Seen(
                    name,
                    float(percent),
                    int(mask.sum()),
                    now.shape[1],
                    float(np.exp(np.log(work[percent][mask]).mean())),
                    float(np.exp(np.log(slowdown[mask]).mean())),
                    float(np.mean(apart)) if apart else float("nan"),
                    float(np.mean(np.logical_and(apart, more))) if apart else float("nan"),
                    _two_a_side(base[mask], now[mask]),
                )
            )
    return out


def _two_a_side(base: pd.DataFrame, now: pd.DataFrame) -> float:
    seen = [
        now[list(after)].min(axis=1) > base[list(before)].max(axis=1) * (1 + PRACTICAL)
        for before in itertools.combinations(base.columns, 2)
        for after in itertools.combinations(now.columns, 2)
        if not set(before) & set(after)
    ]
    return float(np.mean(seen)) if seen else float("nan")


def main(arguments: list[str]) -> int:
    """Measure, write the table, print what was seen."""
    if arguments[:1] == ["--child"]:
        return child(int(arguments[1]))
    judging = arguments[:1] == ["--judge"]
    seconds = 55.0
    if len(arguments) == 3 and arguments[1] == "--seconds":
        seconds = float(arguments[2])
    elif len(arguments) != 1 + judging or arguments[-1].startswith("-"):
        sys.stderr.write(
            "usage: python -m sparsity_roofline.bench.evidence.planted OUT.csv [--seconds S] | --judge OUT.csv\n"
        )
        return 2
    path = Path(arguments[-1] if judging else arguments[0])
    try:
        rows = pd.read_csv(path) if judging else processes(seconds)
        if not judging:
            rows.to_csv(path, index=False, float_format="%.6g", lineterminator="\n")
        found = judge(rows)
    except (UserError, OSError, KeyError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code if isinstance(error, UserError) else 2
    sys.stdout.write("\n".join([HEADING, *map(str, found)]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
