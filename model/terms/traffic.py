"""Bytes: what DRAM must deliver and take back, and what L2 must hand to the multiprocessors for a kernel's tiles."""

from __future__ import annotations

import numpy as np

from sparsity_roofline.model.cost import Floats


def written_back(output: Floats, read: Floats, resident: Floats | float) -> Floats:
    """Bytes of Y that reach DRAM before the kernel ends, when the last ``resident`` bytes touched stay in L2.

    Under least-recently-used replacement the lines left in L2 at the end are the last ones touched, of which Y has its
    share: Y (1 - L2 / (X + W + Y)), at least 0. Y = 50 MB, 50 MB read, 25 MB resident: 50 (1 - 25 / 100) = 37.5 MB.
    Never below max(0, Y - L2), which the preset ``bound`` charges.
    """
    touched = output + read
    left = np.divide(resident, touched, out=np.ones_like(touched), where=touched > 0)
    return output * np.maximum(0.0, 1.0 - left)


def tile_bytes(BM: Floats, BN: Floats, depth: Floats, weight: Floats, x: Floats, x_rows: Floats) -> Floats:
    """Bytes one tile fetches through L2: depth (BM w + x_rows BN b).

    ``weight``: bytes of W per stored element with its share of indices, ``x``: bytes of an element of X, ``x_rows``:
    rows of X a step along K reads per element of depth: 1 where the tile's rows of W share their columns (dense, bsr),
    BM where every row has columns of its own (csr). 128 x 256 tiles of fp16, K = 4096: 4096 (128 + 256) 2 B = 3.1 MB.
    """
    return depth * (BM * weight + x_rows * BN * x)
