"""What NVML says of a GPU before and after a case, and what grew in between.

Every figure is a value or one of ``not_supported``, ``no_permission``, ``no_library``. A reading takes about 50 us on
an H100, allocates nothing on the device and waits for nothing. The driver brings cumulative counters up to date in
steps of 0.1 s: the delta of one short case may hold time of its neighbour; over a run they add up. The energy counter
alone takes milliseconds to read (2.5 on an H100), so it is read once a second at most (``EnergyMeter``).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from time import perf_counter
from typing import Any, cast

from sparsity_roofline.bench.timing import nvml
from sparsity_roofline.bench.timing.nvml import Why

Number = int | float

ENERGY = 83
VIOLATIONS = {
    "throttle_power_ns": 74,
    "throttle_thermal_ns": 75,
    "throttle_board_ns": 77,
    "throttle_reliability_ns": 79,
    "throttle_sw_thermal_ns": 269,
    "throttle_hw_thermal_ns": 270,
    "throttle_power_brake_ns": 271,
}
"""Record column -> NVML field. Each counts the ns during which that limit held the clock down, since the driver loaded.
Field 74 is NVML's SW power cap, too. The last three have other numbers under drivers before 575."""

RENUMBERED = 575
"""First driver branch in which fields 269 to 271 have the meaning above."""

IDLE = 0x1
LIMITED = 0x4 | 0x8 | 0x20 | 0x40 | 0x80
"""Reasons that hold the clock below what was asked for: SW power cap, HW slowdown, SW and HW thermal, power brake."""


@dataclass(frozen=True)
class Reading:
    """One look at a GPU.

    Attributes:
        at_s: ``perf_counter`` at the look.
        sm_clock_mhz, memory_clock_mhz: clocks now.
        power_w: of the board, averaged by the driver over about a second on most parts.
        temperature_c: of the chip.
        reasons: NVML's bitmask of what decides the clock now.
        violations: ``VIOLATIONS`` by column.
        pids: processes with a compute context, as NVML numbers them.
    """

    at_s: float
    sm_clock_mhz: Number | Why
    memory_clock_mhz: Number | Why
    power_w: Number | Why
    temperature_c: Number | Why
    reasons: int | Why
    violations: dict[str, Number | Why]
    pids: frozenset[int] | Why


def read(device_handle: Any, *, library: Any | None = None) -> Reading:
    """Read the device behind an NVML handle (or a word for why there is none)."""

    def ask(question: Callable[[Any, Any], Any]) -> Any:
        if not nvml.known(device_handle):
            return device_handle
        return nvml.probe(lambda n: question(n, device_handle), library=library)

    milliwatts = ask(lambda n, h: n.nvmlDeviceGetPowerUsage(h))
    fields = nvml.field_values(device_handle, _fields(library), library=library)
    absent = "not_supported" if nvml.known(device_handle) else cast(Why, device_handle)
    return Reading(
        at_s=perf_counter(),
        sm_clock_mhz=ask(lambda n, h: n.nvmlDeviceGetClockInfo(h, n.NVML_CLOCK_SM)),
        memory_clock_mhz=ask(lambda n, h: n.nvmlDeviceGetClockInfo(h, n.NVML_CLOCK_MEM)),
        power_w=milliwatts / 1000 if nvml.known(milliwatts) else milliwatts,
        temperature_c=ask(lambda n, h: n.nvmlDeviceGetTemperature(h, n.NVML_TEMPERATURE_GPU)),
        reasons=ask(_reasons),
        violations={column: fields.get(number, absent) for column, number in VIOLATIONS.items()},
        pids=nvml.compute_pids(device_handle, library=library),
    )


@dataclass
class EnergyMeter:
    """Energy of a device between readings at least ``every_s`` apart.

    What is read therefore covers everything since the last reading, cases and the time between them; over a run the
    figures add up, and energy over time is the mean power.
    """

    device_handle: Any
    every_s: float = 1.0
    library: Any | None = None
    _last: tuple[float, Number | Why] | None = None

    def begin(self) -> None:
        """The first reading of all, with which the next is compared; nothing if there is one."""
        if self._last is None:
            self._last = (perf_counter(), self._now())

    def read(self) -> tuple[Number | Why, float] | None:
        """(mJ or why not, seconds covered) since the last reading; None where that is less than ``every_s`` ago."""
        now = perf_counter()
        if self._last is None or now - self._last[0] < self.every_s:
            return None
        last, self._last = self._last, (now, self._now())
        return grown(last[1], self._last[1]), now - last[0]

    def _now(self) -> Number | Why:
        return nvml.field_values(self.device_handle, (ENERGY,), library=self.library)[ENERGY]


@cache
def energy_meter(device: int) -> EnergyMeter:
    """The one meter of a CUDA device in this process; by number, since NVML's handles have no hash."""
    return EnergyMeter(current_handle(device))


def grown(before: Number | Why, after: Number | Why) -> Number | Why:
    """The delta of a cumulative counter, or why there is none. One that ran backwards (a reset) gives none."""
    for value in (before, after):
        if isinstance(value, str):
            return value
    assert not isinstance(before, str)
    assert not isinstance(after, str)
    return after - before if after >= before else "not_supported"


def foreign(pids: frozenset[int] | Why, family: Callable[[], frozenset[int]], own: int, *, context: bool) -> int | Why:
    """Compute processes on the device that do not belong to this measurement.

    Where this process is not in the list under its own number although it has a context there, NVML numbers processes
    as another namespace does (a container): one of the entries is this process, and the rest counts as foreign. An
    empty list then means that processes are hidden.

    Args:
        pids: from NVML.
        family: this process's parents and children, which wait for it; asked only when a number is unexplained.
        own: number of this process.
        context: does this process have a context on the device?
    """
    if isinstance(pids, str):
        return pids
    if own not in pids and context:
        return len(pids) - 1 if pids else "not_supported"
    others = pids - {own}
    return len(others - family()) if others else 0


def family() -> frozenset[int]:
    """Numbers of this process's ancestors and descendants."""
    try:
        import psutil

        me = psutil.Process()
        return frozenset(p.pid for p in [*me.parents(), *me.children(recursive=True)])
    except Exception:  # no psutil, or a process that ended in the meantime
        return frozenset({os.getppid()})


@cache
def current_handle(device: int) -> Any:
    """NVML's handle of a CUDA device, found by UUID once a process; CUDA must be there."""
    return nvml.handle(nvml.device_uuid(device))


def highest_clock_mhz(device_handle: Any, *, library: Any | None = None) -> Number | Why:
    """The highest SM clock the device has."""
    if not nvml.known(device_handle):
        return cast(Why, device_handle)
    found: Number | Why = nvml.probe(
        lambda n: int(n.nvmlDeviceGetMaxClockInfo(device_handle, n.NVML_CLOCK_SM)), library=library
    )
    return found


def _reasons(library: Any, device_handle: Any) -> int:
    ask = getattr(library, "nvmlDeviceGetCurrentClocksEventReasons", None)
    return int((ask or library.nvmlDeviceGetCurrentClocksThrottleReasons)(device_handle))


def _fields(library: Any | None) -> tuple[int, ...]:
    """The fields this driver has under these numbers."""
    driver = nvml.probe(lambda n: n.nvmlSystemGetDriverVersion(), library=library)
    branch = str(driver).partition(".")[0]
    renumbered = branch.isdigit() and int(branch) >= RENUMBERED
    return tuple(number for number in VIOLATIONS.values() if number < 200 or renumbered)
