"""The GPU's timer: CUPTI activity records, collected by torch's profiler (Kineto).

Per sample one stream gets [flush][marker][call][marker]; ``segments`` makes samples of the trace. The marker is
``torch.cuda._sleep``, a one-thread spin kernel that no product uses. The opening one lasts about as long as the host
needs to enqueue the call, so that a call of several kernels finds them queued and its span shows the device's gaps,
not the host's. Starting and stopping the profiler costs milliseconds, so samples come in few, large batches.
"""

from __future__ import annotations

import os
import statistics
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache, partial
from time import perf_counter, sleep
from typing import Any

from sparsity_roofline.bench.timing import flush, gpu, nvml
from sparsity_roofline.bench.timing.monotonic import require_clocks_as_found
from sparsity_roofline.bench.timing.protocol import InvalidMeasurement, Regime, Samples, Stopping
from sparsity_roofline.bench.timing.segments import Activity, LostRecords, Segment, segment
from sparsity_roofline.bench.timing.stopping import next_batch, stop
from sparsity_roofline.kernels.protocol import YES, Support

# Read by libtorch: no log lines on stderr, and CUPTI stays set up between sessions (tearing it down is slow).
os.environ.setdefault("KINETO_LOG_LEVEL", "99")
os.environ.setdefault("TEARDOWN_CUPTI", "0")

LEAD_IN = 3  # flush passes ahead of the first sample: some versions lose a session's first records (pytorch#192021)
# The same loss on a larger scale: on a retry the samples start this long after the session (s).
PATIENCE = (0.0, 0.02, 0.1)
LONG_SPIN_NS = 1_000_000
COUNTED_CALLS = 3
SYNCHRONISATIONS = ("Context Sync", "Stream Sync", "Event Sync", "Stream Wait Event")


class KinetoTimer:
    """Device-busy time of calls on the current CUDA device and stream.

    Args:
        settle_seconds: how long the device is kept busy before the process's first measurement.
    """

    name = "cupti-kineto"

    def __init__(self, settle_seconds: float = gpu.CLOCKS_SETTLE_SECONDS) -> None:
        self._settle_seconds = settle_seconds
        self._patience = _Patience()

    def available(self) -> Support:
        """CUDA, torch's profiler with CUPTI, and records that do arrive."""
        support = gpu.cuda_here()
        if not support:
            return support
        import torch

        if torch.profiler.ProfilerActivity.CUDA not in torch.profiler.supported_activities():
            return Support("this build of torch has no CUPTI: install a CUDA build of torch")
        try:
            _names(torch.cuda.current_device())
        except InvalidMeasurement as error:
            return Support(str(error))
        return YES

    def measure(self, call: Callable[[], None], regime: Regime, stopping: Stopping) -> Samples:
        """See ``protocol.Timer.measure``.

        Raises:
            InvalidMeasurement: no timer here, records lost in every attempt, or a call that runs nothing on the device.
            UserError: a clock regime other than ``as-found``.
        """
        require_clocks_as_found(regime, self.name)
        support = self.available()
        if not support:
            raise InvalidMeasurement(support.reason)
        import torch

        device = torch.cuda.current_device()
        gpu.settle_clocks(device, self._settle_seconds)
        began = perf_counter()
        session = _Session(call, regime, device, self._patience)
        host_ns = session.warm_up()
        segments: list[Segment] = []
        started = perf_counter()
        reason = None
        while reason is None:
            busy = [s.busy_ns for s in segments]
            segments += session.batch(next_batch(busy, perf_counter() - started, stopping))
            counts = {s.activities for s in segments}
            if len(counts) > 1:
                raise InvalidMeasurement(f"the number of device activities varies between batches: {sorted(counts)}")
            if counts == {0}:
                raise InvalidMeasurement("the call ran nothing on the device")
            reason = stop([s.busy_ns for s in segments], perf_counter() - started, stopping)
        return Samples(
            busy_ns=[float(s.busy_ns) for s in segments],
            span_ns=[float(s.span_ns) for s in segments],
            kernels_per_call=segments[0].activities,
            stop_reason=reason,
            host_ns=host_ns,
            sm_clock_mhz=statistics.median(session.clocks) if session.clocks else None,
            clocks_mhz=session.clocks,
            warm_up_s=started - began,
        )

    def settle(self) -> None:
        """See ``protocol.SettlingTimer``."""
        gpu.settle(self._settle_seconds)


def activities_of(call: Callable[[], None], device: int) -> int:
    """Device activities of one call that has run before, hot; 0 if it runs nothing there.

    Raises:
        InvalidMeasurement: records are lost in every attempt, or their number varies.
    """
    return _Session(call, Regime("hot"), device).batch(COUNTED_CALLS)[0].activities


def device_activities(events: Iterable[Any], device: int) -> list[Activity]:
    """Kernels, copies and memsets of one device out of Kineto's raw events.

    Host events, annotations and synchronisation records are left out; newer versions say the kind of an activity,
    older ones record nothing else on the device once host activities are off.
    """
    activities = []
    for event in events:
        if event.device_type().name != "CUDA" or event.device_index() != device:
            continue
        kind = str(_ask(event, "activity_type", "")).lower()
        if kind.isidentifier() and not any(word in kind for word in ("kernel", "memcpy", "memset")):
            continue
        if _ask(event, "is_user_annotation", False) or event.name() in SYNCHRONISATIONS:
            continue
        start = int(event.start_ns())
        activities.append(Activity(event.name(), start, start + int(event.duration_ns())))
    return activities


