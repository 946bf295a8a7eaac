"""One row per stratum: counts, geometric means, errors and ranks; the strata one at a time, or crossed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd

from sparsity_roofline.validation.decisions import break_even, confusion, ranks
from sparsity_roofline.validation.errors import (
    NAN,
    absolute_percentage_errors,
    bias,
    cluster_bootstrap,
    shape_clusters,
    three_errors,
)
from sparsity_roofline.validation.refined.pairs import ape, right

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


GROUP = ("device", "run_id", "format", "block", "kernel", "dtype")
"""What a table over all sparsities of a kernel is grouped by."""

CELL = (*GROUP, "level", "bounds")
"""The finest strata that a table shows: also one sparsity and one pair of bounds at a time."""

CROSSED_COLUMNS = (
    "pairs", "shapes", "predicted_speedup", "measured_speedup", "f_dense", "f_sparse", "parity", "parity_low",
    "parity_high", "loa_low", "loa_high", "median_ape", "mape", "mape_low", "mape_high", "refined_speedup",
    "refined_mape", "refined_median_ape", "refined_pairs", "plain_right", "refined_right", "spearman", "kendall",
    "faster_both", "faster_only_predicted", "faster_only_measured", "faster_neither", "break_even_predicted",
    "break_even_measured", "break_even_layers", "violations", "above_one", "below_floor",
)  # fmt: skip


def block_of(format: str, r: int, c: int, n: int, m: int) -> str:
    """A pattern's grain in words: ``64x64``, ``2:4``, or "" where there is none."""
    return f"{r}x{c}" if format == "bsr" else f"{n}:{m}" if format == "nm" else ""


def add_strata(pairs: pd.DataFrame) -> pd.DataFrame:
    """Add the strata that are not record fields: ``kernel_dtype``, ``n_regime``, ``bounds`` (dense > sparse),
    ``block`` and ``level``, the sparsity that was asked for (that of the mask where none was)."""
    out = pairs.copy()
    grain = ("format", "block_rows", "block_cols", "n", "m")
    out["block"] = [block_of(*row) for row in zip(*(out[name] for name in grain), strict=True)]
    out["level"] = out["target_sparsity"].fillna(out["sparsity"]).round(4)
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


def crossed(pairs: pd.DataFrame, by: Sequence[str] = GROUP, *, resamples: int = 2000, seed: int = 0) -> pd.DataFrame:
    """One row per combination of ``by`` that has a pair: ``CROSSED_COLUMNS``, not a number where one is not defined.

    Averages are of ``headline``; a group that lies wholly below the launch floor keeps its row, with ``pairs`` 0.
    ``break_even_predicted`` and ``break_even_measured`` are medians over the ``break_even_layers`` strata that have
    several sparsities, each over those in which the speedup crosses 1; the refined columns are of the pairs that the
    refined model predicts, and absent figures where it predicts none.
    """
    rows = []
    for key, group in add_strata(pairs).groupby(list(by), sort=True, dropna=False):
        kept = headline(group)
        row = _figures(group, resamples, seed)
        row |= _refined(kept) | _break_even(kept)
        row["mape_low"], row["mape_high"] = cluster_bootstrap(
            absolute_percentage_errors(kept["log_error"].to_numpy(np.float64)), shape_clusters(kept),
            resamples=resamples, seed=seed,
        ) if len(kept) else (NAN, NAN)  # fmt: skip
        rows.append({**dict(zip(by, key, strict=True)), **row})
    return pd.DataFrame(rows, columns=[*by, *CROSSED_COLUMNS])


def _refined(pairs: pd.DataFrame) -> dict[str, float]:
    """Shares of decided pairs in which each model names the faster side, and the refined model's errors."""
    known = pairs[pairs["refined_speedup"].notna()] if "refined_speedup" in pairs else pairs.iloc[:0]
    error = ape(known["refined_speedup"], known["measured_speedup"]) if len(known) else pd.Series(dtype=float)
    return {
        "plain_right": right(pairs["predicted_speedup"], pairs["measured_speedup"]),
        "refined_right": right(known["refined_speedup"], known["measured_speedup"]) if len(known) else NAN,
        "refined_speedup": _geomean(known["refined_speedup"]) if len(known) else NAN,
        "refined_mape": float(error.mean()),
        "refined_median_ape": float(error.median()),
        "refined_pairs": len(known),
    }


def _break_even(pairs: pd.DataFrame) -> dict[str, float]:
    table = break_even(pairs)
    return {
        "break_even_layers": len(table),
        "break_even_predicted": float(table["predicted"].median()),
        "break_even_measured": float(table["measured"].median()),
    }


def _row(
    stratum: str, value: str, group: pd.DataFrame, resamples: int, seed: int, *, keep: bool = False
) -> dict[str, object]:
    return {"stratum": stratum, "value": value, **_figures(group, resamples, seed, keep=keep)}


def _figures(group: pd.DataFrame, resamples: int, seed: int, *, keep: bool = False) -> dict[str, object]:
    pairs = group if keep else headline(group)
    errors = three_errors(pairs, resamples=resamples, seed=seed)
    rank, decision, ratio = ranks(pairs), asdict(confusion(pairs)), errors["ratio"]
    return {
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
