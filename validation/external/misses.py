"""What the plain limit leaves out, as far as a table of latencies shows it: small cases, a hot L2, sustained clocks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from sparsity_roofline.validation.errors import FloatArray, bias
from sparsity_roofline.validation.external.compare import GROUP
from sparsity_roofline.validation.external.predictors import Predicted, groups

COLUMNS = (
    "device", "dtype", "pattern", "question", "bin", "n", "f_dense", "f_sparse", "f_dense_max", "f_sparse_max",
    "measured_speedup", "predicted_speedup", "parity", "shortest_dense_us", "shortest_sparse_us",
)  # fmt: skip
"""Columns of ``misses``: geometric means, largest fractions of the speed of light, and the shortest times of a bin."""

SOL_US = (1.0, 5.0, 20.0, 100.0)
L2_SHARES = (0.5, 1.0, 2.0, 8.0)
OPERATIONS = (1e10, 1e11, 1e12)


def misses(rows: pd.DataFrame, plain: Predicted) -> pd.DataFrame:
    """Fractions of the plain speed of light in bins of what the plain model does not know.

    - ``small``: by the dense speed of light in microseconds. Below some 20 us launch and fill decide.
    - ``hot L2``: cases with both sides memory-bound, by the dense case's bytes over the L2 capacity. Without a flush,
      what fits need not come from DRAM again, and fractions above 1 are honest.
    - ``sustained``: cases with both sides compute-bound, by operations. The larger the product, the longer the
      tensor cores draw full power; the largest fractions of each side say which share of the printed peak it reaches.

    Args:
        rows: measured rows with the plain model's ``bound_*``, ``bytes_dense``, ``flops_dense`` and ``l2_bytes``.
        plain: the plain model's predictions.
    """
    out = []
    for key, at in groups(rows, GROUP):
        group = rows.iloc[at]
        part = Predicted(plain.dense_s[at], plain.sparse_s[at], plain.speedup[at])
        both = np.isfinite(group["dense_s"].to_numpy(np.float64) / group["sparse_s"].to_numpy(np.float64))
        for question, label, inside in _bins(group, part):
            chosen = inside & both
            if chosen.any():
                out.append((*key, question, label, *_line(group[chosen], part, chosen)))
    return pd.DataFrame(out, columns=list(COLUMNS))


def _bins(
    group: pd.DataFrame, plain: Predicted
) -> Iterator[tuple[str, str, np.ndarray[tuple[int], np.dtype[np.bool_]]]]:
    bounds = group["bound_dense"].to_numpy(object), group["bound_sparse"].to_numpy(object)
    memory = (bounds[0] == "memory") & (bounds[1] == "memory")
    compute = (bounds[0] == "compute") & (bounds[1] == "compute")
    everything = np.ones(len(group), dtype=bool)
    l2 = group["l2_bytes"].to_numpy(np.float64)
    share = np.divide(group["bytes_dense"].to_numpy(np.float64), l2, out=np.full(len(group), np.nan), where=l2 > 0)
    work = group["flops_dense"].to_numpy(np.float64)
    for question, value, edges, among in (
        ("small: dense SoL, us", plain.dense_s * 1e6, SOL_US, everything),
        ("hot L2: bytes / L2, memory-bound", share, L2_SHARES, memory),
        ("sustained: operations, compute-bound", work, OPERATIONS, compute),
    ):
        for low, high in zip((-np.inf, *edges), (*edges, np.inf), strict=True):
            label = f"< {high:g}" if low < 0 else f">= {low:g}" if np.isinf(high) else f"{low:g} to {high:g}"
            yield question, label, among & (value >= low) & (value < high)


def _line(rows: pd.DataFrame, plain: Predicted, chosen: FloatArray) -> tuple[float, ...]:
    dense, sparse = (rows[f"{side}_s"].to_numpy(np.float64) for side in ("dense", "sparse"))
    f_dense, f_sparse = plain.dense_s[chosen] / dense, plain.sparse_s[chosen] / sparse
    measured, predicted = dense / sparse, plain.speedup[chosen]
    return (
        len(rows), bias(np.log(f_dense)), bias(np.log(f_sparse)), float(f_dense.max()), float(f_sparse.max()),
        bias(np.log(measured)), bias(np.log(predicted)), bias(np.log(measured / predicted)),
        float(dense.min()) * 1e6, float(sparse.min()) * 1e6,
    )  # fmt: skip
