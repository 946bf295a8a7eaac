"""The CPU timer: real, tiny runs."""

from __future__ import annotations

import gc
import time

import pytest

from sparsity_roofline.bench.timing import flush, monotonic, timer_for
from sparsity_roofline.bench.timing.protocol import Regime, Stopping, Timer
from sparsity_roofline.model.errors import UserError

QUICK = Stopping(minimum=8, maximum=8, seconds=1.0)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Flush passes by regime, in place of the real ones."""
    seen: list[str] = []
    monkeypatch.setattr(flush, "cpu_flush", lambda state: lambda: seen.append(state))
    return seen


def test_is_a_timer() -> None:
    timer = timer_for("cpu")
    assert isinstance(timer, Timer)
    assert timer.name == "monotonic"
    assert timer.available()
    assert timer_for("cpu") is timer


def test_unknown_device() -> None:
    with pytest.raises(UserError, match="cuda or cpu"):
        timer_for("tpu")


def test_a_sleep_lasts_at_least_as_long(passes: list[str]) -> None:
    samples = timer_for("cpu").measure(lambda: time.sleep(0.002), Regime(), QUICK)
    assert all(2e6 <= t < 1e9 for t in samples.busy_ns)
    assert len(samples.busy_ns) == 8
    assert samples.span_ns == samples.busy_ns
    assert samples.kernels_per_call == 1
    assert samples.stop_reason in ("precise", "samples")


@pytest.mark.parametrize("state", ["cold-clean", "cold-dirty"])
def test_one_flush_before_every_sample(passes: list[str], state: str) -> None:
    calls = 0

    def call() -> None:
        nonlocal calls
        calls += 1

    samples = timer_for("cpu").measure(call, Regime(state), QUICK)  # type: ignore[arg-type]
    assert passes == [state] * len(samples.busy_ns)
    warm_up = calls - len(samples.busy_ns)
    assert 1 < warm_up <= 1 + monotonic.WARM_UP_CALLS * monotonic.WARM_UP_BLOCKS


def test_the_flush_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flush, "cpu_flush", lambda state: lambda: time.sleep(0.02))
    samples = timer_for("cpu").measure(lambda: None, Regime(), QUICK)
    assert min(samples.busy_ns) < 1e7


def test_short_calls_are_repeated_when_hot_only() -> None:
    def count(state: str) -> float:
        calls = 0

        def call() -> None:
            nonlocal calls
            calls += 1

        samples = timer_for("cpu").measure(call, Regime(state), QUICK)  # type: ignore[arg-type]
        return calls / len(samples.busy_ns)

    assert count("hot") > 20
    assert count("cold-clean") < 10


def test_slow_first_call_is_not_a_sample(passes: list[str]) -> None:
    pauses = iter([0.05])
    samples = timer_for("cpu").measure(lambda: time.sleep(next(pauses, 0.0)), Regime(), QUICK)
    assert max(samples.busy_ns) < 5e7


def test_the_time_cap_holds_after_the_minimum(passes: list[str]) -> None:
    pauses = iter([0.001, 0.02] * 500)
    rule = Stopping(minimum=6, maximum=500, seconds=0.1)
    samples = timer_for("cpu").measure(lambda: time.sleep(next(pauses)), Regime(), rule)
    assert samples.stop_reason == "time"
    assert 6 <= len(samples.busy_ns) < 60


def test_garbage_collection_is_put_back_after_an_error(passes: list[str]) -> None:
    assert gc.isenabled()
    countdown = iter(range(60))

    def call() -> None:
        if next(countdown, None) is None:
            raise RuntimeError("broken kernel")

    with pytest.raises(RuntimeError, match="broken kernel"):
        timer_for("cpu").measure(call, Regime(), Stopping(minimum=100))
    assert gc.isenabled()


def test_clocks_that_nobody_holds_are_refused() -> None:
    with pytest.raises(UserError, match="as found, not fixed") as caught:
        timer_for("cpu").measure(lambda: None, Regime(clocks="fixed"), QUICK)
    assert caught.value.exit_code == 6
