"""What the timers of a GPU share: warming up, settled clocks, and how long the blocking kernel spins."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from time import perf_counter, perf_counter_ns

from sparsity_roofline.kernels.protocol import YES, Support

SHORT_SPIN_NS = 2_000
WARM_UP_CALLS = 5  # a block; the first call of all, which may compile, comes before
WARM_UP_BLOCKS = 12
WARM_UP_SECONDS = 0.1
SETTLED = 0.02  # two blocks agree
SETTLE = "SPARSITY_ROOFLINE_SETTLE_S"
"""Variable with fewer seconds for clocks to settle: for a process that takes the device over from another one that has
just kept it busy."""
LIGHT_LOAD_SECONDS = 0.6
LIGHT_SPIN_NS = 1_000_000
CLOCKS_SETTLE_SECONDS = 3.0  # once a process: clocks of a GPU oscillate for about this long under load (cutlass#3366)


def cuda_here() -> Support:
    """Is there an NVIDIA GPU that torch can use?"""
    try:
        import torch
    except ImportError:
        return Support("torch is not installed: pip install torch (a CUDA build)")
    if not torch.cuda.is_available():
        return Support("no NVIDIA GPU: torch.cuda.is_available() is False")
    return YES


@dataclass(frozen=True)
class WarmUp:
    """What warming up showed: median host time to enqueue one call, and wall time of one call in the last block, ns."""

    host_ns: float
    wall_ns: float


def warm_up(call: Callable[[], None], device: int) -> WarmUp:
    """Call until two blocks agree, within bounds."""
    import torch

    began = perf_counter()
    call()
    torch.cuda.synchronize(device)
    previous = float("inf")
    enqueue: list[int] = []
    for _ in range(WARM_UP_BLOCKS):
        block = perf_counter()
        for _ in range(WARM_UP_CALLS):
            before = perf_counter_ns()
            call()
            enqueue.append(perf_counter_ns() - before)
        torch.cuda.synchronize(device)
        now = perf_counter()
        spent = now - block
        if abs(spent - previous) <= SETTLED * previous or now - began > WARM_UP_SECONDS:
            break
        previous = spent
    return WarmUp(float(statistics.median(enqueue)), spent * 1e9 / WARM_UP_CALLS)


def cycles(ns: int, device: int) -> int:
    """Argument of ``torch.cuda._sleep`` that spins for at least ``ns`` at the highest clock."""
    import torch

    khz = int(getattr(torch.cuda.get_device_properties(device), "clock_rate", 0)) or 1_500_000
    return max(int(ns * khz / 1e6), 1)


def settle(seconds: float) -> None:
    """``settle_clocks`` of the current device, if there is a GPU."""
    if cuda_here():
        import torch

        settle_clocks(torch.cuda.current_device(), seconds)


@cache
def settle_clocks(device: int, seconds: float) -> None:
    """Keep the device busy once a process, so that the first measurement finds the clocks of the later ones.

    The load may run into the power limit, whose counters advance in steps of 0.1 s and whose reason stays up for half a
    second: a light load at the end lets both come to rest before anybody reads them.
    """
    import torch

    with suppress(ValueError):
        seconds = min(seconds, float(os.environ.get(SETTLE, "") or seconds))
    if seconds <= 0:
        return
    a = torch.randn(2048, 2048, device=f"cuda:{device}", dtype=torch.float16)
    end = perf_counter() + seconds
    while perf_counter() < end:
        for _ in range(50):
            torch.mm(a, a)
        torch.cuda.synchronize(device)
    end = perf_counter() + LIGHT_LOAD_SECONDS
    while perf_counter() < end:
        torch.cuda._sleep(cycles(LIGHT_SPIN_NS, device))
        torch.cuda.synchronize(device)
