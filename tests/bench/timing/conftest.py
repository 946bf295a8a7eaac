"""A GPU that exists on paper: one in-order stream, two clocks, and a profiler that may lose records."""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch

from sparsity_roofline.bench.timing import capture, eventloop, flush, kineto, nvml
from sparsity_roofline.bench.timing import gpu as gpu_timing
from sparsity_roofline.bench.timing.segments import Activity
from sparsity_roofline.kernels.protocol import YES

Lose = Callable[[int, list[Activity]], list[Activity]]


@dataclass
class SimulatedGpu:
    """Host and device clocks in ns. A launch costs host time; the device runs work in order, when it is ready.

    Attributes:
        lose: applied to the number and the records of every session; None loses nothing.
        sessions: profiler sessions so far.
        sm_clock: what NVML reads.
        capturing: nodes of the graph that is being captured.
        graphs: all graphs that were captured; their addresses are their places here.
    """

    MARKER: ClassVar[str] = "spin_kernel(long)"
    CLEAN: ClassVar[str] = "reduce_kernel<long>"
    DIRTY: ClassVar[str] = "elementwise_kernel<add<long>>"

    host: int = 1_000_000
    device: int = 1_000_000
    lose: Lose | None = None
    sessions: int = 0
    sm_clock: float | None = 1980.0
    records: list[Activity] = field(default_factory=list)
    capturing: list[tuple[str, int]] | None = None
    graphs: list[SimulatedGraph] = field(default_factory=list)

    def launch(self, name: str, duration: int, host_cost: int = 4_000) -> None:
        self.host += host_cost
        if self.capturing is not None:
            self.capturing.append((name, duration))
            return
        start = max(self.host, self.device + 500)
        self.device = start + duration
        self.records.append(Activity(name, start, self.device))

    def flush(self, state: str, device: int) -> Callable[[], None]:
        if state == "hot":
            return lambda: None
        return lambda: self.launch(self.CLEAN if state == "cold-clean" else self.DIRTY, 40_000)

    def advance(self, host_cost: int) -> None:
        self.host += host_cost

    def synchronize(self, device: int | None = None) -> None:
        if self.capturing is not None:
            self.capturing = None  # the capture is lost
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nstack")
        self.host = max(self.host, self.device)

    def record(self, work: Callable[[], None], device: int) -> list[Activity]:
        self.sessions += 1
        self.records = []
        work()
        self.synchronize()
        return self.lose(self.sessions, self.records) if self.lose else self.records

    def calls(self, *kernels: tuple[str, int], host_cost: int = 4_000) -> Callable[[], None]:
        """A call that launches these kernels (name, duration), spending ``host_cost`` on each."""

        def call() -> None:
            for name, duration in kernels:
                self.launch(name, duration, host_cost)

        return call


class SimulatedEvent:
    """``torch.cuda.Event`` on the simulated stream: its time is when the device gets there."""

    gpu: ClassVar[SimulatedGpu]
    COST = 1_000

    def __init__(self, enable_timing: bool = False) -> None:
        assert enable_timing
        self.at = 0

    def record(self) -> None:
        self.gpu.advance(self.COST)
        self.at = max(self.gpu.host, self.gpu.device)

    def query(self) -> bool:
        return self.at <= self.gpu.host

    def elapsed_time(self, other: SimulatedEvent) -> float:
        assert max(self.at, other.at) <= self.gpu.host, "asked before the device was there"
        return (other.at - self.at) / 1e6


class SimulatedGraph:
    """``torch.cuda.CUDAGraph``: launches while capturing become nodes, a replay runs them with a gap between."""

    gpu: ClassVar[SimulatedGpu]
    GAP = 1_000
    START = 8_000

    def __init__(self, keep_graph: bool = False) -> None:
        assert keep_graph
        self.nodes: list[tuple[str, int]] = []
        self.ready = False

    def capture_begin(self, capture_error_mode: str) -> None:
        assert not gc.isenabled(), "a collection may break a capture"
        assert self.gpu.host >= self.gpu.device, "work was still under way"
        self.gpu.capturing = self.nodes

    def capture_end(self) -> None:
        if self.gpu.capturing is None:
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture")
        self.gpu.capturing = None

    def raw_cuda_graph(self) -> int:
        self.gpu.graphs.append(self)
        return len(self.gpu.graphs) - 1

    def instantiate(self) -> None:
        self.ready = True

    def replay(self) -> None:
        assert self.ready
        self.gpu.host += self.START
        for name, duration in self.nodes:
            start = max(self.gpu.host, self.gpu.device + self.GAP)
            self.gpu.device = start + duration
            self.gpu.records.append(Activity(name, start, self.gpu.device))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> SimulatedGpu:
    """The timer's device and clocks replaced by simulated ones."""
    made = SimulatedGpu()
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "synchronize", made.synchronize)
    monkeypatch.setattr(torch.cuda, "_sleep", lambda cycles: made.launch(made.MARKER, cycles))
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: SimpleNamespace(clock_rate=1_000_000, uuid="9f3c")
    )
    SimulatedEvent.gpu = SimulatedGraph.gpu = made
    monkeypatch.setattr(torch.cuda, "Event", SimulatedEvent)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", SimulatedGraph)
    monkeypatch.setattr(capture, "side_stream", lambda device: SimpleNamespace(wait_stream=lambda other: None))
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: None)
    monkeypatch.setattr(capture, "count_activities", lambda graph: len(made.graphs[graph].nodes))
    monkeypatch.setattr(gpu_timing, "cuda_here", lambda: YES)
    monkeypatch.setattr(kineto.KinetoTimer, "available", lambda self: YES)
    monkeypatch.setattr(
        kineto,
        "_names",
        lambda device: kineto._Names(frozenset({made.MARKER}), frozenset({made.CLEAN}), frozenset({made.DIRTY})),
    )
    monkeypatch.setattr(kineto, "_record", made.record)
    monkeypatch.setattr(gpu_timing, "perf_counter_ns", lambda: made.host)
    for module in (kineto, gpu_timing, eventloop):
        monkeypatch.setattr(module, "perf_counter", lambda: made.host / 1e9)
    monkeypatch.setattr(kineto, "sleep", lambda seconds: None)
    monkeypatch.setattr(flush, "gpu_flush", made.flush)
    monkeypatch.setattr(flush, "reset_persisting_l2", lambda: False)
    monkeypatch.setattr(nvml, "handle", lambda uuid: "handle")
    monkeypatch.setattr(nvml, "sm_clock_mhz", lambda handle: made.sm_clock)
    return made
