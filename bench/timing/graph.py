"""An unrolled CUDA graph of many calls, timed per replay: what a deployment that replays graphs sees."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import cycle
from time import perf_counter

from sparsity_roofline.bench.timing import flush, gpu
from sparsity_roofline.bench.timing.capture import Captured, capture
from sparsity_roofline.bench.timing.eventloop import EventLoop
from sparsity_roofline.bench.timing.monotonic import require_clocks_as_found
from sparsity_roofline.bench.timing.protocol import InvalidMeasurement, Regime, Samples, Stopping
from sparsity_roofline.kernels.protocol import Support
from sparsity_roofline.model.errors import UserError

FIRST_CALLS = 4  # in the pilot graph of a hot regime
REPLAY_NS = 400_000  # a replay lasts about this long: start-up and the events' resolution are below 1 % of it
MOST_CALLS = 256
PILOT = Stopping(minimum=5, maximum=5, seconds=1.0)


class GraphTimer:
    """Time of one replay divided by its calls; a sample is a replay.

    A sample is a mean over the graph's calls and holds the gaps between them (about 1 us a kernel, less where the
    device overlaps a kernel's start with another's end) and a share of the replay's own start. Busy time and span are
    the same.

    ``hot`` repeats one call. ``cold-clean`` goes round calls over distinct buffers (``measure_rotation``) instead of
    flushing, so reads are cold, but each call also pays for writing back the Y of an earlier one, as in a pipeline.
    ``cold-dirty`` cannot be had: nothing dirties the cache between calls.

    Args:
        settle_seconds: how long the device is kept busy before the process's first measurement.
    """

    name = "cuda-graph"

    def __init__(self, settle_seconds: float = gpu.CLOCKS_SETTLE_SECONDS) -> None:
        self._settle_seconds = settle_seconds

    def available(self) -> Support:
        """CUDA is all it needs to begin with; whether a call can be captured shows when it is measured."""
        return gpu.cuda_here()

    def measure(self, call: Callable[[], None], regime: Regime, stopping: Stopping) -> Samples:
        """See ``protocol.Timer.measure``.

        Raises:
            InvalidMeasurement: as ``measure_rotation``; a cold regime always, as one call reuses its own buffers.
            UserError: a regime that this timer cannot hold.
        """
        if regime.l2 != "hot":
            self._require(regime)
            raise InvalidMeasurement("one call cannot rotate its buffers: its inputs would be in the cache, not cold")
        return self.measure_rotation([call], regime, stopping)

    def measure_rotation(self, calls: Sequence[Callable[[], None]], regime: Regime, stopping: Stopping) -> Samples:
        """See ``protocol.RotatingTimer.measure_rotation``."""
        self._require(regime)
        if regime.l2 != "hot" and len(calls) < 2:
            raise InvalidMeasurement("a cold regime needs at least two calls over distinct buffers")
        support = self.available()
        if not support:
            raise InvalidMeasurement(support.reason)
        import torch

        device = torch.cuda.current_device()
        gpu.settle_clocks(device, self._settle_seconds)
        flush.reset_persisting_l2()
        began = perf_counter()
        following = cycle(calls)
        warm = gpu.warm_up(lambda: next(following)(), device)
        captured = _fill(calls, device)
        loop = _loop(captured, device)
        warm_up_s = perf_counter() - began
        return replace(loop.samples(stopping, captured.activities, warm.host_ns), warm_up_s=warm_up_s)

    def settle(self) -> None:
        """See ``protocol.SettlingTimer``."""
        gpu.settle(self._settle_seconds)

    def _require(self, regime: Regime) -> None:
        require_clocks_as_found(regime, self.name)
        if regime.l2 == "cold-dirty":
            raise UserError(f"timer {self.name} cannot dirty the cache between calls: ask for cold-clean or hot", 6)


def _fill(calls: Sequence[Callable[[], None]], device: int) -> Captured:
    """A graph of whole rounds of ``calls`` that lasts about ``REPLAY_NS``."""
    rounds = 1 if len(calls) > 1 else FIRST_CALLS
    pilot = capture([*calls] * rounds)
    if not pilot.activities:
        raise InvalidMeasurement("the call ran nothing on the device")
    loop = _loop(pilot, device)
    loop.run(PILOT)
    typical_ns = max(sorted(loop.times)[len(loop.times) // 2], 1.0)
    wanted = min(math.ceil(REPLAY_NS / typical_ns), MOST_CALLS)
    if wanted <= pilot.calls:
        return pilot
    return capture([*calls] * math.ceil(wanted / len(calls)))


def _loop(captured: Captured, device: int) -> EventLoop:
    replay = captured.graph.replay
    host_ns = gpu.warm_up(replay, device).host_ns
    return EventLoop(replay, flush.nothing, device, host_ns, captured.calls)
