"""Readings against an NVML on paper: a value or a word, deltas, and who else is on the GPU."""

from __future__ import annotations

import time
from typing import Any

import pytest

from sparsity_roofline.bench.timing import counters, nvml
from sparsity_roofline.bench.timing.counters import VIOLATIONS, foreign, grown, read

from .._nvml import Err, FakeNvml


def look(fake: FakeNvml) -> counters.Reading:
    return read(nvml.handle("1", library=fake), library=fake)


def test_every_figure_of_the_device_asked_for() -> None:
    """NVML once watched GPU 0 while the job ran on another (nsight-python#35)."""
    fake = FakeNvml(sm_clock=1755, pids=(7, 8))
    fake.gpus["GPU-0"].sm_clock = 345
    seen = look(fake)
    assert (seen.sm_clock_mhz, seen.memory_clock_mhz, seen.power_w, seen.temperature_c) == (1755, 2619, 412.5, 41)
    assert (seen.reasons, seen.pids) == (0, frozenset({7, 8}))
    assert seen.violations == {
        "throttle_power_ns": 70_000, "throttle_thermal_ns": 0, "throttle_board_ns": 0, "throttle_reliability_ns": 9,
        "throttle_sw_thermal_ns": 0, "throttle_hw_thermal_ns": 0, "throttle_power_brake_ns": 0,
    }  # fmt: skip


@pytest.mark.parametrize(("code", "word"), [(4, "no_permission"), (3, "not_supported")])
@pytest.mark.parametrize("name", ["sm_clock", "power_mw", "temperature", "reasons", "pids", "fields"])
def test_one_refusal_is_one_word_and_no_zero(name: str, code: int, word: str) -> None:
    seen = look(FakeNvml(**{name: Err(code)}))
    answers = {
        "sm_clock": seen.sm_clock_mhz, "power_mw": seen.power_w, "temperature": seen.temperature_c,
        "reasons": seen.reasons, "pids": seen.pids, "fields": seen.violations["throttle_power_ns"],
    }  # fmt: skip
    assert answers.pop(name) == word
    assert all(nvml.known(v) for v in answers.values())
    assert set(seen.violations.values()) == ({word} if name == "fields" else {70_000, 0, 9})


def test_fields_answer_one_by_one() -> None:
    fake = FakeNvml()
    fake.gpu.fields |= {74: Err(4), 79: Err(3)}
    seen = look(fake)
    assert seen.violations["throttle_power_ns"] == "no_permission"
    assert seen.violations["throttle_reliability_ns"] == "not_supported"
    assert seen.violations["throttle_thermal_ns"] == 0


@pytest.mark.parametrize("driver", ["570.86.15", "550.54.14", "unknown"])
def test_fields_that_meant_something_else_are_not_asked(driver: str) -> None:
    """Under R570 the thermal counters had the numbers 251 to 253; 269 to 271 would be read as another thing."""
    seen = look(FakeNvml(driver))
    late = ("throttle_sw_thermal_ns", "throttle_hw_thermal_ns", "throttle_power_brake_ns")
    assert {seen.violations[name] for name in late} == {"not_supported"}
    assert seen.violations["throttle_power_ns"] == 70_000


def test_no_library_says_so_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "_library", lambda: None)
    seen = read(nvml.handle("1"))
    figures = [seen.sm_clock_mhz, seen.power_w, seen.temperature_c, seen.reasons, seen.pids]
    assert {*figures, *seen.violations.values()} == {"no_library"}


def test_an_older_binding_is_asked_by_the_older_name() -> None:
    class Older(FakeNvml):
        nvmlDeviceGetCurrentClocksEventReasons = None  # type: ignore[assignment]

        def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: str) -> int:
            return 4

    assert look(Older()).reasons == 4


def test_a_value_type_nobody_knows_is_not_guessed() -> None:
    class Newer(FakeNvml):
        def nvmlDeviceGetFieldValues(self, handle: str, ids: list[int]) -> list[Any]:
            answers = super().nvmlDeviceGetFieldValues(handle, ids)
            answers[0].valueType = 99
            return answers

    seen = look(Newer())
    assert seen.violations["throttle_power_ns"] == "not_supported"
    assert seen.violations["throttle_reliability_ns"] == 9


