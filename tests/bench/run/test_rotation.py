"""Sets of buffers for a timer that rotates: how many, whose, and when not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from sparsity_roofline.bench import measure, rotation, rows
from sparsity_roofline.bench.timing import flush
from sparsity_roofline.bench.timing.protocol import InvalidMeasurement, Regime, Samples, Stopping
from sparsity_roofline.kernels.protocol import YES, BaseKernel, Support
from sparsity_roofline.model.case import Case
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.matrix import Matrix

MIB = 1 << 20
CASE = Case("c", "w", 512, 1024, 256, "unstructured", "csr", "fp32", nnz=50_000, used_columns=1000)


class Weight:
    """Multiplies by a tensor of its own, which a simulated allocator counts."""

    config: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, dense: torch.Tensor) -> None:
        self.dense = dense

    def launch(self, x: torch.Tensor, y: torch.Tensor) -> None:
        torch.mm(self.dense, x, out=y)


class Memory:
    """What the process holds: grows by ``each`` with every weight."""

    def __init__(self, each: int) -> None:
        self.each, self.held, self.made = each, 0, 0

    def prepare(self) -> Weight:
        self.held += self.each
        self.made += 1
        return Weight(torch.eye(4))


def first() -> rotation.Operands:
    return rotation.Operands(Weight(torch.eye(4)), torch.randn(4, 3), torch.full((4, 3), float("nan")))


def rotate(case: Case = CASE, memory: Memory | None = None, **more: int) -> list[rotation.Operands]:
    memory = memory or Memory(CASE.nnz * 8)
    given = {"cache_bytes": 8 * MIB, "free_bytes": 1 << 30} | more
    return rotation.rotate(first(), case, memory.prepare, allocated=lambda: memory.held, **given)


def test_touched_are_values_used_rows_and_output() -> None:
    assert rotation.touched_bytes(CASE) == 4 * (50_000 + 1000 * 256 + 512 * 256)
    assert rotation.touched_bytes(replace(CASE, dtype="fp16")) == 2 * (50_000 + 1000 * 256 + 512 * 256)


@pytest.mark.parametrize("touched", [60 * 1024, 1 * MIB, 10 * MIB, 99 * MIB, 100 * MIB, 101 * MIB, 1 << 40])
def test_all_but_one_cover_the_cache_twice(touched: int) -> None:
    """Fewer calls than it takes to evict a buffer were silently warm: 36 % off (flashinfer#4468)."""
    cache = 14 * MIB
    count = rotation.sets_needed(touched, cache)
    assert count >= 2
    assert (count - 1) * touched >= 2 * cache
    assert count == 2 or (count - 2) * touched < 2 * cache


@pytest.mark.parametrize("touched", [0, 1000, 190 * 1024])
def test_calls_that_touch_too_little_cannot_be_cold(touched: int) -> None:
    with pytest.raises(InvalidMeasurement, match=r"more than 512 sets .* use another timer"):
        rotation.sets_needed(touched, 50 * MIB)


def test_every_set_has_buffers_of_its_own() -> None:
    sets = rotate()
    assert len(sets) == rotation.sets_needed(rotation.touched_bytes(CASE), 8 * MIB) > 2
    for name in ("x", "y"):
        assert len({getattr(s, name).data_ptr() for s in sets}) == len(sets)
    assert len({id(s.prepared) for s in sets}) == len(sets)
    assert all(torch.equal(s.x, sets[0].x) for s in sets)
    for one in sets:
        one()
        assert torch.equal(one.y, one.x)


def test_token_major_stays_so() -> None:
    one = rotation.Operands(Weight(torch.eye(4)), torch.randn(3, 4).t(), torch.randn(3, 4).t())
    memory = Memory(1 << 20)
    sets = rotation.rotate(
        one, CASE, memory.prepare, cache_bytes=MIB, free_bytes=1 << 30, allocated=lambda: memory.held
    )
    assert {s.x.stride() for s in sets} == {s.y.stride() for s in sets} == {(1, 4)}


def test_a_shared_weight_is_not_cold() -> None:
    memory = Memory(0)
    with pytest.raises(InvalidMeasurement, match="no weight of its own"):
        rotate(memory=memory)
    assert memory.made == 1


def test_sets_that_do_not_fit() -> None:
    memory = Memory(400_000)
    with pytest.raises(InvalidMeasurement, match=r"GiB, more than 50% of the free memory"):
        rotate(memory=memory, free_bytes=2 * MIB)
    assert memory.made == 1


def test_weights_that_take_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(0, 1000, 5))
    monkeypatch.setattr(rotation.time, "perf_counter", lambda: next(now))
    with pytest.raises(InvalidMeasurement, match=r"preparing \d+ weights to rotate would take \d+ s"):
        rotate()


