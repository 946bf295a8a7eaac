"""One protocol for every timer, and the words for the conditions of a measurement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from sparsity_roofline.kernels.protocol import Support

L2State = Literal["cold-clean", "cold-dirty", "hot"]
Clocks = Literal["as-found", "fixed", "sustained"]
StopReason = Literal["precise", "settled", "samples", "time"]


@dataclass(frozen=True)
class Regime:
    """The conditions under which samples are taken. Samples of different regimes are never compared.

    Attributes:
        l2: state of the last-level cache before each call.
        clocks: what was done about clocks.
    """

    l2: L2State = "cold-clean"
    clocks: Clocks = "as-found"


@dataclass(frozen=True)
class Stopping:
    """When to stop sampling: the median's 95 % interval is narrow enough, the noise is known well enough that more
    samples would say nothing new about it (``stopping.settled``), or a cap is reached.

    Attributes:
        half_width: relative half-width of the interval to reach.
        half_width_ns: absolute half-width that is enough too (the device clock's grid is 32 ns).
        minimum, maximum: samples.
        seconds: wall time for the samples of one case.
        skip_above: a peer whose call takes more than so many times the dense product's is not timed; None times all.
    """

    half_width: float = 0.005
    half_width_ns: float = 64.0
    minimum: int = 20
    maximum: int = 200
    seconds: float = 2.0
    skip_above: float | None = None


@dataclass
class Samples:
    """What a timer saw.

    Attributes:
        busy_ns: device-busy time of each call (union of its kernels' intervals), in order of execution.
        span_ns: first start to last end of each call.
        kernels_per_call: device activities in one call; the same in every sample.
        discarded: samples left out for an outside cause, with the cause.
        stop_reason: which clause of ``Stopping`` fired.
        host_ns: median host time of the call itself (enqueue only on a GPU), or None.
        sm_clock_mhz: clock held during the samples, or None if it could not be read.
        clocks_mhz: every reading of the clock under load, in order, where the timer keeps them.
        warm_up_s: wall time spent before the first sample.
    """

    busy_ns: list[float]
    span_ns: list[float]
    kernels_per_call: int
    stop_reason: StopReason
    discarded: list[str] = field(default_factory=list)
    host_ns: float | None = None
    sm_clock_mhz: float | None = None
    clocks_mhz: list[float] = field(default_factory=list)
    warm_up_s: float = 0.0


class InvalidMeasurement(Exception):
    """The timer cannot vouch for its samples (lost records, varying kernel count): the row gets no time."""


@runtime_checkable
class Timer(Protocol):
    """Times calls of one function on one device.

    Attributes:
        name: goes into the record: ``cupti-kineto``, ``cuda-graph`` or ``cuda-events`` (GPU), ``monotonic`` (CPU).
    """

    name: str

    def available(self) -> Support:
        """Can it run here? If not, why, and what to do."""

    def measure(self, call: Callable[[], None], regime: Regime, stopping: Stopping) -> Samples:
        """Warm up, then sample ``call`` until ``stopping`` says enough.

        Raises:
            InvalidMeasurement: the samples cannot be trusted.
        """


@runtime_checkable
class SettlingTimer(Timer, Protocol):
    """A timer that brings the device's clocks to rest before the process's first samples."""

    def settle(self) -> None:
        """Do that now, unless it is done: a caller who reads throttle counters does not want its load among them."""


@runtime_checkable
class RotatingTimer(Timer, Protocol):
    """A timer that makes a call cold by going round several calls over distinct buffers, not by flushing."""

    def measure_rotation(self, calls: Sequence[Callable[[], None]], regime: Regime, stopping: Stopping) -> Samples:
        """Sample ``calls`` in turn; times are those of one call.

        Args:
            calls: the same work, each over buffers of its own. For a cold regime two at least, and between two uses of
                one buffer the others must fill the cache at least twice: the caller vouches for that.

        Raises:
            InvalidMeasurement: the samples cannot be trusted, or the calls cannot be measured this way.
            UserError: a regime that this timer cannot hold.
        """