def _ask(event: Any, question: str, otherwise: Any) -> Any:
    """An event's answer, where its version of torch has the question."""
    answer = getattr(event, question, None)
    return otherwise if answer is None else answer()


@dataclass
class _Patience:
    """The place in ``PATIENCE`` that last succeeded where an earlier one had not: later sessions start there."""

    level: int = 0


@dataclass
class _Session:
    """What one measurement keeps: the call, its regime, and what was read on the way."""

    call: Callable[[], None]
    regime: Regime
    device: int
    patience: _Patience = field(default_factory=_Patience)
    clocks: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        flush.reset_persisting_l2()
        self.flush = flush.gpu_flush(self.regime.l2, self.device)
        self.names = _names(self.device)
        self.handle = nvml.handle(nvml.device_uuid(self.device))
        self.spin_ns = gpu.SHORT_SPIN_NS

    def warm_up(self) -> float:
        """Call until two blocks agree, within bounds; median time to enqueue one call, ns."""
        host_ns = gpu.warm_up(self.call, self.device).host_ns
        self.spin_ns = int(min(max(1.25 * host_ns, gpu.SHORT_SPIN_NS), LONG_SPIN_NS))
        return host_ns

    def batch(self, samples: int) -> list[Segment]:
        """That many samples from one profiler session, tried again when records are lost."""
        lost = ""
        flushes = self.names.clean | (self.names.dirty if self.regime.l2 == "cold-dirty" else frozenset())
        for attempt in range(len(PATIENCE)):
            level = min(self.patience.level + attempt, len(PATIENCE) - 1)
            try:
                records = _record(partial(self._enqueue, samples, PATIENCE[level]), self.device)
                segments = segment(records, samples, self.names.marker, flushes)
            except LostRecords as error:
                lost = str(error)
            else:
                self.patience.level = level
                return segments
        raise InvalidMeasurement(f"in {len(PATIENCE)} attempts: {lost}")

    def _enqueue(self, samples: int, delay_s: float) -> None:
        import torch

        lead_in = flush.gpu_flush("cold-clean", self.device)
        for _ in range(LEAD_IN):
            lead_in()
        if delay_s:
            sleep(delay_s)
        spin = gpu.cycles(self.spin_ns, self.device)
        short = gpu.cycles(gpu.SHORT_SPIN_NS, self.device)
        for _ in range(samples):
            self.flush()
            torch.cuda._sleep(spin)
            self.call()
            torch.cuda._sleep(short)
        clock = nvml.sm_clock_mhz(self.handle)  # the queue is still full here: the clock is that of the samples
        if clock is not None:
            self.clocks.append(clock)


def _record(work: Callable[[], None], device: int) -> list[Activity]:
    """Device activities of ``work``, which must enqueue on the current stream."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    torch.cuda.synchronize(device)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="(?i).*(profiler|kineto)")  # on sessions without host activities
        with profile(activities=[ProfilerActivity.CUDA]) as session:
            work()
            torch.cuda.synchronize(device)
    results = session.profiler.kineto_results
    return device_activities(results.events() if results is not None else (), device)


@dataclass(frozen=True)
class _Names:
    """Names under which this build records the marker and the flush's kernels."""

    marker: frozenset[str]
    clean: frozenset[str]
    dirty: frozenset[str]


@cache
def _names(device: int) -> _Names:
    """Learn them in sessions of their own; the first of these also pays for the profiler's initialisation.

    Raises:
        InvalidMeasurement: nothing is recorded, or the marker cannot be told from the flush.
    """
    import torch

    passes = flush.gpu_flush("cold-clean", device), flush.gpu_flush("cold-dirty", device)
    names: list[frozenset[str]] = []
    for _ in PATIENCE:
        try:
            names = [_kernel_names(run, device) for run in (partial(torch.cuda._sleep, 1000), *passes)]
        except RuntimeError as error:
            raise InvalidMeasurement(f"the profiler does not start: {str(error).splitlines()[0]}") from error
        if all(names):
            break
    marker, clean, dirty = names
    if not (marker and clean and dirty):
        raise InvalidMeasurement(
            "the profiler records no kernels: CUPTI is missing or held by another tool (ncu, nsys, DCGM); "
            "stop it, and check that libcupti matches torch's CUDA version"
        )
    if marker & (clean | dirty) or len(marker) > 1:
        raise InvalidMeasurement(f"the marker cannot be told from other kernels: {sorted(marker)}")
    return _Names(marker, clean, dirty)


def _kernel_names(run: Callable[[], None], device: int) -> frozenset[str]:
    """Names of the kernels that ``run`` launches, from a session with several runs: the first may be lost."""

    def work() -> None:
        for _ in range(2 * LEAD_IN):
            run()

    return frozenset(r.name for r in _record(work, device) if not r.name.startswith(("Memset", "Memcpy")))
