"""The timers behind CUPTI's on the simulated GPU: events, graphs, and which timer a name means."""

from __future__ import annotations

import ctypes
import gc
import itertools
from typing import Any

import pytest
import torch

from sparsity_roofline.bench.timing import (
    EventsTimer,
    GraphTimer,
    KinetoTimer,
    capture,
    eventloop,
    flush,
    timer_for,
    timer_name,
    timer_names,
)
from sparsity_roofline.bench.timing import graph as graph_timing
from sparsity_roofline.bench.timing.protocol import (
    InvalidMeasurement,
    Regime,
    RotatingTimer,
    Samples,
    Stopping,
    Timer,
)
from sparsity_roofline.kernels.protocol import Support
from sparsity_roofline.model.errors import UserError

HOT = Regime("hot")
LAUNCH = 500
"""What the simulated device adds between two pieces of work."""


def events(call: Any, regime: Regime = HOT, stopping: Stopping = Stopping()) -> Samples:  # noqa: B008
    return EventsTimer(settle_seconds=0).measure(call, regime, stopping)


def graph(*calls: Any, regime: Regime = HOT, stopping: Stopping = Stopping()) -> Samples:  # noqa: B008
    return GraphTimer(settle_seconds=0).measure_rotation(calls, regime, stopping)


class TestNames:
    def test_the_default_comes_first(self) -> None:
        assert timer_names("cuda") == ["cupti-kineto", "cuda-graph", "cuda-events"]
        assert timer_names("cpu") == ["monotonic"]
        assert timer_names() == ["cupti-kineto", "cuda-graph", "cuda-events", "monotonic"]
        assert timer_name("cuda") == "cupti-kineto"

    @pytest.mark.parametrize("name", ["cupti-kineto", "cuda-graph", "cuda-events"])
    def test_the_timer_asked_for_is_the_timer_given(self, name: str) -> None:
        timer = timer_for("cuda", name)
        assert timer.name == timer_name("cuda", name) == name
        assert isinstance(timer, Timer)
        assert timer_for("cuda", name) is timer

    def test_default_and_its_name_are_one_object(self) -> None:
        assert timer_for("cuda") is timer_for("cuda", "cupti-kineto")

    @pytest.mark.parametrize(("device", "name"), [("cuda", "events"), ("cpu", "cuda-graph"), ("cuda", "")])
    def test_others_are_refused_with_the_list(self, device: str, name: str) -> None:
        with pytest.raises(UserError, match=f"for {device}: choose {timer_names(device)[0]}"):
            timer_for(device, name)

    def test_only_the_graph_timer_rotates(self) -> None:
        assert isinstance(timer_for("cuda", "cuda-graph"), RotatingTimer)
        for name in ("cupti-kineto", "cuda-events"):
            assert not isinstance(timer_for("cuda", name), RotatingTimer)