class Turning:
    """A rotating timer that remembers what it was given."""

    name = "turning"

    def __init__(self) -> None:
        self.given: list[Any] = []
        self.spoil: Callable[[], None] | None = None

    def available(self) -> Support:
        return YES

    def measure(self, call: Callable[[], None], regime: Regime, stopping: Stopping) -> Samples:
        return self.measure_rotation([call], regime, stopping)

    def measure_rotation(self, calls: Sequence[Callable[[], None]], regime: Regime, stopping: Stopping) -> Samples:
        if regime.l2 == "cold-dirty":
            raise UserError("cannot dirty")
        self.given = list(calls)
        for call in calls:
            call()
        if self.spoil:
            self.spoil()
        return Samples([1000.0] * 6, [1000.0] * 6, 1, "samples")


class Kernel(BaseKernel):
    name, format, devices, dtypes = "csr.t", "csr", ("cpu",), ("fp32",)
    prepared = 0

    def prepare(self, matrix, case, device, step=None):
        from sparsity_roofline.kernels import convert

        self.prepared += 1
        return Weight(convert.stored_as_dense(matrix, case.dtype, device))


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> measure.Bench:
    """A bench on this CPU whose cache is 1 MiB and whose allocator sees every prepared weight."""
    dense = torch.randn(64, 96, generator=torch.Generator().manual_seed(1)).numpy()
    matrix = Matrix.from_dense("w", dense, abs(dense) > 0.5)
    kernel = Kernel()
    made = measure.Bench({"csr.t": kernel}, lambda source, name: matrix, rows.Evidence("r", "cpu", "c", "e"), Turning())
    monkeypatch.setattr(flush, "gpu_cache_bytes", lambda device: MIB)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: kernel.prepared * 64 * 96 * 4)
    return made


def case() -> Case:
    return Case("c", "w", 64, 96, 128, "unstructured", "csr", "fp32", nnz=3000, used_columns=96)


def test_a_cold_regime_rotates(bench: measure.Bench) -> None:
    record = bench.run(case(), "csr.t", 0)
    assert (record.status, record.timer, record.regime_l2) == ("ok", "turning", "cold-clean")
    assert len(bench.timer.given) > 10  # type: ignore[attr-defined]
    rehearsal = 1
    assert bench.kernels["csr.t"].prepared == rehearsal + len(bench.timer.given)  # type: ignore[attr-defined]


def test_a_hot_regime_does_not(bench: measure.Bench) -> None:
    bench.regime = Regime("hot")
    record = bench.run(case(), "csr.t", 0)
    assert (record.status, record.regime_l2) == ("ok", "hot")
    assert len(bench.timer.given) == 1  # type: ignore[attr-defined]
    rehearsal = 1
    assert bench.kernels["csr.t"].prepared == rehearsal + 1  # type: ignore[attr-defined]


def test_the_last_set_is_checked_too(bench: measure.Bench) -> None:
    timer: Any = bench.timer
    timer.spoil = lambda: timer.given[-1].y.zero_()
    record = bench.run(case(), "csr.t", 0)
    assert record.status == "incorrect"
    assert record.reason.startswith("after timing: ")


def test_what_cannot_rotate_has_no_time_and_says_why(bench: measure.Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 0)
    record = bench.run(case(), "csr.t", 0)
    assert (record.status, record.time_ns) == ("invalid_environment", None)
    assert "share one in the cache" in record.reason


def test_a_regime_the_timer_cannot_hold(bench: measure.Bench) -> None:
    bench.regime = Regime("cold-dirty")
    record = bench.run(case(), "csr.t", 0)
    assert (record.status, record.reason, record.time_ns) == ("invalid_environment", "cannot dirty", None)
