"""The conditions around one case: what was read before and after its samples, and whether the samples may stand."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparsity_roofline.bench.timing import counters, nvml
from sparsity_roofline.bench.timing.clocks import Lock, lock_of, require_held
from sparsity_roofline.bench.timing.clockstate import ClockState, clock_state
from sparsity_roofline.bench.timing.counters import EnergyMeter, Number, Reading
from sparsity_roofline.bench.timing.nvml import Why
from sparsity_roofline.bench.timing.protocol import Clocks, InvalidMeasurement, Samples

MOST_LEFT_OUT = 0.05
"""Share of samples that may be left out before the set says nothing any more."""

_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


@dataclass(frozen=True)
class HostReading:
    """One look at the host.

    Attributes:
        load: runnable processes, averaged over a minute.
        affinity: logical CPUs this process may run on, as ``0-3,8``.
        governor: what sets the first CPU's clock.
    """

    load: float | Why
    affinity: str | Why
    governor: str | Why


@dataclass
class Conditions:
    """Readings around a case. ``None`` is a reading that was never taken: no GPU in use, or the region still open.

    Attributes:
        before, after, host_before, host_after: the readings.
        highest_mhz: the GPU's highest SM clock.
        foreign: other compute processes on the GPU.
        energy: mJ and the seconds they cover, where the meter was due.
        samples: what the timer brought, if it did.
        clocks: the regime asked for.
        lock: what holds the clock, under ``fixed``.
    """

    before: Reading | None = None
    after: Reading | None = None
    host_before: HostReading | None = None
    host_after: HostReading | None = None
    highest_mhz: Number | Why = "no_library"
    foreign: int | Why = "no_library"
    energy: tuple[Number | Why, float] | None = None
    samples: Samples | None = None
    clocks: Clocks = "as-found"
    lock: Lock | None = None

    def clocks_mhz(self) -> list[float]:
        """The timer's readings of the SM clock while samples were taken."""
        if self.samples is None:
            return []
        held = self.samples.sm_clock_mhz
        return list(self.samples.clocks_mhz) or ([held] if held is not None else [])

    def clock_state(self) -> ClockState:
        """The label of the set (``clockstate`` has the rule); ``unknown`` on a CPU, whose clocks are not read."""
        if self.before is None or self.after is None:
            return "unknown"
        return clock_state(self.before, self.clocks_mhz(), self.after, self.highest_mhz)

    def judge(self, samples: Samples) -> None:
        """Hold the samples against the conditions.

        With a foreign process on the GPU every sample of the set is left out, for that cause: readings before and
        after cannot tell which of them it disturbed.

        Raises:
            InvalidMeasurement: more than 5 % of the samples are left out, or the clock was not held as asked.
        """
        if isinstance(self.foreign, int) and self.foreign > 0:
            cause = f"{self.foreign} other compute process{'es' if self.foreign > 1 else ''} on the GPU"
            samples.discarded += [cause] * len(samples.busy_ns)
            samples.busy_ns, samples.span_ns = [], []
        require_enough(samples)
        if self.clocks == "fixed":
            require_held(self.lock, samples.sm_clock_mhz)

    def columns(self) -> dict[str, Any]:
        """Columns of the record by name; a word instead of a value where there is none."""
        out: dict[str, Any] = {}
        if self.before is not None and self.after is not None:
            out |= _gpu_columns(self.before, self.after, self.clocks_mhz())
            if self.energy is not None:
                out["energy_mj"], out["energy_s"] = self.energy
            out["foreign_processes"] = self.foreign
            out["clock_state"] = self.clock_state()
        if self.host_before is not None and self.host_after is not None:
            out["load_before"], out["load_after"] = self.host_before.load, self.host_after.load
            out["cpu_affinity"], out["cpu_governor"] = self.host_after.affinity, self.host_after.governor
        return out


def require_enough(samples: Samples) -> None:
    """Refuse a set of which more than 5 % is left out.

    Raises:
        InvalidMeasurement: with how many, of how many, and the commonest cause.
    """
    kept, out = len(samples.busy_ns), len(samples.discarded)
    if out and out > MOST_LEFT_OUT * (kept + out):
        cause = max(set(samples.discarded), key=samples.discarded.count)
        raise InvalidMeasurement(f"{out} of {kept + out} samples left out: {cause}; stop it, or choose an idle device")


@contextmanager
def watched(device: str, found: Conditions) -> Iterator[Conditions]:
    """Read the device and the host into ``found`` before and after the block; after an error in it, too.

    Args:
        device: ``cuda`` (the current one) or ``cpu``.
    """
    found.host_before = read_host()
    if device == "cuda":
        meter = _meter()
        meter.begin()
        gpu = meter.device_handle
        found.highest_mhz = counters.highest_clock_mhz(gpu)
        found.before = counters.read(gpu)
        if found.clocks == "fixed":
            found.lock = lock_of(nvml.device_uuid())
    try:
        yield found
    finally:
        if device == "cuda":
            found.after = counters.read(gpu)
            found.energy = meter.read()
            found.foreign = _foreign(found)
        found.host_after = read_host()


def read_host(governor: Path = _GOVERNOR) -> HostReading:
    """Load, affinity and governor of this machine, each a value or why not."""
    try:
        load: float | Why = os.getloadavg()[0]
    except (OSError, AttributeError):
        load = "not_supported"
    try:
        affinity: str | Why = ranges(os.sched_getaffinity(0))
    except (OSError, AttributeError):  # no such call on this system
        affinity = "not_supported"
    return HostReading(load, affinity, _first_line(governor))


def ranges(numbers: set[int]) -> str:
    """Whole numbers as Linux writes CPU lists: ``0-3,8``."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def _first_line(path: Path) -> str | Why:
    try:
        return path.read_text(encoding="ascii").strip()
    except PermissionError:
        return "no_permission"
    except OSError:
        return "not_supported"


def _meter() -> EnergyMeter:
    import torch

    return counters.energy_meter(torch.cuda.current_device())


def _foreign(found: Conditions) -> int | Why:
    """The larger count of the two looks: who was there at either end was there during samples."""
    looks = (found.before, found.after)
    counts = [
        counters.foreign(look.pids, counters.family, os.getpid(), context=_has_context()) for look in looks if look
    ]
    numbers = [c for c in counts if not isinstance(c, str)]
    return max(numbers) if numbers else counts[0]


def _has_context() -> bool:
    import torch

    return bool(torch.cuda.is_initialized())


def _gpu_columns(before: Reading, after: Reading, during: list[float]) -> dict[str, Any]:
    out: dict[str, Any] = {
        "watched_s": after.at_s - before.at_s,
        "sm_clock_before_mhz": before.sm_clock_mhz,
        "sm_clock_after_mhz": after.sm_clock_mhz,
        "sm_clock_low_mhz": min(during) if during else None,
        "sm_clock_high_mhz": max(during) if during else None,
        "memory_clock_mhz": after.memory_clock_mhz,
        "power_w": after.power_w,
        "temperature_c": after.temperature_c,
        "throttle_reasons_before": before.reasons,
        "throttle_reasons_after": after.reasons,
    }
    for column in counters.VIOLATIONS:
        out[column] = counters.grown(
            before.violations.get(column, "not_supported"), after.violations.get(column, "not_supported")
        )
    return out


def split(columns: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Values, and the words of what has none."""
    words = {k: v for k, v in columns.items() if not nvml.known(v)}
    return {k: v for k, v in columns.items() if k not in words}, words