class TestEvents:
    @pytest.mark.parametrize("state", ["cold-clean", "cold-dirty", "hot"])
    def test_flush_and_host_are_outside(self, gpu: Any, state: str) -> None:
        samples = events(gpu.calls(("spmm", 5_000), host_cost=90_000), Regime(state))  # type: ignore[arg-type]
        assert set(samples.busy_ns) == {5_000.0 + LAUNCH}
        assert samples.span_ns == samples.busy_ns
        assert samples.host_ns == 90_000
        assert samples.kernels_per_call == 1
        assert (samples.discarded, samples.stop_reason, samples.sm_clock_mhz) == ([], "precise", 1980.0)
        flushes = [r.name for r in gpu.records if r.name in (gpu.CLEAN, gpu.DIRTY)]
        expected = {"cold-clean": gpu.CLEAN, "cold-dirty": gpu.DIRTY}.get(state)
        assert len([f for f in flushes if f == expected]) >= (20 if expected else 0)

    def test_several_kernels(self, gpu: Any) -> None:
        samples = events(gpu.calls(("part", 5_000), ("reduce", 2_000)))
        assert samples.kernels_per_call == 2
        assert set(samples.busy_ns) == {7_000.0 + 2 * LAUNCH}

    def test_samples_that_hold_host_time_are_left_out_and_counted(self, gpu: Any) -> None:
        """Warm-up saw a quick call; now and then one takes 1 ms on the host."""
        count = itertools.count()

        def call() -> None:
            gpu.launch("spmm", 5_000, 1_000_000 if next(count) % 40 == 39 else 4_000)

        samples = events(call, stopping=Stopping(minimum=60))
        assert set(samples.busy_ns) == {5_000.0 + LAUNCH}
        assert samples.discarded
        assert set(samples.discarded) == {eventloop.HELD_BACK_TOO_LATE}

    def test_a_longer_spin_helps_a_call_that_became_slow(self, gpu: Any) -> None:
        count = itertools.count()

        def call() -> None:
            gpu.launch("spmm", 5_000, 4_000 if next(count) < 30 else 55_000)

        samples = events(call)
        assert set(samples.busy_ns) == {5_000.0 + LAUNCH}
        assert len(samples.busy_ns) >= 20

    def test_a_call_that_waits_for_the_device_is_invalid(self, gpu: Any) -> None:
        def call() -> None:
            gpu.launch("spmm", 5_000)
            gpu.synchronize()

        with pytest.raises(InvalidMeasurement, match="hold time of the host"):
            events(call)

    def test_a_call_that_runs_nothing_is_invalid(self, gpu: Any) -> None:
        with pytest.raises(InvalidMeasurement, match="nothing on the device"):
            events(lambda: None)

    def test_without_cupti_kernels_are_counted_in_a_graph(self, gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(KinetoTimer, "available", lambda self: Support("no CUPTI"))
        assert events(gpu.calls(("a", 900), ("b", 900))).kernels_per_call == 2
        assert gpu.sessions == 0

    def test_kernels_that_nobody_can_count(self, gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(KinetoTimer, "available", lambda self: Support("no CUPTI"))

        def call() -> None:
            gpu.launch("spmm", 5_000)
            gpu.synchronize()

        with pytest.raises(InvalidMeasurement, match=r"cannot be counted: .*captured.*not permitted.* and no CUPTI"):
            events(call)

    def test_noise_takes_more_samples_within_the_caps(self, gpu: Any) -> None:
        durations = itertools.cycle([9_000, 9_900, 11_000, 12_000, 15_000])
        samples = events(lambda: gpu.launch("spmm", next(durations)))
        assert 20 < len(samples.busy_ns) <= 200
        slow = itertools.cycle([50_000_000, 90_000_000])
        assert events(lambda: gpu.launch("spmm", next(slow))).stop_reason == "time"

    def test_clocks_that_nobody_holds_are_refused(self, gpu: Any) -> None:
        with pytest.raises(UserError, match="sustained"):
            events(gpu.calls(("spmm", 5_000)), Regime(clocks="sustained"))


class TestGraph:
    def test_a_hot_call_is_repeated(self, gpu: Any) -> None:
        samples = GraphTimer(settle_seconds=0).measure(gpu.calls(("spmm", 3_000)), HOT, Stopping())
        assert samples.busy_ns[0] == pytest.approx(4_000, rel=1e-3), "the kernel and one gap"
        assert samples.kernels_per_call == 1
        assert samples.host_ns == 4_000
        assert len(gpu.graphs[-1].nodes) == 100, "0.4 ms a replay"
        assert gc.isenabled()

    def test_long_calls_stay_few(self, gpu: Any) -> None:
        graph(gpu.calls(("gemm", 2_000_000)))
        assert [len(g.nodes) for g in gpu.graphs] == [graph_timing.FIRST_CALLS]

    def test_a_cold_graph_holds_whole_rounds(self, gpu: Any) -> None:
        calls = [gpu.calls((f"spmm {i}", 5_000), ("reduce", 1_000)) for i in range(7)]
        samples = graph(*calls, regime=Regime())
        assert samples.kernels_per_call == 2
        assert samples.busy_ns[0] == pytest.approx(8_000, rel=1e-3)
        names = [name for name, _ in gpu.graphs[-1].nodes if name != "reduce"]
        assert len(names) % 7 == 0
        assert names == [f"spmm {i}" for i in range(7)] * (len(names) // 7)
        assert not any(r.name in (gpu.CLEAN, gpu.DIRTY) for r in gpu.records), "nothing is flushed"

    def test_one_call_is_never_cold(self, gpu: Any) -> None:
        """A closure over fixed tensors cannot rotate, so its cold label is false (flashinfer#5073)."""
        timer = GraphTimer(settle_seconds=0)
        call = gpu.calls(("spmm", 3_000))
        with pytest.raises(InvalidMeasurement, match="cannot rotate"):
            timer.measure(call, Regime(), Stopping())
        with pytest.raises(InvalidMeasurement, match="at least two"):
            timer.measure_rotation([call], Regime(), Stopping())

    def test_dirty_cannot_be_had(self, gpu: Any) -> None:
        with pytest.raises(UserError, match="cannot dirty"):
            graph(gpu.calls(("a", 900)), gpu.calls(("a", 900)), regime=Regime("cold-dirty"))

    def test_a_call_that_waits_cannot_be_captured(self, gpu: Any) -> None:
        def call() -> None:
            gpu.launch("spmm", 5_000)
            gpu.synchronize()

        with pytest.raises(InvalidMeasurement, match=r"captured in a CUDA graph: .* when stream is capturing$"):
            graph(call)
        assert gc.isenabled()
        assert graph(gpu.calls(("spmm", 3_000))).kernels_per_call == 1, "the next call is none the worse"

    def test_a_call_that_runs_nothing_is_invalid(self, gpu: Any) -> None:
        with pytest.raises(InvalidMeasurement, match="nothing on the device"):
            graph(lambda: None)

    def test_calls_of_different_kernels_are_invalid(self, gpu: Any) -> None:
        with pytest.raises(InvalidMeasurement, match="varies"):
            graph(gpu.calls(("a", 900)), gpu.calls(("a", 900), ("b", 900)), regime=Regime())

    def test_an_old_torch(self, gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        class Old:
            pass

        monkeypatch.setattr(torch.cuda, "CUDAGraph", Old)
        with pytest.raises(InvalidMeasurement, match=r"torch 2\.8"):
            graph(gpu.calls(("a", 900)))


def test_unavailable_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for timer in (EventsTimer(), GraphTimer()):
        assert "no NVIDIA GPU" in timer.available().reason
        with pytest.raises(InvalidMeasurement, match="no NVIDIA GPU"):
            timer.measure(lambda: None, HOT, Stopping())


class FakeDriver:
    """Graphs as nested lists: an int is a node of that type, a list a child graph."""

    def __init__(self, *graphs: Any, code: int = 0) -> None:
        self.code = code
        self.graphs: list[list[Any]] = list(graphs)
        self.nodes: list[Any] = []

    def cuGraphGetNodes(self, graph: Any, nodes: Any, number: Any) -> int:
        content = self.graphs[graph.value or 0]
        if nodes is not None:
            for i, node in enumerate(content):
                self.nodes.append(node)
                nodes[i] = len(self.nodes)
        number._obj.value = len(content)
        return self.code

    def cuGraphNodeGetType(self, node: Any, kind: Any) -> int:
        found = self.nodes[node.value - 1]
        kind._obj.value = capture.CHILD if isinstance(found, list) else found
        return 0

    def cuGraphChildGraphNodeGetGraph(self, node: Any, child: Any) -> int:
        self.graphs.append(self.nodes[node.value - 1])
        child._obj.value = len(self.graphs) - 1
        return 0


@pytest.mark.parametrize(("nodes", "count"), [([], 0), ([0], 1), ([0, 5, 1, 2, 3, 6], 3), ([0, [0, [2, 5]], [], 1], 4)])
def test_kernels_copies_and_memsets_are_counted(nodes: list[Any], count: int) -> None:
    assert capture.count_activities(0, FakeDriver(nodes)) == count  # type: ignore[arg-type]


def test_a_driver_that_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidMeasurement, match="driver error 1"):
        capture.count_activities(0, FakeDriver([0], code=1))  # type: ignore[arg-type]

    def absent(name: str) -> None:
        raise OSError(f"{name}: cannot open")

    monkeypatch.setattr(ctypes, "CDLL", absent)
    with pytest.raises(InvalidMeasurement, match="cannot open"):
        capture.count_activities(0)


def test_no_flush_for_a_graph() -> None:
    assert flush.nothing() is None
