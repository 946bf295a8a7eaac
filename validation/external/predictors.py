"""What each model says of measured rows: the best constant speedup, the plain limit, the pattern-aware bound."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sparsity_roofline.model import roofline
from sparsity_roofline.model.cost import preset
from sparsity_roofline.model.expect import expected_case
from sparsity_roofline.model.pattern import Pattern
from sparsity_roofline.model.table import CaseTable
from sparsity_roofline.validation.errors import FloatArray, best_constant
from sparsity_roofline.validation.external.read import Measurements


@dataclass(frozen=True, eq=False)
class Predicted:
    """One model's figures for every row: seconds of both sides and their ratio; NaN where it says nothing."""

    dense_s: FloatArray
    sparse_s: FloatArray
    speedup: FloatArray


Positions = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


def groups(rows: pd.DataFrame, keys: Sequence[str]) -> Iterator[tuple[tuple[str, ...], Positions]]:
    """(values of the keys as text, positions of the rows that have them), in order of appearance."""
    for key, part in rows.reset_index(drop=True).groupby(list(keys), sort=False):
        yield tuple(str(value) for value in key), part.index.to_numpy(np.int64)


def tables(measured: Measurements) -> CaseTable:
    """The rows as cases, each mask drawn uniformly from its pattern at its sparsity."""
    return CaseTable.of(
        [
            expected_case(int(M), int(K), int(N), Pattern.parse(pattern), float(sparsity), dtype)
            for M, K, N, pattern, sparsity, dtype in measured.rows[["M", "K", "N", "pattern", "sparsity", "dtype"]]
            .astype(object)
            .itertuples(index=False)
        ]
    )


def plain(measured: Measurements, name: str = "paper") -> tuple[Predicted, list[str], list[str]]:
    """The speed of light of both sides under a cost preset, and the bound of each side.

    Returns:
        predictions; bound of the dense side; bound of the sparse side (``compute`` or ``memory``).
    """
    table, rows = tables(measured), measured.rows
    size = len(rows)
    dense_s, sparse_s = np.full(size, np.nan), np.full(size, np.nan)
    bounds = np.full((2, size), "", dtype=object)
    for (device, dtype), at in groups(rows, ["device", "dtype"]):
        dense, sparse = (measured.mapping.options(preset(name), dtype, side) for side in ("dense", "sparse"))
        found = roofline.predict(table.take(at), measured.ceilings[device], options=sparse, dense_options=dense)
        dense_s[at], sparse_s[at] = found.sol_dense_s, found.sol_s
        bounds[0, at], bounds[1, at] = found.bound_dense, found.bound
    return Predicted(dense_s, sparse_s, dense_s / sparse_s), bounds[0].tolist(), bounds[1].tolist()


def constant(rows: pd.DataFrame) -> FloatArray:
    """The best constant speedup of each row's device, dtype and pattern."""
    out = np.full(len(rows), np.nan)
    speedup = (rows["dense_s"] / rows["sparse_s"]).to_numpy(np.float64)
    for _, at in groups(rows, ["device", "dtype", "pattern"]):
        known = speedup[at]
        out[at] = best_constant(known[np.isfinite(known)])
    return out
