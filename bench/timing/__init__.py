"""Timers, one a file, behind ``protocol.Timer``."""

from __future__ import annotations

from functools import cache

from sparsity_roofline.bench.timing.kineto import KinetoTimer
from sparsity_roofline.bench.timing.monotonic import MonotonicTimer
from sparsity_roofline.bench.timing.protocol import Timer
from sparsity_roofline.model.errors import UserError

__all__ = ["KinetoTimer", "MonotonicTimer", "timer_for"]


@cache
def timer_for(device: str) -> Timer:
    """The timer of a device: CUPTI records on ``cuda``, a monotonic clock on ``cpu``. One object a process.

    Ask its ``available()`` before measuring.

    Raises:
        UserError: any other device.
    """
    if device == "cuda":
        return KinetoTimer()
    if device == "cpu":
        return MonotonicTimer()
    raise UserError(f"no timer for device {device!r}: choose cuda or cpu")
