"""When to stop sampling, and how many samples to take next: the same rule for every timer."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sparsity_roofline.bench.timing.protocol import Stopping, StopReason
from sparsity_roofline.bench.timing.stats import interval_rank, median_interval

SETTLED_OVER = 64
"""Successive sample counts over which the noise must have kept still."""
SETTLED_WITHIN = 0.05
"""Relative standard deviation of the noise over those counts (nvbench's second clause has the same two figures)."""
SETTLED_FROM = 10
"""Samples a standard deviation needs before it is looked at."""


def half_width(values: Sequence[float]) -> float:
    """Half the width of the 95 % interval of the median; infinite while there are too few samples for one."""
    if len(values) == 0 or interval_rank(len(values)) == 0:
        return math.inf
    low, _, high = median_interval(values)
    return (high - low) / 2.0


def target(values: Sequence[float], stopping: Stopping) -> float:
    """The half-width to reach, in ns: the wider of the relative and the absolute one."""
    return max(stopping.half_width * median_interval(values)[1], stopping.half_width_ns)


def settled(values: Sequence[float]) -> bool:
    """Has the noise itself stopped changing, so that more samples would narrow nothing but the arithmetic?

    The noise after n samples is their relative standard deviation. It has settled when its own relative standard
    deviation over the last 64 counts n is below 5 % (nvbench's ``stdrel`` criterion, second clause). Fewer than 74
    samples never settle. One outlier moves the noise at once and so keeps it unsettled until it has been outweighed.
    """
    data = np.asarray(values, dtype=np.float64)
    if data.size < SETTLED_FROM + SETTLED_OVER:
        return False
    shifted = data - data[0]  # sums of squares of the deviations, not of the times: no digits are lost
    counts = np.arange(1, data.size + 1)[-SETTLED_OVER:]
    total, squares = np.cumsum(shifted)[-SETTLED_OVER:], np.cumsum(shifted**2)[-SETTLED_OVER:]
    mean = data[0] + total / counts
    spread = np.sqrt(np.maximum(squares - total**2 / counts, 0.0) / (counts - 1))
    if not (mean > 0).all():
        return False
    noise = spread / mean
    return bool(noise.std() <= SETTLED_WITHIN * noise.mean())


def stop(values: Sequence[float], elapsed_s: float, stopping: Stopping) -> StopReason | None:
    """The clause that ends sampling, or None to go on.

    ``minimum`` is always taken, however long it lasts: a median of fewer samples has no interval worth recording.
    """
    if len(values) < max(stopping.minimum, 1):
        return None
    if half_width(values) <= target(values, stopping):
        return "precise"
    if settled(values):
        return "settled"
    if len(values) >= stopping.maximum:
        return "samples"
    if elapsed_s >= stopping.seconds:
        return "time"
    return None


def next_batch(values: Sequence[float], elapsed_s: float, stopping: Stopping) -> int:
    """Samples to take next, at least 1: what is likely to suffice, within every cap.

    The interval narrows with the square root of the count. Asking for the likely rest at once (up to the settling
    window) keeps the number of batches small for timers whose batches are costly to start.
    """
    n = len(values)
    if n < stopping.minimum:
        return stopping.minimum - n
    width = half_width(values)
    want = stopping.minimum
    if math.isfinite(width):
        reach = target(values, stopping)
        ratio = width / reach if reach > 0 else math.inf
        want = math.ceil(min(n * ratio * ratio * 1.2, float(stopping.maximum))) - n
    affordable = want
    if elapsed_s > 0:
        affordable = int(min((stopping.seconds - elapsed_s) * n / elapsed_s, float(stopping.maximum)))
    room = stopping.maximum - n
    # A batch beyond the settling window would run past the point where the noise has settled.
    return max(1, min(max(want, min(10, stopping.minimum)), room, affordable, SETTLED_OVER))
