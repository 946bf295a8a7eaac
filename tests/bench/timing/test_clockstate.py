"""The label of a set from synthetic readings."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsity_roofline.bench.timing.clockstate import clock_state
from sparsity_roofline.bench.timing.counters import VIOLATIONS, Reading

NOTHING: dict[str, Any] = dict.fromkeys(VIOLATIONS, 1_000)


def at(seconds: float = 0.0, clock: Any = 1980, reasons: Any = 0, **counted: Any) -> Reading:
    return Reading(seconds, clock, 2619, 400.0, 40, reasons, {**NOTHING, **counted}, frozenset())


def label(before: Reading, during: list[float], after: Reading, highest: Any = 1980) -> str:
    return clock_state(before, during, after, highest)


def test_steady() -> None:
    assert label(at(), [1980.0, 1980.0], at(0.5)) == "steady"


def test_one_step_of_the_clock_is_steady_two_are_drift() -> None:
    assert label(at(), [1980.0, 1965.0], at(0.5)) == "steady"
    assert label(at(), [1980.0, 1950.0], at(0.5)) == "drifting"


def test_a_cap_of_the_application_clock_is_steady() -> None:
    assert label(at(0, 1410, 0x2), [1410.0], at(0.5, 1410, 0x2)) == "steady"


def test_the_power_cap_by_its_counter() -> None:
    assert label(at(), [1755.0], at(0.5, 1755, throttle_power_ns=200_001_000)) == "throttled"


def test_a_limit_that_acted_most_of_the_time_throttles_whatever_the_clock_reads() -> None:
    """Readings are moments: on an H100 a dip between two of them is seen by the counters alone."""
    assert label(at(), [1980.0], at(1.0, throttle_hw_thermal_ns=200_001_001)) == "throttled"
    assert label(at(), [1980.0], at(1.0, throttle_hw_thermal_ns=200_001_000)) == "steady"


def test_a_power_cap_sign_at_the_full_clock_is_no_throttling() -> None:
    assert label(at(), [1980.0], at(1.0, 1980, 0x4, throttle_power_ns=5_001_000)) == "steady"


@pytest.mark.parametrize("bit", [0x4, 0x8, 0x20, 0x40, 0x80])
def test_a_reason_with_a_lower_clock_throttles(bit: int) -> None:
    assert label(at(), [1813.0], at(0.5, 1813, bit)) == "throttled"


@pytest.mark.parametrize("bit", [0x1, 0x2, 0x10, 0x100])
def test_other_reasons_do_not(bit: int) -> None:
    assert label(at(0, 1410), [1410.0, 1410.0], at(0.5, 1410, bit)) == "steady"


def test_without_the_highest_clock_any_sign_counts() -> None:
    assert label(at(), [1980.0], at(1.0, 1980, 0x4), "not_supported") == "throttled"


@pytest.mark.parametrize("column", ["throttle_reliability_ns", "throttle_board_ns"])
def test_the_counters_that_always_run_decide_nothing(column: str) -> None:
    assert label(at(), [1980.0], at(1.0, **{column: 1_000_001_000})) == "steady"


def test_a_slow_fall_is_drift() -> None:
    """1965 to 1580 MHz within 100 iterations on a B200 (flashinfer#2899), had the driver shown no reason for it."""
    fall = [1965.0 - 3.85 * i for i in range(101)]
    assert label(at(0, 1965), fall, at(0.5, 1580), 1965) == "drifting"


def test_readings_of_an_idle_device_say_nothing_of_the_samples() -> None:
    """An H100 that has just been woken reads 345 MHz before the first case."""
    assert label(at(0, 345, 0x1), [1980.0], at(0.5, 1980)) == "steady"
    assert label(at(), [1980.0], at(0.5, 345, 0x1)) == "steady"


def test_a_recovered_clock_hides_no_throttling() -> None:
    """Seen on an H100: 1320 MHz under a 697 W load, 1965 MHz with the reason still up 0.1 s after it."""
    assert label(at(), [1320.0], at(0.1, 1965, 0x4)) == "throttled"


def test_what_a_heavy_case_left_behind_is_not_put_on_its_neighbour() -> None:
    """Its reason is still up, and the counter's last step of 0.1 s falls into the next case."""
    assert label(at(0, 1965, 0x4), [1980.0, 1980.0], at(0.3, 1980, 0x4, throttle_power_ns=100_001_000)) == "steady"


@pytest.mark.parametrize("why", ["no_library", "not_supported", "no_permission"])
def test_no_clock_under_load_is_unknown(why: str) -> None:
    """Without NVML the run goes on, and its label is unknown; nvbench instead discarded every sample (nvbench#231)."""
    nothing = Reading(0.0, why, why, why, why, why, dict.fromkeys(VIOLATIONS, why), why)  # type: ignore[arg-type]
    assert label(nothing, [], nothing, why) == "unknown"
    assert label(at(), [], at(0.5)) == "unknown"


def test_a_clock_without_any_throttle_evidence_is_unknown_unless_it_moved() -> None:
    blind = dict.fromkeys(VIOLATIONS, "no_permission")
    before, after = at(0, 1980, "no_permission", **blind), at(1, 1980, "no_permission", **blind)
    assert label(before, [1980.0], after) == "unknown"
    assert label(before, [1980.0, 1800.0], after) == "drifting"
    assert label(before, [1980.0], at(1, 1980, 0, **blind)) == "steady", "reasons are evidence, too"


@given(st.lists(st.floats(200, 3000), max_size=20), st.integers(0, 0x1FF), st.integers(0, 10**10))
def test_every_set_has_a_label(during: list[float], reasons: int, grown: int) -> None:
    found = label(at(), during, at(1.0, 1500, reasons, throttle_power_ns=1000 + grown))
    assert found in ("steady", "drifting", "throttled", "unknown")
    assert (found == "unknown") == (not during)
