"""One job: prepare, check, time, fill the record."""

from __future__ import annotations

import gc
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sparsity_roofline.bench import inputs, memory, rotation, rows
from sparsity_roofline.bench.failures import NoTimer, TooLarge, Unsupported, WrongResult, status_of
from sparsity_roofline.bench.redact import redact
from sparsity_roofline.bench.timing import flush
from sparsity_roofline.bench.timing.protocol import (
    Regime,
    RotatingTimer,
    Samples,
    SettlingTimer,
    Stopping,
    Timer,
)
from sparsity_roofline.kernels.protocol import Kernel, Prepared
from sparsity_roofline.model.case import Case
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.matrix import Matrix
from sparsity_roofline.model.record import Record

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

_HOST_CACHE_BYTES = 512 << 20

_HOST_CALL_NS = 1_000_000
"""What the host side of one call may take: a single call is timed with it, and only what is far beyond is skipped."""

TOTAL = "total"
"""In ``wall_ns``: the whole job. What the phases beside it leave over is bookkeeping."""


class Recent(Generic[T]):
    """The last few values by key, within a budget of bytes; the newest is always kept."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._held: OrderedDict[Any, tuple[T, int]] = OrderedDict()

    def get(self, key: Any, make: Callable[[], T], size: Callable[[T], int]) -> T:
        """The value of ``key``, made if it is not there."""
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key][0]
        value = make()
        self._held[key] = (value, size(value))
        while len(self._held) > 1 and sum(s for _, s in self._held.values()) > self._budget:
            self._held.popitem(last=False)
        return value

    def clear(self) -> None:
        """Let go of everything."""
        self._held.clear()


@dataclass
class Bench:
    """Runs jobs one after the other on one device, keeping what the next job is likely to need.

    Attributes:
        kernels: by name.
        load: (source, name) -> matrix; ``source`` is opaque here and -1 stands for the seeded dense weights.
        evidence: what all records share.
        timer, regime, stopping: how to time.
    """

    kernels: Mapping[str, Kernel]
    load: Callable[[int, str], Matrix]
    evidence: rows.Evidence
    timer: Timer
    regime: Regime = field(default_factory=Regime)
    stopping: Stopping = field(default_factory=Stopping)

    def __post_init__(self) -> None:
        device_budget = (8 << 30) if self.evidence.device == "cuda" else (256 << 20)
        self._matrices: Recent[Matrix] = Recent(_HOST_CACHE_BYTES)
        self._realised: Recent[Case] = Recent(64)  # sized by count
        self._inputs: Recent[torch.Tensor] = Recent(device_budget)
        self._expected: Recent[torch.Tensor] = Recent(0)  # the newest only
        self._rehearsed: set[tuple[str, str]] = set()
        self._dense_ns: dict[tuple[object, ...], float] = {}

    def run(self, case: Case, kernel_name: str, source: int) -> Record:
        """The record of one job. Whatever goes wrong short of the process's death ends as a status."""
        began = time.perf_counter_ns()
        kernel = self.kernels[kernel_name]
        steps, phases = Steps(self.evidence.device), Steps(self.evidence.device)
        record: Record | None = None
        try:
            with phases("load"):
                matrix, case = self._problem(case, source)
            record = rows.blank(case, kernel, self.evidence)
            rows.add_matrix(record, matrix)
            self._measure(record, matrix, case, kernel, source, steps, phases)
        except Exception as error:
            record = record or rows.blank(case, kernel, self.evidence)
            status, reason = status_of(error)
            record = _without_times(record)
            record.status, record.reason = status, redact(reason)
        if record.status == "out_of_memory":
            self.forget()  # only here: the exception's frames held tensors
        record.setup_ns = steps.as_json()
        phases.ns[TOTAL] = time.perf_counter_ns() - began
        record.wall_ns = phases.as_json()
        record.check()
        return record

    def forget(self) -> None:
        """Free everything that is kept between jobs."""
        for kept in (self._matrices, self._realised, self._inputs, self._expected):
            kept.clear()
        gc.collect()
        if self.evidence.device == "cuda":
            import torch

            torch.cuda.empty_cache()

    def _problem(self, case: Case, source: int) -> tuple[Matrix, Case]:
        """The loaded matrix and the case with its real counts."""
        key = (source, case.weight if source >= 0 and case.weight else case.matrix)
        matrix = self._matrices.get(key, lambda: self._load(case, source), _matrix_bytes)
        shape = (key, case.format, case.block_rows, case.block_cols, case.n, case.m)
        counted = self._realised.get(shape, lambda: case.realise(matrix), lambda _: 1)
        names = ("nnz", "stored_blocks", "used_columns", "digest", "realised")
        return matrix, replace(case, **{name: getattr(counted, name) for name in names})

    def _load(self, case: Case, source: int) -> Matrix:
        if source < 0:
            return inputs.dense_weight(case.M, case.K, case.seed)
        return self.load(source, case.weight or case.matrix)

    def _measure(
        self, record: Record, matrix: Matrix, case: Case, kernel: Kernel, source: int, steps: Steps, phases: Steps
    ) -> None:
        device = self.evidence.device
        with phases("library start"):
            self._possible(case, kernel)
            self._rehearse(matrix, case, kernel)
        with phases("conversion"):
            prepared = kernel.prepare(matrix, case, device, steps)
        record.kernel_config = rows.as_config(prepared.config)
        key = inputs.input_key(case)
        with phases("inputs"):
            x = self._inputs.get(key, lambda: inputs.make_x(case, device), lambda t: t.numel() * t.element_size())
            y = inputs.make_y(case, device)
        with phases("oracle"):
            expected = self._expected.get(
                (source, case.matrix, case.format == "dense", key), lambda: _oracle(matrix, x, case), lambda t: 1
            )
        with phases("first launch"), steps("first launch"):
            prepared.launch(x, y)
        with phases("check"):
            self._check(record, y, expected, case, prepared, "")
        self._worth(kernel, prepared, x, y, case)
        with phases("conversion"):
            sets = self._sets(rotation.Operands(prepared, x, y), matrix, case, kernel)
        if isinstance(self.timer, SettlingTimer):
            with phases("clock settling"):  # ahead of the readings: its load is not this case's
                self.timer.settle()
        try:
            with phases("timing"), rows.conditions(record, device, self.regime) as seen:
                seen.samples = samples = self._sample(sets)
        except UserError as refusal:  # the timer cannot hold the regime that was asked for
            raise NoTimer(str(refusal)) from refusal
        phases.move("timing", "warm-up", round(samples.warm_up_s * 1e9))
        with phases("check"):
            for used in (sets[0], *sets[1:][-1:]):
                self._check(record, used.y, expected, case, prepared, "after timing: ")
            self._check_fresh(record, x, y, expected, case, prepared)
        rows.add_samples(record, samples, self.timer.name, self.regime)
        rows.add_held(record, case, self.evidence.datasheet)
        if case.format == "dense" and record.time_ns is not None:
            shape = (case.M, key)
            self._dense_ns[shape] = min(record.time_ns, self._dense_ns.get(shape, record.time_ns))

    def _worth(self, kernel: Kernel, prepared: Prepared, x: torch.Tensor, y: torch.Tensor, case: Case) -> None:
        """Refuse to spend samples on a peer that one call shows to be ``skip_above`` times slower than dense."""
        most = self.stopping.skip_above
        dense = self._dense_ns.get((case.M, inputs.input_key(case)))
        if most is None or dense is None or kernel.ours or case.format == "dense":
            return
        synchronize(self.evidence.device)
        start = time.perf_counter_ns()
        prepared.launch(x, y)
        synchronize(self.evidence.device)
        taken = time.perf_counter_ns() - start
        if taken > most * dense + _HOST_CALL_NS:
            raise Unsupported(
                f"not timed: one call takes {taken / 1e6:.3g} ms, more than {most:g} times the dense product's "
                f"{dense / 1e6:.3g} ms (the suite's skip_above)"
            )

    def _rehearse(self, matrix: Matrix, case: Case, kernel: Kernel) -> None:
        """Prepare once untimed where this process has not yet: what libraries load and compile at their first use is no
        part of a pattern's setup."""
        first = (kernel.name, case.dtype)
        if first in self._rehearsed:
            return
        kernel.prepare(matrix, case, self.evidence.device)
        self._rehearsed.add(first)

    def _sets(self, first: rotation.Operands, matrix: Matrix, case: Case, kernel: Kernel) -> list[rotation.Operands]:
        """Just ``first``, or for a timer that rotates in a cold regime as many sets of buffers as that takes."""
        device = self.evidence.device
        if self.regime.l2 == "hot" or not isinstance(self.timer, RotatingTimer):
            return [first]
        import torch

        return rotation.rotate(
            first,
            case,
            lambda: kernel.prepare(matrix, case, device),
            cache_bytes=flush.gpu_cache_bytes(torch.cuda.current_device()),
            free_bytes=memory.free_bytes(device),
            allocated=torch.cuda.memory_allocated,
        )

    def _sample(self, sets: list[rotation.Operands]) -> Samples:
        if len(sets) > 1 and isinstance(self.timer, RotatingTimer):
            return self.timer.measure_rotation(sets, self.regime, self.stopping)
        return self.timer.measure(sets[0], self.regime, self.stopping)

    def _possible(self, case: Case, kernel: Kernel) -> None:
        device = self.evidence.device
        answer = kernel.supports(case, device)
        if not answer:
            raise Unsupported(answer.reason)
        if getattr(kernel, "interpreted", False):
            raise Unsupported("runs in Triton's interpreter here: checked, never timed; unset TRITON_INTERPRET")
        available = self.timer.available()
        if not available:
            raise NoTimer(f"timer {self.timer.name}: {available.reason}")
        reason = memory.too_large(case, memory.free_bytes(device), device)
        if reason:
            self.forget()
            reason = memory.too_large(case, memory.free_bytes(device), device)
        if reason:
            raise TooLarge(reason)

    def _check(
        self, record: Record, y: torch.Tensor, expected: torch.Tensor, case: Case, prepared: Prepared, when: str
    ) -> None:
        from sparsity_roofline.kernels.reference import check

        synchronize(self.evidence.device)
        result = check(y, expected, case.dtype, case.K)
        if not when or not result.ok:
            rows.add_check(record, result)
        if not result.ok:
            raise WrongResult(when + result.reason)
        if result.flagged:
            record.kernel_config = rows.as_config({**prepared.config, "coarse": True})

    def _check_fresh(
        self,
        record: Record,
        x: torch.Tensor,
        y: torch.Tensor,
        expected: torch.Tensor,
        case: Case,
        prepared: Prepared,
    ) -> None:
        """Once more with other numbers in the same buffers. -X is exact in every dtype, and so is -expected, which
        makes a second oracle needless; a kernel that returns what it had stored is off by a factor of -1."""
        y.fill_(float("nan"))
        x.neg_()
        expected.neg_()
        try:
            prepared.launch(x, y)
            self._check(record, y, expected, case, prepared, "with other input: ")
        finally:
            x.neg_()
            expected.neg_()


