"""What a user decides with a prediction: which sparsity ranks first, is sparse faster, where does it break even."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd

from sparsity_roofline.validation.errors import NAN, FloatArray

STRATUM = (
    "device", "timer", "regime_l2", "regime_clocks", "run_id", "collection", "network", "layer", "method", "M", "K",
    "N", "dtype", "pattern", "kernel",
)  # fmt: skip
"""One kernel on one layer: what stays equal while the sparsity varies."""

MINIMUM = 3
"""Points a stratum needs for a rank: two always rank perfectly, one way or the other."""


@dataclass(frozen=True)
class Ranks:
    """Rank agreement between predicted and measured speedup within strata.

    Attributes:
        strata: strata with a rank. skipped_small: with fewer than three points.
        skipped_constant: whose predictions (2:4 compute-bound: always 2) or measurements are all equal.
        spearman, kendall: means over strata; spearman_median, kendall_median: medians. kendall is tau-b.
    """

    strata: int
    skipped_small: int
    skipped_constant: int
    spearman: float
    spearman_median: float
    kendall: float
    kendall_median: float


def ranks(pairs: pd.DataFrame) -> Ranks:
    """Spearman and Kendall tau-b within (layer, N, dtype, kernel) across sparsities."""
    every_predicted, every_measured = _speedups(pairs)
    spearman, kendall, small, constant = [], [], 0, 0
    for positions in _positions(pairs):
        predicted, measured = every_predicted[positions], every_measured[positions]
        if len(positions) < MINIMUM:
            small += 1
        elif _constant(predicted) or _constant(measured):
            constant += 1
        else:
            rho, tau = _correlations(tuple(predicted.tolist()), tuple(measured.tolist()))
            spearman.append(rho)
            kendall.append(tau)
    return Ranks(len(spearman), small, constant, *_middle(spearman), *_middle(kendall))


@dataclass(frozen=True)
class Confusion:
    """Is sparse faster: the predicted against the measured answer.

    Attributes:
        both: predicted and measured faster. only_predicted: predicted faster, measured not. only_measured: the reverse.
        neither: predicted and measured not faster.
        unclear: of these, how many have an interval of the measured speedup that contains 1.
        mcc: Matthews correlation coefficient, NaN where one row or column is empty. accuracy: share of right answers.
    """

    both: int
    only_predicted: int
    only_measured: int
    neither: int
    unclear: int
    mcc: float
    accuracy: float


def confusion(pairs: pd.DataFrame) -> Confusion:
    """The confusion matrix of predicted_speedup > 1 against measured_speedup > 1."""
    predicted, measured = (v > 1.0 for v in _speedups(pairs))
    tp, fp = int((predicted & measured).sum()), int((predicted & ~measured).sum())
    fn, tn = int((~predicted & measured).sum()), int((~predicted & ~measured).sum())
    scale = float(tp + fp) * float(tp + fn) * float(tn + fp) * float(tn + fn)
    mcc = (tp * tn - fp * fn) / float(np.sqrt(scale)) if scale else NAN
    accuracy = (tp + tn) / len(pairs) if len(pairs) else NAN
    return Confusion(tp, fp, fn, tn, int((pairs["faster"] == "unclear").sum()), mcc, accuracy)


def break_even(pairs: pd.DataFrame) -> pd.DataFrame:
    """The sparsity at which each kernel starts to pay on each layer, predicted and measured.

    Interpolated linearly in ln(speedup) between neighbouring sparsities; NaN where the speedup does not cross 1 within
    the sparsities of the stratum. ``error`` = measured - predicted.
    """
    sparsity, speedups = pairs["sparsity"].to_numpy(np.float64), _speedups(pairs)
    keys = [pairs[name].tolist() for name in STRATUM]
    rows = []
    for positions in _positions(pairs):
        ordered = positions[np.argsort(sparsity[positions], kind="stable")]
        s = sparsity[ordered]
        if not s[0] < s[-1]:
            continue
        predicted, measured = (_crossing(s, np.log(v[ordered])) for v in speedups)
        rows.append([*(key[positions[0]] for key in keys), len(positions), predicted, measured, measured - predicted])
    return pd.DataFrame(rows, columns=[*STRATUM, "points", "predicted", "measured", "error"])


def _crossing(sparsity: FloatArray, log_speedup: FloatArray) -> float:
    """First sparsity from which ln(speedup) rises through 0; NaN if it never does within the range."""
    for i in range(len(sparsity) - 1):
        low, high = log_speedup[i], log_speedup[i + 1]
        if low <= 0 < high:
            return float(sparsity[i] + (sparsity[i + 1] - sparsity[i]) * (-low) / (high - low))
    return NAN


def _middle(values: list[float]) -> tuple[float, float]:
    """Mean and median, NaN for none."""
    return (float(np.mean(values)), float(np.median(values))) if values else (NAN, NAN)


@lru_cache(maxsize=8192)  # a summary asks for the same stratum once per table row it belongs to
def _correlations(predicted: tuple[float, ...], measured: tuple[float, ...]) -> tuple[float, float]:
    """Spearman's rho and Kendall's tau-b."""
    from scipy import stats

    return (
        float(stats.spearmanr(predicted, measured).statistic),
        float(stats.kendalltau(predicted, measured).statistic),
    )


def _positions(pairs: pd.DataFrame) -> list[np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Row positions of each stratum, in order of appearance."""
    codes = pairs.groupby(list(STRATUM), sort=False, dropna=False).ngroup().to_numpy(np.int64)
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes)) if len(codes) else np.zeros(0, np.int64)
    return [part for part in np.split(order, ends[:-1]) if len(part)]


def _speedups(pairs: pd.DataFrame) -> tuple[FloatArray, FloatArray]:
    return pairs["predicted_speedup"].to_numpy(np.float64), pairs["measured_speedup"].to_numpy(np.float64)


def _constant(values: FloatArray) -> bool:
    return bool(np.ptp(values) <= 1e-9 * np.abs(values).max())
