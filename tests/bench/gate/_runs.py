"""Records of simulated processes: what a comparison is fed, with noise of known size between and inside processes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from sparsity_roofline.bench.compare import Side
from sparsity_roofline.bench.frames import typed_frame

CELLS = 200
LONG_NS = 50_000.0


def side(
    label: str = "base",
    *,
    seed: int = 0,
    cells: int = CELLS,
    processes: int = 5,
    spread: float = 0.004,
    inside: float = 0.001,
    slower: Any = 0.0,
    time_ns: Any = LONG_NS,
    clock: Any = 1980.0,
    jumps: Any = 0.0,
    first: int = 0,
    **more: Any,
) -> Side:
    """One side.

    Args:
        spread: standard deviation of log time between processes.
        inside: standard error of a median inside a process.
        slower: share by which a cell is slower; one figure, or one for each cell.
        clock: MHz, one figure or one for each process.
        jumps: size of the second mode that a process falls into with probability 1/2, a share; for each cell.
        first: number of the first process.
    """
    rng = np.random.default_rng(seed)
    columns: dict[str, list[Any]] = {name: [] for name in ("process",)}
    rows: list[dict[str, Any]] = []
    clocks = np.broadcast_to(clock, processes)
    base = np.broadcast_to(time_ns, cells)
    for process in range(processes):
        modes = np.broadcast_to(jumps, cells) * rng.integers(0, 2, cells)
        log = np.log(base) + np.log1p(slower) + np.log1p(modes) + rng.normal(0, spread, cells)
        median = np.exp(log + rng.normal(0, inside, cells))
        for cell in range(cells):
            rows.append(
                {
                    "status": "ok", "case": f"c|m{cell}|64x64x8", "kernel": "csr.fake", "matrix": f"net/m{cell}",
                    "M": 64, "K": 64, "N": 8, "dtype": "fp16", "format": "csr", "pattern": "unstructured",
                    "run_id": f"{label}{first + process}", "device": "Fake GPU", "timer": "cupti-kineto",
                    "regime_l2": "cold-clean", "regime_clocks": "as-found", "time_ns": median[cell],
                    "time_ci_low_ns": median[cell] * (1 - 1.96 * inside),
                    "time_ci_high_ns": median[cell] * (1 + 1.96 * inside),
                    "sm_clock_mhz": float(clocks[process]), "clock_state": "steady", **more,
                }
            )  # fmt: skip
            columns["process"].append(first + process)
    names = {name for row in rows for name in row}
    frame = typed_frame({name: [row.get(name) for row in rows] for name in names}, len(rows))
    return Side(label, frame.assign(**columns))


def both(*sides: Side) -> Side:
    """Processes of several simulated looks as one side."""
    return Side(sides[0].label, pd.concat([s.records for s in sides], ignore_index=True))
