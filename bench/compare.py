"""Two sides, each measured in some fresh processes: a verdict for every cell, a (case, kernel) that both have.

``compare_stats`` has the rule. Here the records become its input, and what it says becomes a table.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sparsity_roofline.bench.compare_read import Side, differences, read_side, require_alike
from sparsity_roofline.bench.compare_stats import (
    GRID_NS,
    IMPROVED,
    INCONCLUSIVE,
    LEAST_PROCESSES,
    REGRESSED,
    SAME,
    VERDICTS,
    Floats,
    Rule,
    Sides,
    judge,
)
from sparsity_roofline.model.errors import UserError

__all__ = [
    "IMPROVED", "INCONCLUSIVE", "REGRESSED", "SAME", "VERDICTS", "Comparison", "Rule", "Side", "compare",
    "compare_sides", "read_side",
]  # fmt: skip

KEY = ["case", "kernel"]
LABELS = ["matrix", "M", "K", "N", "dtype", "format", "pattern"]
SE_PER_INTERVAL = 2 * 1.959964
"""A 95 % interval is so many standard errors wide."""


@dataclass(frozen=True)
class Comparison:
    """What came out.

    Attributes:
        cells: one row per cell, the worst first: case, kernel, labels; ``base_us``, ``head_us`` (geometric mean of the
            processes' medians); ``change``, ``low``, ``high`` (head over base - 1, and the interval); ``cycles``
            (change in clock cycles, NaN where no clock was read); ``spread`` (standard deviation of one process, as a
            share); ``threshold`` (share); ``base_processes``, ``head_processes``; ``clock_moved``; ``verdict``;
            ``reason``.
        lost: cells that ``base`` timed and ``head`` could not: case, kernel, labels, status, reason.
        base, head: labels of the sides.
        rule: by which it was judged.
        notes: what a reader must know.
    """

    cells: pd.DataFrame
    lost: pd.DataFrame
    base: str
    head: str
    rule: Rule
    notes: list[str] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        """Cells by verdict."""
        return {verdict: int((self.cells["verdict"] == verdict).sum()) for verdict in VERDICTS}

    @property
    def open(self) -> pd.DataFrame:
        """Inconclusive cells that may hide a regression: their interval reaches beyond the threshold."""
        cells = self.cells
        moved = cells["clock_moved"].astype(bool)
        return cells[(cells["verdict"] == INCONCLUSIVE) & ((cells["high"] > cells["threshold"]) | moved)]

    @property
    def exit_code(self) -> int:
        """3 a result that became wrong; 4 an invalid environment; 1 a regression, or a kernel that no longer runs; 5
        a cell that may hide a regression; else 0."""
        statuses = set(self.lost["status"])
        if "incorrect" in statuses:
            return 3
        if "invalid_environment" in statuses:
            return 4
        if self.counts[REGRESSED] or statuses:
            return 1
        return 5 if len(self.open) else 0


def compare(base: str | os.PathLike[str], head: str | os.PathLike[str], rule: Rule | None = None) -> Comparison:
    """Compare runs on disk: run folders, folders of run folders (one a process), or files of records.

    Raises:
        UserError: not records; exit code 4 where the two were not measured alike; nothing in common.
    """
    names = [Path(base).name, Path(head).name]
    labels = names if names[0] != names[1] else [str(base), str(head)]
    return compare_sides(read_side(base, labels[0]), read_side(head, labels[1]), rule)


def compare_sides(base: Side, head: Side, rule: Rule | None = None) -> Comparison:
    """``compare`` for sides in memory.

    Raises:
        UserError: see ``compare``.
    """
    rule = rule or Rule()
    require_alike(base, head)
    both = _per_cell(base.records).merge(
        _per_cell(head.records), left_index=True, right_index=True, suffixes=("_base", "_head")
    )
    lost = _lost(base.records, head.records)
    if both.empty and lost.empty:
        raise UserError(f"{base.label} and {head.label} have no (case, kernel) with a time in common")
    cells = _judged(both, rule) if len(both) else pd.DataFrame(columns=[*KEY, *_COLUMNS])
    labels = pd.concat([base.records, head.records]).drop_duplicates(KEY)[[*KEY, *LABELS]]
    order = {verdict: place for place, verdict in enumerate((REGRESSED, INCONCLUSIVE, IMPROVED, SAME))}
    cells = cells.merge(labels, on=KEY, how="left")[[*KEY, *LABELS, *_COLUMNS]]
    cells = cells.sort_values(
        ["verdict", "change"], key=lambda c: c.map(order) if c.name == "verdict" else -c, kind="stable"
    ).reset_index(drop=True)
    lost = (
        lost.merge(labels, on=KEY, how="left")
        if len(lost)
        else lost.reindex(columns=[*KEY, "status", "reason", *LABELS])
    )
    return Comparison(cells, lost, base.label, head.label, rule, _notes(base, head, len(both)))


_COLUMNS = [
    "base_us", "head_us", "change", "low", "high", "cycles", "spread", "threshold", "base_processes", "head_processes",
    "clock_moved", "verdict", "reason",
]  # fmt: skip


def _per_cell(records: pd.DataFrame) -> pd.DataFrame:
    """Mean, variance and count of log medians over processes, in time and in cycles, by (case, kernel)."""
    ok = records[records["status"] == "ok"]
    time = ok["time_ns"].to_numpy(np.float64)
    inside = np.log((ok["time_ci_high_ns"] / ok["time_ci_low_ns"]).to_numpy(np.float64)) / SE_PER_INTERVAL
    clock = ok["sm_clock_mhz"].to_numpy(np.float64)
    rows = pd.DataFrame(
        {
            "case": ok["case"].to_numpy(),
            "kernel": ok["kernel"].to_numpy(),
            "y": np.log(time),
            "c": np.log(time * np.where(clock > 0, clock, np.nan)),
            "clock": clock,
            "floor": np.maximum(inside**2, (GRID_NS / time) ** 2 / 12),
            "grid": (GRID_NS / time) ** 2 / 12,
            "throttled": ok["clock_state"].to_numpy() == "throttled",
        }
    )
    groups = rows.groupby(KEY, sort=False)
    out = groups.agg(
        n=("y", "size"), y=("y", "mean"), y_var=("y", "var"), c=("c", "mean"), c_var=("c", "var"), c_n=("c", "count"),
        floor=("floor", "mean"), grid=("grid", "mean"), clock_low=("clock", "min"), clock_high=("clock", "max"),
        throttled=("throttled", "any"),
    )  # fmt: skip
    out = out.fillna({"y_var": 0.0, "c_var": 0.0})
    out["c_var"] = out["c_var"].where(out["c_n"] == out["n"], out["y_var"])  # no clock: as if it had kept still
    return out


def _sides(both: pd.DataFrame, unit: str) -> Sides:
    def column(name: str) -> Floats:
        return both[name].to_numpy(np.float64)

    return Sides(
        column(f"{unit}_base"), column(f"{unit}_head"), column(f"{unit}_var_base"), column(f"{unit}_var_head"),
        both["n_base"].to_numpy(np.int64), both["n_head"].to_numpy(np.int64),
        (column("floor_base") + column("floor_head")) / 2, (column("grid_base") + column("grid_head")) / 2,
    ).with_prior()  # fmt: skip


def _judged(both: pd.DataFrame, rule: Rule) -> pd.DataFrame:
    time = _sides(both, "y")
    margin = rule.margin(np.exp(time.base))
    verdict = judge(time, margin, rule.alpha)
    low, high = time.interval(1 - rule.alpha)
    reason = np.array([""] * len(both), dtype=object)
    few = ~time.judged
    reason[few] = f"fewer than {LEAST_PROCESSES} processes on a side: the spread between processes is not known"
    wide = (verdict == INCONCLUSIVE) & ~few
    reason[wide] = "the interval reaches over the threshold"
    reason[wide & ((low > margin) | (high < -margin))] = "beyond the threshold, but not once corrected for all cells"

    known = (both["c_n_base"] == both["n_base"]).to_numpy() & (both["c_n_head"] == both["n_head"]).to_numpy()
    cycles = _sides(both, "c")
    moved = known & _moved(both, rule)
    if moved.any():
        in_cycles = np.full(len(both), "", dtype="<U12")
        in_cycles[moved] = judge(_part(cycles, moved), margin[moved], rule.alpha)
        unlike = moved & (verdict != INCONCLUSIVE) & (in_cycles != verdict)
        for place in np.flatnonzero(unlike):
            reason[place] = (
                f"the clock moved: {verdict[place]} in time, {in_cycles[place]} in cycles "
                f"({np.expm1(cycles.ratio[place]):+.1%})"
            )
        verdict[unlike] = INCONCLUSIVE
    out = both.index.to_frame(index=False)
    out["base_us"], out["head_us"] = np.exp(time.base) / 1e3, np.exp(time.head) / 1e3
    out["change"], out["low"], out["high"] = np.expm1(time.ratio), np.expm1(low), np.expm1(high)
    out["cycles"] = np.where(known, np.expm1(cycles.ratio), np.nan)
    out["spread"] = np.where(few, np.nan, np.expm1(time.spread))
    out["threshold"] = np.expm1(margin)
    out["base_processes"], out["head_processes"] = time.base_n, time.head_n
    out["clock_moved"], out["verdict"], out["reason"] = moved, verdict, reason
    return out


def _moved(both: pd.DataFrame, rule: Rule) -> Any:
    """Did the clock differ between any two processes of a cell, or was one of them throttled?"""
    low = both[["clock_low_base", "clock_low_head"]].min(axis=1).to_numpy(np.float64)
    high = both[["clock_high_base", "clock_high_head"]].max(axis=1).to_numpy(np.float64)
    throttled = (both["throttled_base"] | both["throttled_head"]).to_numpy(bool)
    return (high > low * (1 + rule.clock_share)) | throttled


def _part(sides: Sides, mask: Any) -> Sides:
    return Sides(**{name: value if name == "prior" else value[mask] for name, value in vars(sides).items()})


def _lost(base: pd.DataFrame, head: pd.DataFrame) -> pd.DataFrame:
    """Cells timed in base that head tried and never timed; what head did not plan is no loss."""
    timed = base[base["status"] == "ok"][KEY].drop_duplicates()
    ok = head[head["status"] == "ok"][KEY].drop_duplicates().assign(timed=True)
    tried = head[~head["status"].isin(["ok", "unsupported"])].drop_duplicates(KEY)[[*KEY, "status", "reason"]]
    found = timed.merge(tried, on=KEY).merge(ok, on=KEY, how="left")
    return found[found["timed"].isna()].drop(columns="timed").reset_index(drop=True)


def _notes(base: Side, head: Side, cells: int) -> list[str]:
    notes = differences(base, head)
    for one, other in ((base, head), (head, base)):
        mine, theirs = (set(map(tuple, s.records[s.records["status"] == "ok"][KEY].to_numpy())) for s in (one, other))
        if mine - theirs:
            notes.append(f"{len(mine - theirs)} cells have a time in {one.label} only")
    if cells and min(base.processes, head.processes) < LEAST_PROCESSES:
        notes.append(
            "one process a side shows no change: measure each side in several fresh processes (--worktree does)"
        )
    return notes
