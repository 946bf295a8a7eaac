"""How a kernel's tiles walk through W and X: steps along K, elements of W multiplied, rows of X fetched, programs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sparsity_roofline.model.cost import Cost, Floats, bitmap
from sparsity_roofline.model.dtype import DTYPES
from sparsity_roofline.model.table import BSR, CSR, NM, CaseTable
from sparsity_roofline.model.terms import tiles
from sparsity_roofline.model.terms.kernel import KernelModel
from sparsity_roofline.model.terms.tiles import Tiling

_BYTES = {name: float(d.element_bytes) for name, d in DTYPES.items()}


@dataclass(frozen=True, eq=False)
class Walk:
    """The way of one tile, means over the tiles of a case; arrays that broadcast to (rows, candidates).

    Attributes:
        depth: elements along K that it steps through.
        extent: the most there can be.
        grain: elements of ``depth`` that come together: a block's columns, else 1.
        weight: elements of W it multiplies, per row of the tile.
        x: rows of X it fetches.
        programs: programs of the call, parts of K counted.
        flops: operations issued before padding, of the call; at least those of the case's cost.
        weight_bytes: of W as the kernel stores it, of the whole matrix.
        element_bytes: of one element of ``weight``, with its share of indices.
        density: probability that a neighbour wants the same rows of X (``terms.l2``).
        uneven: tiles differ in length.
    """

    depth: Floats
    extent: Floats
    grain: Floats
    weight: Floats
    x: Floats
    programs: Floats
    flops: Floats
    weight_bytes: Floats
    element_bytes: Floats
    density: Floats
    uneven: bool


def column(a: npt.ArrayLike) -> Floats:
    """(rows,) as float64 (rows, 1), to broadcast against candidates."""
    return np.asarray(a, dtype=np.float64)[:, None]


def walk(t: CaseTable, code: int, kernel: KernelModel, dtype: str, plain: Cost, tiling: Tiling) -> Walk:
    """The way of the tiles of a kernel through rows that share format ``code`` and dtype.

    ``kernel.decodes``: multiplies zeros as well. ``kernel.strip``: packs the blocks of so many rows together, so that
    a tile walks the union of their columns: K (1 - (1 - d)^(BM / r)) for random columns. ``kernel.panels``: brings
    every row of X in, whether an element wants it or not.
    """
    M, K, N = (column(a) for a in (t.M, t.K, t.N))
    one, flops, stored = np.ones_like(M), column(plain.flops), column(plain.weight_bytes)
    depth, extent, grain, weight, x, density = K, K, one, K, K, one
    count, uneven = tiles.count(M, N, tiling.BM, tiling.BN), False
    if code == CSR:
        own = column(t.nnz) / np.maximum(M, 1.0)
        if kernel.stores == "bitmap":
            stored = bitmap(M, K, N, column(t.nnz), np.full_like(M, _BYTES[dtype]), 0.0)[1]
        if kernel.decodes:
            flops = 2.0 * M * K * N
        elif kernel.panels:
            weight = own
        else:
            depth, weight, x, uneven = own, own, own * tiling.BM, True
            density = column(t.nnz) / np.maximum(M * K, 1.0)
    elif code == BSR:
        r, c = column(t.block_rows), column(t.block_cols)
        across = np.maximum(np.ceil(K / c), 1.0)
        density = column(t.stored_blocks) / np.maximum(np.ceil(M / r) * across, 1.0)
        extent, grain, uneven = across * c, c, True
        depth = weight = x = density * extent
        if kernel.strip:
            depth = x = extent * union(density, tiling.BM / r)
            weight = extent * union(density, kernel.strip / r)
            stored = stored * np.divide(weight, density * extent, out=np.ones_like(weight), where=density > 0)
        else:
            count = np.ceil(M / r) * tiles.count(r, N, tiling.BM, tiling.BN)
    elif code == NM:
        if kernel.decodes:
            flops = flops * column(t.m) / column(t.n)
        else:
            depth = weight = np.ceil(K / column(t.m)) * column(t.n)
    elements = np.maximum(M, 1.0) * weight
    return Walk(
        depth=depth,
        extent=np.maximum(extent, depth),
        grain=grain,
        weight=weight,
        x=x,
        programs=count * tiling.split,
        flops=flops,
        weight_bytes=stored,
        element_bytes=np.divide(
            stored, elements, out=np.zeros(np.broadcast(stored, elements).shape), where=elements > 0
        ),
        density=density,
        uneven=uneven,
    )


def union(density: Floats, members: Floats) -> Floats:
    """Share of columns that any of ``members`` random rows of blocks stores: 1 - (1 - d)^members; d for one or fewer.

    d = 1/4, two block rows: 0.4375, so the pair fetches 0.875 of what both would on their own.
    """
    return np.asarray(1.0 - (1.0 - np.clip(density, 0.0, 1.0)) ** np.maximum(members, 1.0))
