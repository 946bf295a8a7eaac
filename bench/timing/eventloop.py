"""Pairs of CUDA events around work that a blocking kernel holds back: what the event and the graph timer share.

Per sample one stream gets [flush][spin][event][work][event]. The spin kernel must last until the host has enqueued all
of it; whether it did is asked of the first event when the host is done: one that the device has passed by then means
that the device may have waited for the host inside the sample, which is left out, and the spin is made longer.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING

from sparsity_roofline.bench.timing import gpu, nvml
from sparsity_roofline.bench.timing.protocol import InvalidMeasurement, Samples, Stopping, StopReason
from sparsity_roofline.bench.timing.stopping import next_batch, stop

if TYPE_CHECKING:
    import torch

COVER = 1.5  # of the median host time: a spin also covers most slower calls
EVENTS_NS = 30_000  # on top: recording two events, a launch's way to the device
LONGEST_SPIN_NS = 10_000_000
BATCH = 100
HELD_BACK_TOO_LATE = "the host enqueued slower than the blocking kernel lasted"


@dataclass
class EventLoop:
    """Samples of ``work`` on the current stream.

    Attributes:
        work: what lies between the events.
        flush: runs before each sample, outside it.
        device: index of the GPU.
        host_ns: how long the host takes to enqueue ``work``.
        per_sample: calls in one ``work``; times are divided by it.
    """

    work: Callable[[], None]
    flush: Callable[[], None]
    device: int
    host_ns: float
    per_sample: int = 1
    times: list[float] = field(default_factory=list)
    discarded: list[str] = field(default_factory=list)
    clocks: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.spin_ns = int(min(COVER * self.host_ns + EVENTS_NS, LONGEST_SPIN_NS))
        self._handle = nvml.handle(nvml.device_uuid(self.device))
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    def samples(self, stopping: Stopping, activities: int, host_ns: float) -> Samples:
        """``run``, with what it saw; ``activities`` and ``host_ns`` are those of one call.

        Raises:
            InvalidMeasurement: as ``run``.
        """
        reason = self.run(stopping)
        return Samples(
            busy_ns=self.times,
            span_ns=list(self.times),
            kernels_per_call=activities,
            stop_reason=reason,
            discarded=self.discarded,
            host_ns=host_ns,
            sm_clock_mhz=statistics.median(self.clocks) if self.clocks else None,
            clocks_mhz=self.clocks,
        )

    def run(self, stopping: Stopping) -> StopReason:
        """Sample until ``stopping`` says enough.

        Raises:
            InvalidMeasurement: more samples were left out than kept.
        """
        started = perf_counter()
        reason: StopReason | None = None
        while reason is None:
            self._batch(min(next_batch(self.times, perf_counter() - started, stopping), BATCH))
            elapsed = perf_counter() - started
            if len(self.discarded) > max(len(self.times), stopping.minimum):
                raise InvalidMeasurement(
                    f"{len(self.discarded)} of {len(self.discarded) + len(self.times)} samples hold time of the host: "
                    f"the call waits for the device, or takes longer to enqueue than {self.spin_ns / 1e6:g} ms"
                )
            reason = stop(self.times, elapsed, stopping)
        return reason

    def _batch(self, samples: int) -> None:
        import torch

        while len(self._events) < samples:
            self._events.append((torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)))
        spin = gpu.cycles(self.spin_ns, self.device)
        late = []
        for before, after in self._events[:samples]:
            self.flush()
            torch.cuda._sleep(spin)
            before.record()
            self.work()
            after.record()
            late.append(before.query())
        clock = nvml.sm_clock_mhz(self._handle)  # the queue is still full here: the clock is that of the samples
        if clock is not None:
            self.clocks.append(clock)
        torch.cuda.synchronize(self.device)
        for (before, after), was_late in zip(self._events, late, strict=False):
            if was_late:
                self.discarded.append(HELD_BACK_TOO_LATE)
            else:
                self.times.append(before.elapsed_time(after) * 1e6 / self.per_sample)
        if any(late):
            self.spin_ns = min(2 * self.spin_ns, LONGEST_SPIN_NS)
