"""The self-test: what it concludes from figures, and that it sees a flush that does nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from sparsity_roofline.bench.timing import MonotonicTimer, flush, selftest
from sparsity_roofline.bench.timing.protocol import InvalidMeasurement, Regime, Samples, Stopping
from sparsity_roofline.bench.timing.selftest import Check, judge_cpu, judge_dirty, judge_reads, judge_rotation
from sparsity_roofline.cli import main
from sparsity_roofline.kernels.protocol import Support


class Told:
    """A timer that reads off the time of each regime."""

    name = "told"

    def __init__(self, times: dict[str, float], reason: str = "") -> None:
        self.times, self.support = times, Support(reason)

    def available(self) -> Support:
        return self.support

    def measure(self, call: Callable[[], None], regime: Regime, stopping: Stopping) -> Samples:
        if regime.l2 not in self.times:
            raise InvalidMeasurement(f"no {regime.l2}")
        call()
        return Samples([self.times[regime.l2]] * 6, [self.times[regime.l2]] * 6, 1, "precise")


@pytest.mark.parametrize(
    ("cold", "hot", "dram", "verdicts"),
    [
        (2.0e12, 3.6e12, 2.9e12, ["ok", "ok"]),
        (3.0e12, 4.5e12, 2.9e12, ["ok", "ok"]),
        (4.6e12, 4.6e12, 2.9e12, ["failed", "failed"]),
        (2.0e12, 2.1e12, 2.9e12, ["ok", "failed"]),
    ],
)
def test_reads(cold: float, hot: float, dram: float, verdicts: list[str]) -> None:
    checks = judge_reads(cold, hot, dram)
    assert [c.verdict for c in checks] == verdicts
    assert checks[0].figures == {"cold": cold, "hot": hot, "dram": dram}


def test_a_flush_that_leaves_dirty_lines_is_not_clean() -> None:
    assert judge_dirty(42e3, 52e3).verdict == "ok"
    assert judge_dirty(52e3, 52e3).verdict == "failed"


def test_rotation_and_cpu() -> None:
    assert judge_rotation(8, 5e3, 8e3).verdict == "ok"
    assert judge_rotation(8, 5e3, 5.1e3).verdict == "failed"
    assert judge_cpu(5e3, 20e3).verdict == "ok"
    assert judge_cpu(20e3, 20e3).verdict == "failed"


def test_cpu_cold_is_cold() -> None:
    """On this machine, with the real timer: the ratio seen is 4 and more, so that load does not decide."""
    read = selftest._reader(selftest.CPU_READ_BYTES, "cpu")

    def best(state: str) -> float:
        return min(MonotonicTimer().measure(read, Regime(state), Stopping(maximum=60)).busy_ns)  # type: ignore[arg-type]

    assert best("cold-clean") > selftest.CPU_COLD_ABOVE_HOT * best("hot")


def test_a_cpu_flush_that_does_nothing_is_seen() -> None:
    checks = selftest.selftest("cpu", timer=Told({"hot": 5e3, "cold-clean": 5.1e3}))
    assert [c.verdict for c in checks] == ["ok", "failed"]
    assert not selftest.passed(checks)
    assert selftest.passed(selftest.selftest("cpu", timer=Told({"hot": 5e3, "cold-clean": 25e3})))


def test_a_flush_too_small_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flush, "cpu_cache_bytes", lambda: flush.flush_bytes("cold-clean") // 2 + 1)
    assert selftest._size(None).verdict == "failed"
    monkeypatch.setattr(flush, "cpu_cache_bytes", lambda: None)
    assert selftest._size(None).verdict == "unknown"


def test_no_time_is_a_failed_check() -> None:
    checks = selftest.selftest("cpu", timer=Told({"hot": 1.0}))
    assert checks[1] == Check("cold reads", "failed", "no cold-clean")
    (only,) = selftest.selftest("cpu", timer=Told({}, "out of order"))
    assert (only.name, only.verdict, only.detail) == ("timer", "failed", "told: out of order")


def test_persisting_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flush, "reset_persisting_l2", lambda: True)
    assert selftest._persisting().verdict == "ok"
    monkeypatch.setattr(flush, "reset_persisting_l2", lambda: False)
    assert selftest._persisting().verdict == "unknown"
    assert selftest.passed([selftest._persisting()])


def test_empty_call_on_the_simulated_gpu(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from sparsity_roofline.bench.timing import EventsTimer, KinetoTimer

    for timer in (KinetoTimer(settle_seconds=0), EventsTimer(settle_seconds=0)):
        assert selftest._empty(timer).verdict == "ok"
        monkeypatch.setattr(selftest, "_nothing", gpu.calls(("stray", 900)))
        assert selftest._empty(timer).verdict == "failed"
        monkeypatch.setattr(selftest, "_nothing", lambda: None)


@pytest.mark.parametrize(("cold", "code"), [(25e3, 0), (5e3, 4)])
def test_doctor_prints_it_and_fails_with_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], cold: float, code: int
) -> None:
    monkeypatch.setattr(selftest, "timer_for", lambda device: Told({"hot": 5e3, "cold-clean": cold}))
    assert main(["doctor", "--selftest", "--device", "cpu", "--json"]) == code
    checks = json.loads(capsys.readouterr().out)
    assert [c["name"] for c in checks] == ["flush size", "cold reads"]
    assert main(["doctor", "--selftest", "--device", "cpu"]) == code
    assert f"{cold / 5e3:.2f} times" in capsys.readouterr().out


@pytest.mark.gpu
def test_on_a_gpu() -> None:
    checks = selftest.selftest("cuda")
    assert selftest.passed(checks), checks
    assert {c.name for c in checks} >= {"flush size", "empty call", "cold reads", "hot reads", "clean flush"}
