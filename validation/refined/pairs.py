"""Refined latencies beside measured pairs, and what the errors of both models are on them."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from sparsity_roofline.model.refined import Terms
from sparsity_roofline.model.terms.constants import KernelConstants
from sparsity_roofline.validation.errors import best_constant as best_constant
from sparsity_roofline.validation.refined.predict import predict
from sparsity_roofline.validation.refined.split import held_out_rows

BAND = (0.95, 1.05)
"""Measured speedups within it are ties: neither answer to "is sparse faster?" is right or wrong there."""

COLUMNS = (
    "refined_sparse_ns", "refined_dense_ns", "refined_speedup", "refined_leading_sparse", "refined_leading_dense",
    "held_out",
)  # fmt: skip


def add_refined(
    pairs: pd.DataFrame,
    records: pd.DataFrame,
    terms: Terms | None = None,
    constants: Mapping[tuple[str, str], KernelConstants] | None = None,
) -> pd.DataFrame:
    """Pairs with the columns of ``COLUMNS``; not a number and "" where the model says nothing.

    Args:
        pairs: of ``join.pair``, whose ``sparse_record`` and ``dense_record`` are labels of ``records``.
        records: the normalised records that were joined.
        terms, constants: see ``predict``.
    """
    out = pairs.copy()
    needed = records.loc[records.index.isin(set(pairs["sparse_record"]) | set(pairs["dense_record"]))]
    found = predict(needed, terms, constants)
    for side in ("sparse", "dense"):
        mine = found.reindex(pairs[f"{side}_record"].to_numpy())
        out[f"refined_{side}_ns"] = mine["refined_ns"].to_numpy()
        out[f"refined_leading_{side}"] = mine["refined_leading"].to_numpy()
    out["refined_speedup"] = out["refined_dense_ns"] / out["refined_sparse_ns"]
    out["held_out"] = held_out_rows(pairs)
    return out


def ape(predicted: pd.Series[float], measured: pd.Series[float]) -> pd.Series[float]:
    """|predicted - measured| / measured."""
    return (predicted / measured - 1.0).abs()


def decided(measured: pd.Series[float]) -> pd.Series[bool]:
    """Pairs whose measured speedup is no tie (``BAND``)."""
    return (measured < BAND[0]) | (measured > BAND[1])


def right(predicted: pd.Series[float], measured: pd.Series[float]) -> float:
    """Share of decided pairs in which a prediction is on the measured side of 1; NaN where none is decided."""
    clear = decided(measured)
    return float(((predicted[clear] > 1.0) == (measured[clear] > 1.0)).mean()) if clear.any() else float("nan")
