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


def tile_bytes(
    BM: Floats, BN: Floats, weight: Floats, element: Floats, x: Floats, element_bytes: Floats | float
) -> Floats:
    """Bytes one tile fetches through L2: BM x weight elements of W, x rows of BN elements of X.

    ``element``: bytes of an element of W with its share of indices; ``x``: equal to ``weight`` where the rows of a tile
    share their columns (dense, bsr), BM times that where every row has columns of its own (csr). 128 x 256 tiles of
    fp16, K = 4096: 128 x 4096 x 2 B + 4096 x 256 x 2 B = 3.1 MB.
    """
    return BM * weight * element + x * BN * element_bytes
