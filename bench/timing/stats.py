"""The median of timings and how well it is known: order statistics only, no assumption about the distribution."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import bdtr


@lru_cache(maxsize=4096)
def interval_rank(n: int, confidence: float = 0.95) -> int:
    """Rank k (from 1) such that [x_(k), x_(n+1-k)] covers the median with at least ``confidence``; 0 if none does.

    The count of samples below the true median is Binomial(n, 1/2), so the interval covers it with probability
    1 - 2 P(B <= k - 1). The largest such k is the narrowest symmetric interval (Conover, Practical Nonparametric
    Statistics, section 3.2). At 95 % there is none for n <= 5.
    """
    if n < 1 or not 0.0 < confidence < 1.0:
        raise ValueError(f"need n >= 1 and 0 < confidence < 1, not {n} and {confidence}")
    tail = (1.0 - confidence) / 2.0
    rank = 0
    while rank < n // 2 and bdtr(rank, n, 0.5) <= tail:
        rank += 1
    return rank


def median_interval(values: Sequence[float] | ArrayLike, confidence: float = 0.95) -> tuple[float, float, float]:
    """Distribution-free confidence interval of the median: (low, median, high), in the unit of ``values``.

    With too few samples for the confidence (n <= 5 at 95 %) the range (minimum, median, maximum) is returned: the
    widest interval the samples can give, whose coverage is only 1 - 2^(1 - n). ``interval_rank`` tells the two apart.

    Raises:
        ValueError: no values, or one that is not finite.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64).ravel())
    if ordered.size == 0 or not np.isfinite(ordered).all():
        raise ValueError("need at least one value, all finite")
    k = max(interval_rank(ordered.size, confidence), 1)
    return float(ordered[k - 1]), float(np.median(ordered)), float(ordered[ordered.size - k])
