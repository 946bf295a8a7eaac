"""One word for what the clock did while samples were taken: steady, drifting, throttled or unknown.

The rule, in this order:

1. ``unknown``: no reading of the SM clock under load.
2. ``throttled``: some sign of a limit (power, thermal, power brake: a counter that grew, or a reason that is set after
   the samples) goes with a clock under load more than 1 % below the device's highest; or, whatever the clock reads, a
   counter grew by more than a tenth of the time and one of its own steps. A power-cap sign at the full clock is
   ordinary voltage and frequency scaling. The board and reliability counters are recorded and decide nothing: the
   latter runs all the time on parts at their highest clock.
3. ``drifting``: readings under load lie more than 1 % apart, which is two steps of 15 MHz at 1980 MHz.
4. ``unknown``: neither counters nor reasons can be read, so that a limit between two readings cannot be excluded.
5. ``steady``.

Only the timer's readings count as load. Those before and after the case do not: on an H100 the clock is back at
1965 MHz 0.1 s after a load that held it at 1320, and an idle device lets it fall. Seen there, too: the counters advance
in steps of 0.1 s, and the reason of a power cap stays up for 0.2 to 0.5 s: a case of 0.1 s shows one of the two.
The label leaves no sample out; it says what to compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from sparsity_roofline.bench.timing.counters import LIMITED, Number, Reading, grown
from sparsity_roofline.bench.timing.nvml import Why

ClockState = Literal["steady", "drifting", "throttled", "unknown"]

APART = 0.01
MOSTLY = 0.1
STEP_NS = 1e8
DECIDING = (
    "throttle_power_ns", "throttle_thermal_ns", "throttle_sw_thermal_ns", "throttle_hw_thermal_ns",
    "throttle_power_brake_ns",
)  # fmt: skip


def clock_state(before: Reading, during: Sequence[float], after: Reading, highest_mhz: Number | Why) -> ClockState:
    """The label; see the module's text for the rule.

    Args:
        before, after: readings around the samples.
        during: the timer's readings of the SM clock while samples were taken, MHz.
        highest_mhz: the device's highest SM clock.
    """
    if not during:
        return "unknown"
    growth = [grown(before.violations.get(c, "not_supported"), after.violations.get(c, "not_supported"))
              for c in DECIDING]  # fmt: skip
    counted = [g for g in growth if not isinstance(g, str)]
    flagged = isinstance(after.reasons, int) and bool(after.reasons & LIMITED)
    wall_ns = max(after.at_s - before.at_s, 0.0) * 1e9
    if any(g > MOSTLY * wall_ns + STEP_NS for g in counted):
        return "throttled"
    lowered = isinstance(highest_mhz, str) or min(during) < (1 - APART) * highest_mhz
    if (flagged or any(g > 0 for g in counted)) and lowered:
        return "throttled"
    if max(during) - min(during) > APART * max(during):
        return "drifting"
    if not counted and isinstance(after.reasons, str):
        return "unknown"
    return "steady"