def test_growth() -> None:
    assert grown(5, 12) == 7
    assert grown(5, 5) == 0
    assert grown(12, 5) == "not_supported"  # the driver was loaded again
    assert grown("no_permission", 5) == "no_permission"
    assert grown(5, "no_library") == "no_library"


class TestEnergy:
    @pytest.fixture
    def meter(self, monkeypatch: pytest.MonkeyPatch) -> counters.EnergyMeter:
        self.now = 100.0
        monkeypatch.setattr(counters, "perf_counter", lambda: self.now)
        self.fake = FakeNvml()
        return counters.EnergyMeter(nvml.handle("1", library=self.fake), library=self.fake)

    def use(self, seconds: float, millijoules: int) -> None:
        self.now += seconds
        self.fake.gpu.fields |= {83: self.fake.gpu.fields[83] + millijoules}

    def test_it_adds_up_over_cases_and_asks_once_a_second(self, meter: counters.EnergyMeter) -> None:
        meter.begin()
        read = []
        for _ in range(10):
            meter.begin()  # before every case; only the first counts
            self.use(0.4, 200_000)
            read.append(meter.read())
        covered = [r for r in read if r is not None]
        assert len(covered) == 3  # every third case: 1.2 s
        assert all(mj == 600_000 and seconds == pytest.approx(1.2) for mj, seconds in covered)

    def test_a_long_case_has_its_own(self, meter: counters.EnergyMeter) -> None:
        meter.begin()
        self.use(3.0, 2_100_000)
        assert meter.read() == (2_100_000, 3.0)

    def test_nothing_before_it_began(self, meter: counters.EnergyMeter) -> None:
        assert meter.read() is None

    def test_a_refusal_is_a_word(self, meter: counters.EnergyMeter) -> None:
        meter.begin()
        self.now += 2
        self.fake.gpu.fields = {83: Err(4)}
        assert meter.read() == ("no_permission", 2.0)


OWN = 100
FAMILY = frozenset({1, 50, 101})


@pytest.mark.parametrize(
    ("pids", "context", "expected"),
    [
        ((), False, 0),
        ((OWN,), True, 0),
        ((OWN, 50, 101), True, 0),  # a notebook that waits for us, and our own child
        ((OWN, 7), True, 1),
        ((OWN, 7, 8, 101), True, 2),
        ((7,), False, 1),  # we have no context yet: whoever is there is not us
        ((4711,), True, 0),  # in a container NVML shows us under another number
        ((4711, 4712), True, 1),
        ((), True, "not_supported"),  # we are there and not listed: processes are hidden
        ("no_permission", True, "no_permission"),
    ],
)
def test_who_is_foreign(pids: Any, context: bool, expected: int | str) -> None:
    listed = pids if isinstance(pids, str) else frozenset(pids)
    assert foreign(listed, lambda: FAMILY, OWN, context=context) == expected


def test_the_family_is_looked_up_only_when_needed() -> None:
    def never() -> frozenset[int]:
        raise AssertionError("looked up")

    assert foreign(frozenset({OWN}), never, OWN, context=True) == 0


def test_the_family_holds_the_parent() -> None:
    import os

    assert os.getppid() in counters.family()
    assert os.getpid() not in counters.family()


def test_a_reading_is_cheap() -> None:
    fake = FakeNvml()
    handle = nvml.handle("1", library=fake)
    read(handle, library=fake)
    started = time.perf_counter()
    for _ in range(50):
        read(handle, library=fake)
    assert (time.perf_counter() - started) / 50 < 1e-3, "what this adds to NVML's own time"


def test_columns_of_the_record_exist() -> None:
    from dataclasses import fields

    from sparsity_roofline.model.record import Record

    assert set(VIOLATIONS) <= {f.name for f in fields(Record)}
