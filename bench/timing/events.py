"""CUDA events around each call, behind a blocking kernel: the fallback that needs no profiler."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from time import perf_counter

from sparsity_roofline.bench.timing import flush, gpu
from sparsity_roofline.bench.timing.capture import capture
from sparsity_roofline.bench.timing.eventloop import EventLoop
from sparsity_roofline.bench.timing.kineto import KinetoTimer, activities_of
from sparsity_roofline.bench.timing.monotonic import require_clocks_as_found
from sparsity_roofline.bench.timing.protocol import InvalidMeasurement, Regime, Samples, Stopping
from sparsity_roofline.kernels.protocol import Support


class EventsTimer:
    """Time from event to event around one call.

    It reads more than device-busy time: the gap from the first event to the first kernel, gaps between kernels and the
    way to the second event, 1 to 3 us for a call of one kernel, in steps of the events' resolution (0.5 us documented).
    The host's launch cost is kept out by the blocking kernel; samples where it was not are left out and counted. Busy
    time and span are the same here. Use it from 100 us up, where the constant is below 3 %, or where CUPTI cannot be
    had; it is never compared with another timer.

    Args:
        settle_seconds: how long the device is kept busy before the process's first measurement.
    """

    name = "cuda-events"

    def __init__(self, settle_seconds: float = gpu.CLOCKS_SETTLE_SECONDS) -> None:
        self._settle_seconds = settle_seconds

    def available(self) -> Support:
        """CUDA is all it needs."""
        return gpu.cuda_here()

    def measure(self, call: Callable[[], None], regime: Regime, stopping: Stopping) -> Samples:
        """See ``protocol.Timer.measure``.

        Raises:
            InvalidMeasurement: no GPU, a call that runs nothing on the device or waits for it, or too many samples
                that hold time of the host.
            UserError: a clock regime that this timer does not hold.
        """
        require_clocks_as_found(regime, self.name)
        support = self.available()
        if not support:
            raise InvalidMeasurement(support.reason)
        import torch

        device = torch.cuda.current_device()
        gpu.settle_clocks(device, self._settle_seconds)
        flush.reset_persisting_l2()
        began = perf_counter()
        warm = gpu.warm_up(call, device)
        activities = count_activities(call, device)
        if not activities:
            raise InvalidMeasurement("the call ran nothing on the device")
        loop = EventLoop(call, flush.gpu_flush(regime.l2, device), device, warm.host_ns)
        warm_up_s = perf_counter() - began
        return replace(loop.samples(stopping, activities, warm.host_ns), warm_up_s=warm_up_s)

    def settle(self) -> None:
        """See ``protocol.SettlingTimer``."""
        gpu.settle(self._settle_seconds)


def count_activities(call: Callable[[], None], device: int) -> int:
    """Kernels of a call, which events cannot see: from the profiler, or without it from a captured graph.

    Raises:
        InvalidMeasurement: neither can tell.
    """
    profiler = KinetoTimer().available()
    try:
        return activities_of(call, device) if profiler else capture([call]).activities
    except InvalidMeasurement as error:
        without = "" if profiler else f" and {profiler.reason}"
        raise InvalidMeasurement(f"the call's kernels cannot be counted: {error}{without}") from error
