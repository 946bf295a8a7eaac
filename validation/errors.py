"""How wrong a prediction is: bias, limits of agreement, relative errors, ranks, the decision, beaten bounds.

e = ln(measured / predicted) throughout. For a speedup it is ``log_error`` of the join (= ln parity); for a latency the
prediction is the speed of light, so e = -ln f. The three errors, dense, sparse and ratio, are never mixed: a good ratio
says nothing about either side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

FloatArray = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
NAN = float("nan")


@dataclass(frozen=True)
class Agreement:
    """One error's summary. Every figure but ``n`` and ``clusters`` is NaN where it is not defined.

    Attributes:
        n: points. clusters: layer shapes among them.
        bias: geometric mean of measured / predicted; bias_low, bias_high: its 95 % cluster-bootstrap interval.
        loa_low, loa_high: 95 % limits of agreement, exp(mean e +- 1.96 sd e) (Bland and Altman 1999); needs n >= 3.
        mape, median_ape: mean and median of |predicted - measured| / measured.
    """

    n: int
    clusters: int
    bias: float
    bias_low: float
    bias_high: float
    loa_low: float
    loa_high: float
    mape: float
    median_ape: float

    def to_dict(self) -> dict[str, float]:
        """Plain types, for tables and JSON."""
        return asdict(self)


def bias(log_errors: Sequence[float] | FloatArray) -> float:
    """Geometric mean of measured / predicted from e = ln(measured / predicted); NaN for none."""
    e = np.asarray(log_errors, np.float64)
    return float(np.exp(e.mean())) if e.size else NAN


def limits_of_agreement(log_errors: Sequence[float] | FloatArray) -> tuple[float, float]:
    """exp(mean e +- 1.96 sd e), sd with n - 1; NaN below three points."""
    e = np.asarray(log_errors, np.float64)
    if e.size < 3:
        return NAN, NAN
    mid, half = float(e.mean()), 1.96 * float(e.std(ddof=1))
    return float(np.exp(mid - half)), float(np.exp(mid + half))


def absolute_percentage_errors(log_errors: Sequence[float] | FloatArray) -> FloatArray:
    """|predicted - measured| / measured = |exp(-e) - 1| of each point."""
    return np.abs(np.expm1(-np.asarray(log_errors, np.float64)))


def best_constant(speedups: Sequence[float] | FloatArray | pd.Series) -> float:
    """The constant c with the least mean |c / s - 1| over measured speedups s: their median, each weighted by 1 / s.

    Chosen in hindsight, so no constant does better: a model that does not beat it explains nothing of the spread. NaN
    for no speedup.
    """
    s = np.sort(np.asarray(speedups, np.float64))
    if not s.size:
        return float("nan")
    reached = np.cumsum(1.0 / s)
    return float(s[np.searchsorted(reached, reached[-1] / 2)])


def cluster_bootstrap(
    values: Sequence[float] | FloatArray,
    clusters: Sequence[object] | pd.Series | np.ndarray,
    *,
    statistic: Callable[[FloatArray], float] | None = None,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of a statistic when whole clusters are drawn with replacement.

    All sparsities and N of a layer shape share dense times and tiling, so they are one draw, not many. NaN
    below two clusters: one cluster carries no evidence of how clusters vary.

    Args:
        values: the points.
        clusters: the cluster of each point.
        statistic: of the points of one resample; None is the mean, computed from cluster sums.
        resamples: bootstrap draws. confidence: of the interval. seed: of the draws.
    """
    x = np.asarray(values, np.float64)
    codes, labels = pd.factorize(pd.Series(list(clusters), dtype=object), sort=False)
    count = len(labels)
    if count < 2:
        return NAN, NAN
    draws = np.random.default_rng(seed).integers(0, count, size=(resamples, count))
    if statistic is None:
        sums, sizes = np.bincount(codes, x, count), np.bincount(codes, minlength=count)
        estimates = sums[draws].sum(axis=1) / sizes[draws].sum(axis=1)
    else:
        members = [x[codes == i] for i in range(count)]
        estimates = np.array([statistic(np.concatenate([members[i] for i in draw])) for draw in draws])
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(estimates, [tail, 1.0 - tail])
    return float(low), float(high)


def agreement(
    log_errors: Sequence[float] | FloatArray,
    clusters: Sequence[object] | pd.Series | np.ndarray | None = None,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Agreement:
    """Summary of one error; without ``clusters`` every point is its own."""
    e = np.asarray(log_errors, np.float64)
    labels = list(range(e.size)) if clusters is None else list(clusters)
    low, high = cluster_bootstrap(e, labels, resamples=resamples, seed=seed)
    ape = absolute_percentage_errors(e)
    return Agreement(
        int(e.size),
        len(set(labels)),
        bias(e),
        float(np.exp(low)),
        float(np.exp(high)),
        *limits_of_agreement(e),
        float(ape.mean()) if e.size else NAN,
        float(np.median(ape)) if e.size else NAN,
    )


def shape_clusters(pairs: pd.DataFrame) -> list[tuple[int, int]]:
    """The layer shape (M, K) of each pair: the unit of the bootstrap."""
    return list(zip(pairs["M"].tolist(), pairs["K"].tolist(), strict=True))


def three_errors(pairs: pd.DataFrame, *, resamples: int = 2000, seed: int = 0) -> dict[str, Agreement]:
    """The errors of the dense latency, the sparse latency and their ratio (the speedup), apart.

    Each dense record counts once in ``dense``, however many sparse records share it.
    """
    dense = pairs.drop_duplicates("dense_record")
    parts = {
        "dense": (dense, -np.log(dense["f_dense"].to_numpy(np.float64))),
        "sparse": (pairs, -np.log(pairs["f_sparse"].to_numpy(np.float64))),
        "ratio": (pairs, pairs["log_error"].to_numpy(np.float64)),
    }
    return {
        name: agreement(e, shape_clusters(rows), resamples=resamples, seed=seed) for name, (rows, e) in parts.items()
    }


def violations(pairs: pd.DataFrame) -> pd.DataFrame:
    """The pairs that beat the pattern-aware bound beyond noise: each a defect until explained."""
    return pairs[pairs["violation"].astype(bool)]
