"""How equal is "equally optimised"? Parity by level of optimisation, and what a small error asks for.

ln(measured / predicted speedup) = ln(parity), always. So "which parity keeps the error of one prediction under 10 %"
has an answer without any measurement: |predicted / measured - 1| <= 0.1 exactly where 1 / 1.1 <= parity <= 1 / 0.9.
What only measurements can say is

- how parity is distributed at each level of optimisation (``LEVELS``);
- the *mean* error over all pairs whose parity is at least p (and at most 1 / p), and so the least p that keeps the mean
  under the tolerance: ``parity_threshold``;
- how well optimised both sides must be for their own sakes before the error is small: the least t such that pairs in
  which both sides reach the fraction t of their speed of light have a mean error under the tolerance:
  ``fraction_threshold``. This one may not exist: two kernels can both be good and still unequal.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pandas as pd

from sparsity_roofline.validation.errors import NAN, FloatArray, absolute_percentage_errors, bias, cluster_bootstrap
from sparsity_roofline.validation.errors import shape_clusters as shapes
from sparsity_roofline.validation.summary import headline

TOLERANCE = 0.10
"""The mean absolute percentage error that counts as "the prediction holds"."""

LEAST = 10
"""Pairs that a threshold must rest on."""

LEVELS = ("untuned", "default", "tuned", "best")
"""untuned: the kernel says so of its launch parameters. default: what the kernel or its library chooses by rule.
tuned: launch parameters or algorithm searched for this very case. best: the fastest kernel of the format in the cell,
whatever its level."""

CASE = ("run_id", "case")

EQUALITY_COLUMNS = (
    "pairs", "shapes", "parity", "parity_low", "parity_high", "parity_p10", "parity_p50", "parity_p90",
    "within_10", "within_25", "mape", "f_dense", "f_sparse", "parity_threshold", "parity_threshold_low",
    "parity_threshold_high", "kept_by_parity", "fraction_threshold", "fraction_threshold_low",
    "fraction_threshold_high", "fraction_reached", "kept_by_fraction",
)  # fmt: skip

HEADINGS = {
    "format": "format", "level": "level", "pairs": "pairs", "shapes": "layer shapes",
    "parity": "parity", "parity_low": "95 % from", "parity_high": "to", "parity_p10": "10 % below",
    "parity_p50": "median", "parity_p90": "90 % below", "within_10": "share within 10 %",
    "within_25": "share within 25 %", "mape": "MAPE (1 = 100 %)", "f_dense": "fraction of SoL dense",
    "f_sparse": "fraction of SoL sparse", "parity_threshold": "parity for mean error < 10 %",
    "parity_threshold_low": "95 % from ", "parity_threshold_high": "to ", "kept_by_parity": "pairs kept",
    "fraction_threshold": "fraction of both for mean error < 10 %", "fraction_threshold_low": "95 % from  ",
    "fraction_threshold_high": "to  ", "fraction_reached": "reached in share of draws",
    "kept_by_fraction": "pairs kept ",
    "device": "device", "run": "run",
}  # fmt: skip


def level_of(config: str, setup: str) -> str:
    """Level of one record from what it says of itself: its kernel's configuration and its steps of setup.

    >>> level_of('{"tuned": false}', ""), level_of("", '{"search": 1e6}'), level_of("{}", "{}")
    ('untuned', 'tuned', 'default')
    """
    said = _object(config).get("tuned")
    if said is False:
        return "untuned"
    return "tuned" if said is True or "search" in _object(setup) else "default"


def add_levels(pairs: pd.DataFrame, records: pd.DataFrame) -> pd.DataFrame:
    """Pairs with ``optimisation``, one of ``LEVELS`` but "best", from the records that they were joined from."""
    mine = records.loc[pairs["sparse_record"].to_numpy()]
    found = [level_of(*row) for row in zip(mine["kernel_config"], mine["setup_ns"], strict=True)]
    return pairs.assign(optimisation=np.array(found, dtype=object))


def best(pairs: pd.DataFrame) -> pd.DataFrame:
    """Of each case the pair with the fastest sparse kernel; a case is of one format."""
    return pairs.loc[pairs.groupby(list(CASE), sort=False, dropna=False)["time_sparse_ns"].idxmin().sort_values()]


def equality(
    pairs: pd.DataFrame, by: tuple[str, ...] = ("device", "run_id", "format"), *, resamples: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """One row per group and level that has pairs above the launch floor: ``EQUALITY_COLUMNS``.

    ``within_<p>``: share of pairs whose speedup is predicted within p %. Intervals are bootstrapped over layer shapes;
    that of ``fraction_threshold`` is of the draws in which one exists (``fraction_reached``).

    Args:
        pairs: with ``optimisation`` (``add_levels``).
        by: columns that make a group. resamples, seed: of the bootstrap.
    """
    rows = []
    for key, group in headline(pairs).groupby(list(by), sort=True, dropna=False):
        for level in LEVELS:
            mine = best(group) if level == "best" else group[group["optimisation"] == level]
            if len(mine):
                rows.append({**dict(zip(by, key, strict=True)), "level": level, **_figures(mine, resamples, seed)})
    return pd.DataFrame(rows, columns=[*by, "level", *EQUALITY_COLUMNS])


def parity_threshold(log_errors: FloatArray, tolerance: float = TOLERANCE) -> float:
    """Least p for which the pairs with p <= parity <= 1 / p have a mean absolute percentage error within tolerance.

    Not a number where fewer than ``LEAST`` pairs are left.
    """
    distance = np.abs(log_errors)
    order = np.argsort(distance, kind="stable")
    mean = _running_mean(absolute_percentage_errors(log_errors[order]))
    kept = np.flatnonzero(mean <= tolerance)
    return float(np.exp(-distance[order][kept[-1]])) if kept.size and kept[-1] + 1 >= LEAST else NAN


def fraction_threshold(log_errors: FloatArray, fraction: FloatArray, tolerance: float = TOLERANCE) -> float:
    """Least t such that the pairs whose smaller fraction is at least t have a mean error within tolerance, and so for
    every larger t that leaves ``LEAST`` pairs. Not a number where there is none.
    """
    order = np.argsort(-fraction, kind="stable")
    mean = _running_mean(absolute_percentage_errors(log_errors[order]))[LEAST - 1 :]
    bad = np.flatnonzero(mean > tolerance)
    good = int(bad[0]) if bad.size else len(mean)
    return float(fraction[order][LEAST - 1 + good - 1]) if good else NAN


def _figures(pairs: pd.DataFrame, resamples: int, seed: int) -> dict[str, float]:
    e = pairs["log_error"].to_numpy(np.float64)
    least = np.minimum(pairs["f_dense"].to_numpy(np.float64), pairs["f_sparse"].to_numpy(np.float64))
    labels, error = shapes(pairs), absolute_percentage_errors(e)
    low, high = cluster_bootstrap(e, labels, resamples=resamples, seed=seed)
    parity, by_parity = np.exp(e), parity_threshold(e)
    by_fraction = fraction_threshold(e, least)
    p_draws = _draws(lambda i: parity_threshold(e[i]), labels, resamples, seed)
    f_draws = _draws(lambda i: fraction_threshold(e[i], least[i]), labels, resamples, seed)
    p_low, p_high = _interval(p_draws)
    f_low, f_high = _interval(f_draws)
    inside = np.abs(e) <= -np.log(by_parity) * (1 + 1e-12) if by_parity == by_parity else np.zeros(len(e), bool)
    return {
        "pairs": len(pairs), "shapes": len(set(labels)), "parity": bias(e), "parity_low": float(np.exp(low)),
        "parity_high": float(np.exp(high)),
        **{f"parity_p{p}": float(np.quantile(parity, p / 100)) for p in (10, 50, 90)},
        "within_10": float((error <= 0.10).mean()), "within_25": float((error <= 0.25).mean()),
        "mape": float(error.mean()),
        "f_dense": bias(np.log(pairs["f_dense"].to_numpy(np.float64))),
        "f_sparse": bias(np.log(pairs["f_sparse"].to_numpy(np.float64))),
        "parity_threshold": by_parity, "parity_threshold_low": p_low, "parity_threshold_high": p_high,
        "kept_by_parity": int(inside.sum()),
        "fraction_threshold": by_fraction, "fraction_threshold_low": f_low, "fraction_threshold_high": f_high,
        "fraction_reached": float(np.isfinite(f_draws).mean()) if f_draws.size else NAN,
        "kept_by_fraction": int((least >= by_fraction).sum()) if by_fraction == by_fraction else 0,
    }  # fmt: skip


def _draws(
    statistic: Callable[[np.ndarray], float], clusters: list[tuple[int, int]], resamples: int, seed: int
) -> FloatArray:
    """The statistic of row positions when whole clusters are drawn; none below two clusters."""
    codes, labels = pd.factorize(pd.Series(clusters, dtype=object), sort=False)
    if len(labels) < 2:
        return np.zeros(0)
    members = [np.flatnonzero(codes == i) for i in range(len(labels))]
    drawn = np.random.default_rng(seed).integers(0, len(labels), size=(resamples, len(labels)))
    return np.array([statistic(np.concatenate([members[i] for i in draw])) for draw in drawn])


def _interval(draws: FloatArray) -> tuple[float, float]:
    known = draws[np.isfinite(draws)]
    if known.size < 40:  # below it the 2.5 % quantile is one draw
        return NAN, NAN
    low, high = np.quantile(known, [0.025, 0.975])
    return float(low), float(high)


def _running_mean(values: FloatArray) -> FloatArray:
    return np.asarray(np.cumsum(values) / np.arange(1, len(values) + 1), np.float64)


def _object(text: str) -> dict[str, object]:
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
