"""Tiles: how a kernel cuts Y, how far along K each tile walks, and what padding to whole tiles costs.

All functions take float64 arrays that broadcast against each other: rows of a case table as (rows, 1) and candidate
tiles as (1, candidates).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparsity_roofline.model.cost import Floats


@dataclass(frozen=True, eq=False)
class Tiling:
    """Tiles of Y, as arrays that broadcast to (rows, candidates).

    Attributes:
        BM, BN: rows and columns of Y a program makes.
        BK: elements of K it takes per step.
        split: programs that share one tile's K (split-K).
        resident: programs that a multiprocessor holds at a time.
    """

    BM: Floats
    BN: Floats
    BK: Floats
    split: Floats
    resident: Floats


def count(M: Floats, N: Floats, BM: Floats, BN: Floats) -> Floats:
    """Tiles of Y: ceil(M / BM) ceil(N / BN). 100 x 100 in 64 x 64 tiles: 2 x 2 = 4."""
    return np.ceil(M / BM) * np.ceil(N / BN)


def steps(depth: Floats, BK: Floats) -> Floats:
    """Whole steps along a K extent: ceil(depth / BK); 147 in steps of 64: 3."""
    return np.ceil(depth / BK)


def padded_flops(tiles: Floats, BM: Floats, BN: Floats, depth: Floats) -> Floats:
    """Operations issued, padding included: tiles x 2 BM BN depth.

    100 x 100 x 64 in 64 x 64 tiles: 4 x 2 x 64 x 64 x 64 = 2.10 M operations for 1.28 M useful ones.
    """
    return tiles * 2.0 * BM * BN * depth
