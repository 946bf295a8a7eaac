"""What the gate would find, simulated on records of a commit against itself: nothing here was measured slow."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from sparsity_roofline.bench.compare import REGRESSED, SAME, Rule, Side, compare_sides
from sparsity_roofline.bench.compare_stats import Sides, judge

SIMULATED = (2, 3, 4, 5, 6, 8, 10, 15)
"""Percent, multiplied onto records."""
FOUND = (3, 5, 10)
"""Percent, of drawn cells."""
TIMES = ["time_ns", "time_ci_low_ns", "time_ci_high_ns"]


def simulated_slowdown(pairs: Iterable[tuple[Side, Side]]) -> list[dict[str, Any]]:
    """Share of the cells called REGRESSED, over all pairs of sides, once the times of the second are multiplied.

    Every other cell is multiplied: what is called REGRESSED among the rest is false.
    """
    both = list(pairs)
    out = []
    for percent in SIMULATED:
        slowed: list[str] = []
        left: list[str] = []
        for base, head in both:
            chosen = sorted(set(head.records["case"] + head.records["kernel"]))[::2]
            changed = head.records.reset_index(drop=True)
            hit = (changed["case"] + changed["kernel"]).isin(chosen)
            changed.loc[hit, TIMES] *= 1 + percent / 100
            cells = compare_sides(base, Side(head.label, changed)).cells
            mask = (cells["case"] + cells["kernel"]).isin(chosen)
            slowed += list(cells.loc[mask, "verdict"])
            left += list(cells.loc[~mask, "verdict"])
        found, false = slowed.count(REGRESSED) / len(slowed), left.count(REGRESSED) / max(len(left), 1)
        out.append({"percent": percent, "found": found, "false": false})
    return out


def simulated_processes(records: pd.DataFrame, cells: int = 2000) -> list[dict[str, Any]]:
    """For numbers of processes a side: share of unchanged cells called SAME, and of slower ones called REGRESSED.

    Cells are drawn from the distribution of spreads that was fitted to the records (``compare_stats``), without
    samples: log medians are normal around the cell's level, and no cell is short.
    """
    rng = np.random.default_rng(0)
    d0, s0 = fitted(records)
    sigma = np.sqrt(s0 * d0 / rng.chisquare(d0, cells))
    slower = np.where(np.arange(cells) % 2 == 0, 0.0, 1.0)
    out = []
    for threshold in (0.02, 0.03):
        for processes in (2, 3, 5, 10):
            row: dict[str, Any] = {"threshold": threshold, "processes": processes}
            for percent in FOUND:
                y = [rng.normal(0.0, sigma[:, None], (cells, processes)) for _ in range(2)]
                y[1] += np.log1p(percent / 100) * slower[:, None]
                n, zero = np.full(cells, processes), np.zeros(cells)
                sides = Sides(y[0].mean(1), y[1].mean(1), y[0].var(1, ddof=1), y[1].var(1, ddof=1), n, n, zero, zero)
                verdicts = judge(sides.with_prior(), np.full(cells, np.log1p(threshold)), Rule().alpha)
                row[f"found_{percent}"] = float((verdicts[slower == 1] == REGRESSED).mean())
                row["same"] = float((verdicts[slower == 0] == SAME).mean())
            out.append(row)
    return out


def fitted(records: pd.DataFrame) -> tuple[float, float]:
    """Degrees of freedom and scale of the variances between processes, over all processes."""
    log = np.log(records.pivot_table(index=["case", "kernel"], columns="run_id", values="time_ns").dropna())
    n = np.full(len(log), log.shape[1])
    none = np.zeros(len(log))
    variance = log.var(axis=1, ddof=1).to_numpy(np.float64)
    return Sides(none, none, variance, variance, n, n, none, none).with_prior().prior
