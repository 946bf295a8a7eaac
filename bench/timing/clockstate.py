"""One word for what the clock did while samples were taken: steady, drifting, throttled or unknown.

The rule, in this order:

1. ``unknown``: no reading of the SM clock under load.
2. ``throttled``: a limit (power, thermal, power brake) held the clock down for at least a tenth of the time by NVML's
   counters; or some sign of a limit (a counter that grew, or a reason that was set right after the samples) goes with a
   clock under load that lies more than 1 % below the device's highest. A power-cap sign at the full clock is ordinary
   voltage and frequency scaling. The board and reliability counters are recorded and decide nothing: the latter runs
   all the time on parts at their highest clock.
3. ``drifting``: readings under load lie more than 1 % apart, which is two steps of 15 MHz at 1980 MHz.
4. ``unknown``: neither counters nor reasons can be read, so that a limit between two readings cannot be excluded.
5. ``steady``.

Readings before and after the samples count as load, except one of an idle device that is lower than those of the timer:
idle lets clocks fall, and nothing follows for the samples. The label leaves no sample out; it says what to compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from sparsity_roofline.bench.timing.counters import IDLE, LIMITED, Number, Reading, grown
from sparsity_roofline.bench.timing.nvml import Why

ClockState = Literal["steady", "drifting", "throttled", "unknown"]

APART = 0.01
MOSTLY = 0.1
DECIDING = (
    "throttle_power_ns", "throttle_thermal_ns", "throttle_sw_thermal_ns", "throttle_hw_thermal_ns",
    "throttle_power_brake_ns",
)  # fmt: skip


def under_load(before: Reading, during: Sequence[float], after: Reading) -> list[float]:
    """Clock readings that tell of the samples, MHz."""
    clocks = [float(c) for c in during]
    for look in (before, after):
        clock = look.sm_clock_mhz
        if isinstance(clock, str) or not during:
            continue
        idle = isinstance(look.reasons, int) and bool(look.reasons & IDLE)
        if not (idle and clock < min(during)):
            clocks.append(float(clock))
    return clocks


def clock_state(before: Reading, during: Sequence[float], after: Reading, highest_mhz: Number | Why) -> ClockState:
    """The label; see the module's text for the rule.

    Args:
        before, after: readings around the samples.
        during: the timer's readings of the SM clock while samples were taken, MHz.
        highest_mhz: the device's highest SM clock.
    """
    clocks = under_load(before, during, after)
    if not clocks:
        return "unknown"
    growth = [grown(before.violations.get(c, "not_supported"), after.violations.get(c, "not_supported"))
              for c in DECIDING]  # fmt: skip
    counted = [g for g in growth if not isinstance(g, str)]
    flagged = isinstance(after.reasons, int) and bool(after.reasons & LIMITED)
    wall_ns = max(after.at_s - before.at_s, 0.0) * 1e9
    if any(g > 0 and g >= MOSTLY * wall_ns for g in counted):
        return "throttled"
    lowered = isinstance(highest_mhz, str) or min(clocks) < (1 - APART) * highest_mhz
    if (flagged or any(g > 0 for g in counted)) and lowered:
        return "throttled"
    if max(clocks) - min(clocks) > APART * max(clocks):
        return "drifting"
    if not counted and isinstance(after.reasons, str):
        return "unknown"
    return "steady"
