"""A kernel's time over many runs, and where it changed: a second detector, for drifts that no single comparison sees.

A store is any folder with run folders somewhere below it. Runs of one commit (processes of one comparison, say) make
one point, the geometric mean of their medians; points are in the order in which their commits were first measured. Time
is compared in one series only where device, timer, cache state and clocks were the same.

Change points are those of kernel change-point detection (Arlot, Celisse and Harchaoui 2019, by ``ruptures``) on log
time: a Gaussian kernel three sigma wide, which an outlier does not move, and a penalty of 1.5 ln(n) for each. Sigma
comes from the median of successive differences, which a step hardly moves. A step below the threshold is not reported.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import median_abs_deviation

from sparsity_roofline.bench import folder as _folder
from sparsity_roofline.bench.store import read_records
from sparsity_roofline.model.errors import UserError

LEAST_POINTS = 4
LEAST_SIGMA = 0.002
"""Noise is never taken to be below this share."""
PENALTY = 1.5
WIDTH = 3.0
LIKE = ["case", "kernel", "device", "timer", "regime_l2", "regime_clocks"]


@dataclass(frozen=True)
class Step:
    """A change of level.

    Attributes:
        at: position of the first point after it.
        commit: of that point.
        change: level after over level before, less 1.
    """

    at: int
    commit: str
    change: float


@dataclass(frozen=True)
class Series:
    """One cell over commits.

    Attributes:
        kernel, case, name: what it is; ``name`` is short.
        commits, dates: of the points, in order; a run without a commit is named by its date.
        us: time at each point.
        runs: how many runs each point is made of.
        steps: changes of level.
    """

    kernel: str
    case: str
    name: str
    commits: list[str]
    dates: list[str]
    us: npt.NDArray[np.float64]
    runs: list[int]
    steps: list[Step]


def history(
    store: str | os.PathLike[str], *, kernels: tuple[str, ...] = (), match: str = "*", threshold: float = 0.02
) -> list[Series]:
    """Every series of a store with its change points, those with the largest slowdown first.

    Args:
        kernels: globs of kernel names; all without any.
        match: glob of case keys.
        threshold: smallest step to report, a share.

    Raises:
        UserError: no runs there, nothing matches, or ``ruptures`` is missing (exit code 6).
    """
    records = _records(Path(store))
    chosen = [
        (not kernels or any(fnmatchcase(kernel, glob) for glob in kernels)) and fnmatchcase(case, match)
        for kernel, case in zip(records["kernel"], records["case"], strict=True)
    ]
    records = records[np.array(chosen, dtype=bool)]
    if records.empty:
        raise UserError(f"no timed record in {store} matches kernel {' or '.join(kernels) or '*'} and case {match}")
    order = records.groupby("commit")["started"].min().sort_values(kind="stable")
    place = {commit: number for number, commit in enumerate(order.index)}
    out = [_series(key, group, place, threshold) for key, group in records.groupby(LIKE, sort=False, dropna=False)]
    return sorted(out, key=lambda s: -max((step.change for step in s.steps), default=-1.0))


def _records(store: Path) -> pd.DataFrame:
    frames = []
    for run in _runs(store):
        records = read_records(run)
        ok = records[records["status"] == "ok"]
        started = str(_folder.read_json(run / _folder.RUN).get("started") or ok["recorded_at"].min())
        frames.append(ok.assign(started=started, commit=_commit(run) or started))
    if not frames:
        raise UserError(f"{store} holds no runs: give a folder with run folders in it")
    return pd.concat(frames, ignore_index=True)


def _runs(store: Path) -> Iterator[Path]:
    if not store.is_dir():
        raise UserError(f"there is no folder {store}")
    for meta in sorted(store.rglob(_folder.RUN)):
        if any((meta.parent / name).exists() for name in (_folder.RECORDS, _folder.PARQUET)):
            yield meta.parent


def _commit(run: Path) -> str:
    """Twelve digits, with a mark for changes that were not committed; "" where the run does not say."""
    file = run / _folder.ENVIRONMENT
    if not file.exists():
        return ""
    source = _folder.read_json(file).get("source", {})
    commit = str(source.get("commit", ""))
    if len(commit) < 7 or commit in ("not_supported", "no_library", "no_permission"):
        return ""
    return commit[:12] + ("+" if source.get("dirty") is True else "")


def _series(key: Any, group: pd.DataFrame, place: dict[str, int], threshold: float) -> Series:
    points = group.assign(log=np.log(group["time_ns"] / 1e3), place=group["commit"].map(place)).groupby("place")
    log = points["log"].mean()
    first = group.iloc[0]
    commits = [str(c) for c in points["commit"].first()]
    name = f"{first['dtype']} {first['M']}x{first['K']}x{first['N']} {str(first['matrix']).rpartition('/')[2]}"
    values = log.to_numpy(np.float64)
    return Series(
        kernel=key[1], case=key[0], name=name, commits=commits, dates=[str(d) for d in points["started"].min()],
        us=np.exp(values), runs=[int(n) for n in points.size()], steps=steps(values, commits, threshold),
    )  # fmt: skip


def steps(log: npt.NDArray[np.float64], commits: list[str], threshold: float) -> list[Step]:
    """Changes of level in a series of log times.

    Raises:
        UserError: ``ruptures`` is not installed; exit code 6.
    """
    try:
        import ruptures
    except ImportError:
        raise UserError("history needs ruptures: pip install 'sparsity-roofline[history]'", 6) from None
    if len(log) < LEAST_POINTS:
        return []
    sigma = max(float(median_abs_deviation(np.diff(log), scale="normal")) / np.sqrt(2), LEAST_SIGMA)
    found = ruptures.KernelCPD(kernel="rbf", params={"gamma": 1 / (2 * (WIDTH * sigma) ** 2)}, min_size=2)
    ends = found.fit(log[:, None]).predict(pen=PENALTY * np.log(len(log)))
    levels = [float(np.median(log[a:b])) for a, b in zip([0, *ends[:-1]], ends, strict=True)]
    changes = np.expm1(np.diff(levels))
    return [
        Step(int(at), commits[at], float(change))
        for at, change in zip(ends[:-1], changes, strict=True)
        if abs(change) > threshold
    ]


def to_frame(series: list[Series]) -> pd.DataFrame:
    """One row per series: kernel, case, points, first_us, last_us, change (last over first - 1), steps in words."""
    rows = [
        {
            "kernel": s.kernel,
            "case": s.name,
            "points": len(s.us),
            "first_us": float(s.us[0]),
            "last_us": float(s.us[-1]),
            "change": float(s.us[-1] / s.us[0] - 1),
            "steps": ", ".join(f"{step.change:+.1%} at {step.commit}" for step in s.steps),
        }
        for s in series
    ]
    return pd.DataFrame(rows, columns=["kernel", "case", "points", "first_us", "last_us", "change", "steps"])
