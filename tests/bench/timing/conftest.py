"""A GPU that exists on paper: one in-order stream, two clocks, and a profiler that may lose records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch

from sparsity_roofline.bench.timing import flush, kineto, nvml
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

    def launch(self, name: str, duration: int, host_cost: int = 4_000) -> None:
        self.host += host_cost
        start = max(self.host, self.device + 500)
        self.device = start + duration
        self.records.append(Activity(name, start, self.device))

    def flush(self, state: str, device: int) -> Callable[[], None]:
        if state == "hot":
            return lambda: None
        return lambda: self.launch(self.CLEAN if state == "cold-clean" else self.DIRTY, 40_000)

    def synchronize(self, device: int | None = None) -> None:
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
    monkeypatch.setattr(kineto.KinetoTimer, "available", lambda self: YES)
    monkeypatch.setattr(
        kineto,
        "_names",
        lambda device: kineto._Names(frozenset({made.MARKER}), frozenset({made.CLEAN}), frozenset({made.DIRTY})),
    )
    monkeypatch.setattr(kineto, "_record", made.record)
    monkeypatch.setattr(kineto, "perf_counter_ns", lambda: made.host)
    monkeypatch.setattr(kineto, "perf_counter", lambda: made.host / 1e9)
    monkeypatch.setattr(kineto, "sleep", lambda seconds: None)
    monkeypatch.setattr(flush, "gpu_flush", made.flush)
    monkeypatch.setattr(flush, "reset_persisting_l2", lambda: False)
    monkeypatch.setattr(nvml, "handle", lambda uuid: "handle")
    monkeypatch.setattr(nvml, "sm_clock_mhz", lambda handle: made.sm_clock)
    return made
