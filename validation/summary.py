"""One row per stratum: counts, geometric means, errors and ranks; and the strata themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd

from sparsity_roofline.validation.decisions import confusion, ranks
from sparsity_roofline.validation.errors import bias, three_errors

N_EDGES = (64, 1024)
"""Upper ends of the small and medium N regimes: a decode batch of tokens, and one image or one short sequence."""

STRATA = ("device", "run_id", "kernel", "kernel_dtype", "format", "dtype", "n_regime", "bounds")
"""The strata every report shows, one at a time."""

SUMMARY_COLUMNS = (
    "stratum", "value", "pairs", "shapes", "predicted_speedup", "measured_speedup", "f_dense", "f_sparse",
    "f_dense_held", "f_sparse_held", "parity",
    "parity_low", "parity_high", "loa_low", "loa_high", "mape", "median_ape", "dense_bias", "dense_mape",
    "sparse_bias", "sparse_mape", "rank_strata", "spearman", "kendall", "faster_both", "faster_only_predicted",
    "faster_only_measured", "faster_neither", "mcc", "violations", "above_one", "below_floor",
)  # fmt: skip


def add_strata(pairs: pd.DataFrame) -> pd.DataFrame:
    """Add ``kernel_dtype``, ``n_regime`` and ``bounds`` (dense > sparse), the strata that are not record fields."""
    out = pairs.copy()
    out["kernel_dtype"] = out["kernel"].astype(str) + " " + out["dtype"].astype(str)
    small, medium = N_EDGES
    words = [f"small (N <= {small})", f"medium (N <= {medium})", f"large (N > {medium})"]
    out["n_regime"] = np.select([out["N"] <= small, out["N"] <= medium], words[:2], words[2])
    out["bounds"] = out["bound_dense"].astype(str) + " > " + out["bound_sparse"].astype(str)
    return out


def headline(pairs: pd.DataFrame) -> pd.DataFrame:
    """The pairs that averages are made of: at or above the launch floor."""
    return pairs[~pairs["below_floor"].astype(bool)]


def summarise(pairs: pd.DataFrame, by: Sequence[str] = STRATA, *, resamples: int = 2000, seed: int = 0) -> pd.DataFrame:
    """One row for all pairs, one for those below the floor if any, one per value of each stratum.

    Apart from the row "below floor", every figure is of ``headline(pairs)``; ``below_floor`` counts what was left out.
    """
    table = add_strata(pairs)
    rows = [_row("all", "", table, resamples, seed)] if len(table) else []
    low = table[table["below_floor"].astype(bool)]
    for stratum in by:
        groups = list(table.groupby(stratum, sort=True, dropna=False))
        again = stratum == "kernel_dtype" and len(table["dtype"].drop_duplicates()) == 1
        if len(groups) > 1 and not again:  # one value is the row "all" again
            rows += [_row(stratum, str(value), group, resamples, seed) for value, group in groups]
    if len(low):
        rows.append(_row("below floor", "left out above", low, resamples, seed, keep=True))
    return pd.DataFrame(rows, columns=list(SUMMARY_COLUMNS))


def by_kernel(pairs: pd.DataFrame, *, resamples: int = 2000, seed: int = 0) -> pd.DataFrame:
    """One row per kernel and dtype, also where there is a single one; pairs below the floor left out of averages."""
    groups = add_strata(pairs).groupby("kernel_dtype", sort=True)
    rows = [_row("kernel_dtype", str(value), group, resamples, seed) for value, group in groups]
    return pd.DataFrame(rows, columns=list(SUMMARY_COLUMNS))


def _row(
    stratum: str, value: str, group: pd.DataFrame, resamples: int, seed: int, *, keep: bool = False
) -> dict[str, object]:
    pairs = group if keep else headline(group)
    errors = three_errors(pairs, resamples=resamples, seed=seed)
    rank, decision, ratio = ranks(pairs), asdict(confusion(pairs)), errors["ratio"]
    return {
        "stratum": stratum,
        "value": value,
        "pairs": len(pairs),
        "shapes": ratio.clusters,
        "predicted_speedup": _geomean(pairs["predicted_speedup"]),
        "measured_speedup": _geomean(pairs["measured_speedup"]),
        "f_dense": _geomean(pairs["f_dense"]),
        "f_sparse": _geomean(pairs["f_sparse"]),
        "f_dense_held": _geomean(pairs["f_dense_held"].dropna()),
        "f_sparse_held": _geomean(pairs["f_sparse_held"].dropna()),
        "parity": ratio.bias,
        "parity_low": ratio.bias_low,
        "parity_high": ratio.bias_high,
        "loa_low": ratio.loa_low,
        "loa_high": ratio.loa_high,
        "mape": ratio.mape,
        "median_ape": ratio.median_ape,
        "dense_bias": errors["dense"].bias,
        "dense_mape": errors["dense"].mape,
        "sparse_bias": errors["sparse"].bias,
        "sparse_mape": errors["sparse"].mape,
        "rank_strata": rank.strata,
        "spearman": rank.spearman,
        "kendall": rank.kendall,
        "faster_both": decision["both"],
        "faster_only_predicted": decision["only_predicted"],
        "faster_only_measured": decision["only_measured"],
        "faster_neither": decision["neither"],
        "mcc": decision["mcc"],
        "violations": int(group["violation"].sum()),
        "above_one": int(group["above_one"].sum()),
        "below_floor": int(group["below_floor"].sum()),
    }


def _geomean(values: pd.Series[float]) -> float:
    return bias(np.log(values.to_numpy(np.float64)))
