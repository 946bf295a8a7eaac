"""Whole networks from measured layers: the sum over the prunable layers, predicted and measured, and what it covers.

A network's layers are those of its table (``model.networks``) or, for the transformer of the Deep Learning Matrix
Collection, of the collection's list. Records are put to layers by shape: (M, K, N) where the batch says N, (M, K) where
every layer sees the same tokens. A shape that was measured on several layers counts with its mean latency, one that was
measured once stands for all layers of the shape; layers without a record are left out of both sums, and the coverage
says how much of the dense work is in them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from sparsity_roofline.model import networks
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.validation.summary import add_strata

BEST = "best"
"""In place of a kernel: the fastest kernel of the format on each layer, as a user who may choose would run."""

DLMC_TRANSFORMER: Mapping[tuple[int, int], int] = {(512, 512): 72, (512, 2048): 12, (2048, 512): 12, (33288, 512): 1}
"""(M, K) -> layers, of ``transformer_matrices.txt`` of the collection (97 matrices a sparsity)."""

_ALIASES = {"rn50": "resnet50"}

GROUP = ("device", "run_id", "network", "method", "pattern", "format", "dtype", "level", "batch", "tokens", "kernel")

SUM_COLUMNS = (
    "layers", "layers_of", "measured", "coverage", "predicted_dense_us", "predicted_sparse_us", "measured_dense_us",
    "measured_sparse_us", "predicted_speedup", "measured_speedup", "refined_speedup", "parity",
)  # fmt: skip

HEADINGS = {
    "network": "network", "method": "method", "pattern": "pattern", "dtype": "dtype",
    "level": "sparsity", "size": "N", "kernel": "kernel", "layers": "layers",
    "layers_of": "of", "measured": "of them measured", "coverage": "share of dense work",
    "measured_dense_us": "dense, us", "measured_sparse_us": "sparse, us", "predicted_speedup": "predicted speedup",
    "refined_speedup": "refined prediction", "measured_speedup": "measured speedup", "parity": "parity",
    "device": "device", "run": "run",
}  # fmt: skip


def network_sums(pairs: pd.DataFrame) -> pd.DataFrame:
    """One row per ``GROUP`` that has a record of a known network, and one per group for ``BEST``; ``SUM_COLUMNS``.

    ``size`` says batch or tokens in words; ``batch`` counts images and is empty where the records count tokens, and the
    other way round. Pairs below the launch floor are part of a network and stay in.
    """
    rows = _prepared(pairs)
    out = []
    for key, group in rows.groupby(list(GROUP), sort=True, dropna=False):
        said: dict[str, Any] = dict(zip(GROUP, key, strict=True))
        layers = _layers(str(said["network"]), said["batch"])
        if layers is not None:
            found = _sum(group, layers)
            if found["layers"]:
                out.append({**said, **found})
    table = pd.DataFrame(out, columns=[*GROUP, *SUM_COLUMNS])
    counted = zip(table["batch"], table["tokens"], strict=True)
    table["size"] = [f"batch {batch:.0f}" if batch == batch else f"{tokens:.0f} tokens" for batch, tokens in counted]
    return table


def _prepared(pairs: pd.DataFrame) -> pd.DataFrame:
    rows = add_strata(pairs[pairs["network"].astype(str) != ""])
    rows["batch"] = pd.to_numeric(rows["batch"], errors="coerce")
    rows["tokens"] = rows["N"].where(rows["batch"].isna())
    fastest = rows.groupby(["run_id", "case"], sort=False, dropna=False)["time_sparse_ns"].idxmin()
    return pd.concat([rows, rows.loc[fastest].assign(kernel=BEST)], ignore_index=True)


def _layers(network: str, batch: float) -> dict[tuple[int, ...], float] | None:
    """Shape -> how often it runs; keys have N where the batch decides it. None for a network without a table."""
    if network == "transformer" and batch != batch:
        return {shape: float(count) for shape, count in DLMC_TRANSFORMER.items()}
    try:
        layers = [layer for layer in networks.load(_ALIASES.get(network, network)) if layer.prunable]
    except UserError:
        return None
    with_columns = batch == batch
    if with_columns and any(layer.per == "token" for layer in layers):
        return None
    arrays = networks.shapes(layers, int(batch) if with_columns else 1)
    counted: Counter[tuple[int, ...]] = Counter()
    for M, K, N, times in zip(*(arrays[name] for name in ("M", "K", "N", "times")), strict=True):
        counted[(int(M), int(K), int(N)) if with_columns else (int(M), int(K))] += times
    return dict(counted)


def _sum(group: pd.DataFrame, layers: Mapping[tuple[int, ...], float]) -> dict[str, float]:
    width = len(next(iter(layers)))
    keys = ["M", "K", "N"][:width]
    sides = ["sol_dense_ns", "sol_sparse_ns", "time_dense_ns", "time_sparse_ns"]
    refined = [f"refined_{side}_ns" for side in ("dense", "sparse") if f"refined_{side}_ns" in group]
    mean = group.groupby(keys)[[*sides, *refined]].mean()
    known = {shape: times for shape, times in layers.items() if shape in mean.index}
    if not known:
        return {"layers": 0}
    weights = np.array(list(known.values()))
    at = mean.loc[list(known)]
    total = {name: float((at[name].to_numpy(np.float64) * weights).sum()) / 1e3 for name in [*sides, *refined]}
    predicted = total["sol_dense_ns"] / total["sol_sparse_ns"]
    measured = total["time_dense_ns"] / total["time_sparse_ns"]
    return {
        "layers": round(weights.sum()),
        "layers_of": round(sum(layers.values())),
        "measured": int(group["matrix"].nunique()),
        "coverage": _work(known) / _work(layers),
        "predicted_dense_us": total["sol_dense_ns"],
        "predicted_sparse_us": total["sol_sparse_ns"],
        "measured_dense_us": total["time_dense_ns"],
        "measured_sparse_us": total["time_sparse_ns"],
        "predicted_speedup": predicted,
        "measured_speedup": measured,
        "refined_speedup": total["refined_dense_ns"] / total["refined_sparse_ns"] if len(refined) == 2 else np.nan,
        "parity": measured / predicted,
    }


def _work(layers: Mapping[tuple[int, ...], float]) -> float:
    """Dense operations over a constant: with tokens every layer sees the same N."""
    return float(sum(float(np.prod(shape, dtype=np.float64)) * times for shape, times in layers.items()))
