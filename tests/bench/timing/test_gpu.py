"""The GPU timer on a GPU."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import pytest

from sparsity_roofline.bench.timing import EventsTimer, GraphTimer, KinetoTimer, flush, kineto
from sparsity_roofline.bench.timing.protocol import InvalidMeasurement, Regime, Samples, Stopping
from sparsity_roofline.bench.timing.segments import segment

pytestmark = pytest.mark.gpu


def silent(call: Callable[[], object]) -> Callable[[], None]:
    """The call, its result dropped: asking a tensor for its truth would synchronise."""

    def run() -> None:
        call()

    return run


@pytest.fixture(scope="module")
def timer() -> KinetoTimer:
    made = KinetoTimer(settle_seconds=0.5)
    support = made.available()
    assert support, support.reason
    return made


def test_a_product(timer: KinetoTimer) -> None:
    import torch

    a = torch.randn(2048, 2048, device="cuda", dtype=torch.float16)
    y = torch.empty_like(a)
    samples = timer.measure(silent(lambda: torch.mm(a, a, out=y)), Regime(), Stopping())
    assert len(samples.busy_ns) >= 20
    assert samples.kernels_per_call >= 1
    assert 5e3 < statistics.median(samples.busy_ns) < 1e6
    assert all(span >= busy for span, busy in zip(samples.span_ns, samples.busy_ns, strict=True))
    assert samples.host_ns is not None
    assert samples.host_ns > 0


def test_an_empty_call_has_no_records(timer: KinetoTimer) -> None:
    """The flush is outside the window."""
    session = kineto._Session(lambda: None, Regime(), 0)
    assert {s.activities for s in session.batch(20)} == {0}
    with pytest.raises(InvalidMeasurement, match="nothing on the device"):
        timer.measure(lambda: None, Regime(), Stopping())


@pytest.mark.parametrize("state", ["cold-clean", "cold-dirty", "hot"])
def test_every_regime(timer: KinetoTimer, state: str) -> None:
    import torch

    x = torch.randn(1 << 20, device="cuda")
    samples = timer.measure(silent(lambda: torch.neg(x, out=x)), Regime(state), Stopping(maximum=40))  # type: ignore[arg-type]
    assert samples.kernels_per_call == 1


def test_cold_reads_do_not_come_from_the_cache(timer: KinetoTimer) -> None:
    """A read of 16 MiB under the flush runs near the memory's speed, not the cache's."""
    import torch

    x = torch.randn(1 << 22, device="cuda")
    total = torch.empty((), device="cuda")

    def rate(state: str) -> float:
        samples = timer.measure(silent(lambda: torch.sum(x, dim=0, out=total)), Regime(state), Stopping())  # type: ignore[arg-type]
        return float(x.nbytes / statistics.median(samples.busy_ns))

    assert rate("cold-clean") < 0.9 * rate("hot")


def test_a_host_bound_call_reports_device_time(timer: KinetoTimer) -> None:
    import time

    import torch

    x = torch.randn(1024, device="cuda")

    def slow() -> None:
        time.sleep(0.0005)
        torch.neg(x, out=x)

    samples = timer.measure(slow, Regime(), Stopping())
    assert statistics.median(samples.busy_ns) < 2e4
    assert samples.host_ns is not None
    assert samples.host_ns > 4e5


def test_the_flush_covers_twice_the_l2() -> None:
    import torch

    l2 = torch.cuda.get_device_properties(0).L2_cache_size
    assert flush.flush_bytes("cold-clean", 0) >= 2 * l2


def test_cost_of_a_session_is_bounded(timer: KinetoTimer) -> None:
    """Not an assertion about speed: 20 sessions of 20 samples yield 400 whole segments."""
    import torch

    x = torch.randn(1024, device="cuda")
    session = kineto._Session(silent(lambda: torch.neg(x, out=x)), Regime("hot"), 0)
    assert sum(len(session.batch(20)) for _ in range(20)) == 400
    assert segment([], 0, (), ()) == []


# -- the other timers


def median(samples: Samples) -> float:
    return float(statistics.median(samples.busy_ns))


@pytest.fixture(scope="module")
def others() -> list[EventsTimer | GraphTimer]:
    return [EventsTimer(settle_seconds=0.5), GraphTimer(settle_seconds=0.5)]


def test_timers_agree_on_a_long_kernel(timer: KinetoTimer, others: list[EventsTimer | GraphTimer]) -> None:
    """Constants of a few us vanish in a product of some hundred."""
    import torch

    a = torch.randn(4096, 4096, device="cuda", dtype=torch.float16)
    y = torch.empty_like(a)
    call = silent(lambda: torch.mm(a, a, out=y))
    reference = timer.measure(call, Regime("hot"), Stopping())
    for other in others:
        samples = other.measure(call, Regime("hot"), Stopping())
        assert samples.kernels_per_call == reference.kernels_per_call
        assert median(samples) == pytest.approx(median(reference), rel=0.15)


def test_an_empty_call_is_refused_by_all(others: list[EventsTimer | GraphTimer]) -> None:
    for other in others:
        with pytest.raises(InvalidMeasurement, match="nothing on the device"):
            other.measure(lambda: None, Regime("hot"), Stopping())


def test_events_hold_no_host_time() -> None:
    import time

    import torch

    x = torch.randn(1024, device="cuda")

    def slow() -> None:
        time.sleep(0.0005)
        torch.neg(x, out=x)

    samples = EventsTimer(settle_seconds=0).measure(slow, Regime(), Stopping())
    assert median(samples) < 3e4


def test_a_waiting_call_is_refused_by_both_and_leaves_no_trace(others: list[EventsTimer | GraphTimer]) -> None:
    import torch

    x = torch.randn(1 << 20, device="cuda")

    def waiting() -> None:
        torch.neg(x, out=x)
        torch.cuda.synchronize()

    for other in others:
        with pytest.raises(InvalidMeasurement):
            other.measure(waiting, Regime("hot"), Stopping())
        assert other.measure(silent(lambda: torch.neg(x, out=x)), Regime("hot"), Stopping()).kernels_per_call == 1


def test_a_rotation_is_colder_than_one_call() -> None:
    import torch

    buffers = [torch.randn(1 << 22, device="cuda") for _ in range(8)]
    calls = [silent(lambda b=b: torch.neg(b, out=b)) for b in buffers]
    timer = GraphTimer(settle_seconds=0)
    cold = timer.measure_rotation(calls, Regime(), Stopping())
    assert median(cold) > 1.2 * median(timer.measure(calls[0], Regime("hot"), Stopping()))
