"""Waves and balance: work comes in whole tiles of unequal length, and the last multiprocessor to finish sets the time.

Figures are factors on the time that perfect sharing over all slots would take (1 = perfect).
"""

from __future__ import annotations

import numpy as np

from sparsity_roofline.model.cost import Floats


def wave_factor(tiles: Floats, slots: Floats | float) -> Floats:
    """ceil(C / S) / (C / S) for C equal tiles over S slots.

    109 tiles on 108 slots take two waves: 2 / (109 / 108) = 1.98. One tile on 132 slots: 132.
    """
    shared = np.maximum(tiles, 1.0) / slots
    return np.ceil(shared) / shared


def balance_factor(mean: Floats, longest: Floats, tiles: Floats, slots: Floats | float) -> Floats:
    """max(total / S, longest) / (total / S) with total = C mean: the least makespan of unequal tiles, as a factor.

    10 tiles of mean work 3 and longest 8 on 5 slots: total / S = 6, so 8 / 6 = 1.33. A kernel that starts its longest
    rows first comes close to it (Graham 1969: list scheduling in falling order is within 4/3 of the best).
    """
    shared = np.maximum(tiles, 1.0) * mean / slots
    ratio = np.divide(longest, shared, out=np.ones(np.broadcast(longest, shared).shape), where=shared > 0)
    return np.maximum(1.0, ratio)


def expected_longest(mean: Floats, extent: Floats, rows: Floats) -> Floats:
    """Expected largest of ``rows`` binomial counts with this mean out of ``extent``: mean + sqrt(2 ln R) sd.

    The leading term of the extreme value of R normals. Mean 64 of 256 over 64 rows: sd = sqrt(64 x 0.75) = 6.93,
    sqrt(2 ln 64) = 2.88, so 84.0. Never above ``extent``.
    """
    share = np.divide(mean, extent, out=np.zeros_like(mean), where=extent > 0)
    deviation = np.sqrt(np.maximum(mean * (1.0 - share), 0.0))
    most = mean + np.sqrt(2.0 * np.log(np.maximum(rows, 1.0))) * deviation
    return np.asarray(np.minimum(extent, most), dtype=np.float64)
