"""When to stop sampling, and how many samples to take next: the same rule for every timer."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sparsity_roofline.bench.timing.protocol import Stopping, StopReason
from sparsity_roofline.bench.timing.stats import interval_rank, median_interval


def half_width(values: Sequence[float]) -> float:
    """Half the width of the 95 % interval of the median; infinite while there are too few samples for one."""
    if len(values) == 0 or interval_rank(len(values)) == 0:
        return math.inf
    low, _, high = median_interval(values)
    return (high - low) / 2.0


def target(values: Sequence[float], stopping: Stopping) -> float:
    """The half-width to reach, in ns: the wider of the relative and the absolute one."""
    return max(stopping.half_width * median_interval(values)[1], stopping.half_width_ns)


def stop(values: Sequence[float], elapsed_s: float, stopping: Stopping) -> StopReason | None:
    """The clause that ends sampling, or None to go on.

    ``minimum`` is always taken, however long it lasts: a median of fewer samples has no interval worth recording.
    """
    if len(values) < max(stopping.minimum, 1):
        return None
    if half_width(values) <= target(values, stopping):
        return "precise"
    if len(values) >= stopping.maximum:
        return "samples"
    if elapsed_s >= stopping.seconds:
        return "time"
    return None


def next_batch(values: Sequence[float], elapsed_s: float, stopping: Stopping) -> int:
    """Samples to take next, at least 1: what is likely to suffice, within every cap.

    The interval narrows with the square root of the count. Asking for the likely rest at once keeps the number of
    batches small for timers whose batches are costly to start.
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
    return max(1, min(max(want, min(10, stopping.minimum)), room, affordable))
