"""How the times of resources that work side by side add up to one, and the floor below everything."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sparsity_roofline.model.cost import Floats

P = 1.5
"""Exponent for stores and steps beside the busiest of compute, DRAM and L2, for every kernel and device. Those three
overlap well once a kernel streams; what happens once a program (first loads, last stores) overlaps only with other
programs. 1.5 fits an H100's kernels best among 1.5, 2 and 3 (docs/model.md)."""


def combine(times: Sequence[Floats], p: Floats | float) -> Floats:
    """(sum t^p)^(1/p): p = 1 is no overlap, p = infinity perfect overlap (the maximum).

    3 us and 4 us: 7 with p = 1, 5 with p = 2, 4.05 with p = 6. Never below the largest, never above the sum.
    """
    stacked = np.stack(np.broadcast_arrays(*times))
    largest = stacked.max(axis=0)
    if np.ndim(p) == 0 and np.isinf(p):
        return np.asarray(largest, dtype=np.float64)
    scaled = np.divide(stacked, largest, out=np.zeros_like(stacked), where=largest > 0)
    return np.asarray(largest * np.sum(scaled**p, axis=0) ** (1.0 / p), dtype=np.float64)