class Steps:
    """Host time of each named part of the preparation, device work included."""

    def __init__(self, device: str) -> None:
        self._device = device
        self.ns: dict[str, int] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        synchronize(self._device)
        start = time.perf_counter_ns()
        try:
            yield
        finally:
            synchronize(self._device)
            self.ns[name] = self.ns.get(name, 0) + time.perf_counter_ns() - start

    def move(self, source: str, target: str, ns: int) -> None:
        """Count a part of one step as another."""
        ns = min(ns, self.ns.get(source, 0))
        self.ns[source] = self.ns.get(source, 0) - ns
        self.ns[target] = self.ns.get(target, 0) + ns

    def as_json(self) -> str:
        """Step -> ns, '' if there was none."""
        return rows.as_config(self.ns) if self.ns else ""


def synchronize(device: str) -> None:
    """Wait for the device; surfaces the error of an earlier launch."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def _oracle(matrix: Matrix, x: torch.Tensor, case: Case) -> torch.Tensor:
    from sparsity_roofline.kernels.reference import oracle

    return oracle(matrix, x, case.dtype, format=case.format)


def _matrix_bytes(matrix: Matrix) -> int:
    dense = 0 if matrix.unpruned is None else matrix.unpruned.nbytes
    return int(matrix.indices.nbytes + matrix.values.nbytes + matrix.indptr.nbytes + dense)


def _without_times(record: Record) -> Record:
    """Samples that were taken before a late failure are worth nothing."""
    from sparsity_roofline.model.record import TIMING_FIELDS

    for name in TIMING_FIELDS:
        setattr(record, name, None)
    record.raw_samples_ns = []
    return record
