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


def mean_steps(depth: Floats, BK: Floats, grain: Floats) -> Floats:
    """Mean whole steps of tiles of unequal length whose mean is ``depth``, made of pieces of ``grain`` elements.

    The last step is half full on average: depth / BK + (1 - grain / BK) / 2, and depth / BK where pieces are whole
    steps. Rows of 40 elements on average in steps of 16: 40 / 16 + (1 - 1 / 16) / 2 = 2.97.
    """
    spare = np.maximum(0.0, 1.0 - grain / BK) / 2.0
    return np.where(depth > 0, depth / BK + spare, 0.0)


def padded_flops(tiles: Floats, BM: Floats, BN: Floats, depth: Floats) -> Floats:
    """Operations issued, padding included: tiles x 2 BM BN depth.

    100 x 100 x 64 in 64 x 64 tiles: 4 x 2 x 64 x 64 x 64 = 2.10 M operations for 1.28 M useful ones.
    """
    return tiles * 2.0 * BM * BN * depth


SHARED_BYTES = 227 * 1024
WARPS = 64
REGISTERS = 65536
"""Limits of a multiprocessor since compute capability 8.0 (shared memory of 9.0): CUDA programming guide, table of
technical specifications."""
PROGRAMS = 32


def accumulators_held(BM: Floats | float, BN: Floats | float) -> Floats:
    """Programs that a multiprocessor holds when fp32 sums of BM x BN take half its registers; 1 to 8.

    128 x 256: 32768 / 32768 = 1; 64 x 64: 8.
    """
    return np.asarray(np.clip(np.floor(REGISTERS / 2 / (BM * BN)), 1.0, 8.0), dtype=np.float64)


def resident(shared_bytes: float, warps: int, registers: float) -> int:
    """Programs that a multiprocessor holds at a time, from the shared memory and warps of one and registers a thread.

    55 KB, 4 warps, 128 registers: min(4, 16, 4, 32) = 4.
    """
    by_registers = REGISTERS // (32 * warps * min(max(registers, 1.0), 255.0))
    by_memory = SHARED_BYTES // shared_bytes if shared_bytes > 0 else PROGRAMS
    return int(max(1, min(by_memory, WARPS // warps, by_registers, PROGRAMS)))
