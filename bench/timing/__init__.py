"""Timers, one a file, behind ``protocol.Timer``."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from sparsity_roofline.bench.timing.events import EventsTimer
from sparsity_roofline.bench.timing.graph import GraphTimer
from sparsity_roofline.bench.timing.kineto import KinetoTimer
from sparsity_roofline.bench.timing.monotonic import MonotonicTimer
from sparsity_roofline.bench.timing.protocol import Timer
from sparsity_roofline.model.errors import UserError

__all__ = ["EventsTimer", "GraphTimer", "KinetoTimer", "MonotonicTimer", "timer_for", "timer_name", "timer_names"]

_TIMERS: dict[str, dict[str, Callable[[], Timer]]] = {
    "cuda": {KinetoTimer.name: KinetoTimer, GraphTimer.name: GraphTimer, EventsTimer.name: EventsTimer},
    "cpu": {MonotonicTimer.name: MonotonicTimer},
}
"""Timers of each device by name, the default one first."""


def timer_names(device: str | None = None) -> list[str]:
    """Names of a device's timers, the default one first; of all timers without a device.

    Raises:
        UserError: neither cuda nor cpu.
    """
    if device is None:
        return [name for timers in _TIMERS.values() for name in timers]
    if device not in _TIMERS:
        raise UserError(f"no timer for device {device!r}: choose {' or '.join(_TIMERS)}")
    return list(_TIMERS[device])


def timer_name(device: str, name: str | None = None) -> str:
    """The name of the timer that is used when ``name`` is asked for: that one, or without a name the device's default.

    Raises:
        UserError: the device has no such timer.
    """
    names = timer_names(device)
    if name is not None and name not in names:
        raise UserError(f"no timer {name!r} for {device}: choose {' or '.join(names)}")
    return name or names[0]


def timer_for(device: str, name: str | None = None) -> Timer:
    """The timer of that name, or the device's default: CUPTI records on ``cuda``, a monotonic clock on ``cpu``.

    One object a process. Ask its ``available()`` before measuring: nothing falls back to another timer.

    Raises:
        UserError: as ``timer_name``.
    """
    return _one(device, timer_name(device, name))


@cache
def _one(device: str, name: str) -> Timer:
    return _TIMERS[device][name]()
