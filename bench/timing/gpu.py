"""What the timers of a GPU share: warming up, settled clocks, and how long the blocking kernel spins."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from time import perf_counter, perf_counter_ns

from sparsity_roofline.kernels.protocol import YES, Support

SHORT_SPIN_NS = 2_000
WARM_UP_CALLS = 5  # a block; the first call of all, which may compile, comes before
WARM_UP_BLOCKS = 12
WARM_UP_SECONDS = 0.1
SETTLED = 0.02  # two blocks agree
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


@cache
def settle_clocks(device: int, seconds: float) -> None:
    """Keep the device busy once a process, so that the first measurement finds the clocks of the later ones."""
    import torch

    if seconds <= 0:
        return
    a = torch.randn(2048, 2048, device=f"cuda:{device}", dtype=torch.float16)
    end = perf_counter() + seconds
    while perf_counter() < end:
        for _ in range(50):
            torch.mm(a, a)
        torch.cuda.synchronize(device)
