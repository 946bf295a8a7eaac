"""What the fixture ``gpu_benchmark`` is: this package's timers in front of pytest-benchmark's statistics.

pytest-benchmark subtracts two readings of a clock around each call. Here the calls have been timed before, on the
device, and are told to it one by one: its clock (``DeviceClock``, given by its own marker ``timer``) advances by
exactly the device time of the call that it believes to watch. All of its statistics, options and files then hold device
time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.expect import parse_shape

if TYPE_CHECKING:
    from sparsity_roofline.bench.measure import Bench
    from sparsity_roofline.bench.timing.protocol import L2State, Samples, Stopping
    from sparsity_roofline.kernels.protocol import Device
    from sparsity_roofline.model.case import Case
    from sparsity_roofline.model.matrix import Matrix
    from sparsity_roofline.model.record import Record

SKIPPED = ("unsupported",)
"""Statuses of a record that skip the test; any but these and ``ok`` fail it."""


class DeviceClock:
    """A clock that stands still until it is told of a call; read by calling it, in seconds."""

    __name__ = "device"

    def __init__(self) -> None:
        self._ns = 0.0

    def __call__(self) -> float:
        return self._ns * 1e-9

    def advance(self, ns: float) -> None:
        """Let so many nanoseconds pass."""
        self._ns += ns


class GpuBenchmark:
    """Use it once in a test, as a function or by ``case``.

    Attributes:
        extra_info: goes into pytest-benchmark's files; filled by both.
    """

    def __init__(self, benchmark: Any, clock: DeviceClock) -> None:
        self._benchmark = benchmark
        self._clock = clock

    @property
    def extra_info(self) -> dict[str, Any]:
        info: dict[str, Any] = self._benchmark.extra_info
        return info

    def __call__(
        self,
        function: Callable[..., Any],
        *args: Any,
        flops: float | None = None,
        bytes: float | None = None,
        sol_us: float | None = None,
        l2: L2State = "cold-clean",
        timer: str | None = None,
        stopping: Stopping | None = None,
        **kwargs: Any,
    ) -> Any:
        """Time ``function(*args, **kwargs)``: on a GPU its device-busy time, on a CPU the time of the call.

        Args:
            flops, bytes: of one call, for ``tflops`` and ``gbps`` in ``extra_info``.
            sol_us: speed-of-light latency, for ``fraction_of_sol``.
            l2: state of the last-level cache before each call.
            timer: by name; the device's default without one.
            stopping: when to stop sampling.

        Returns:
            What the last call returned.
        """
        from sparsity_roofline.bench.environment import pick_device
        from sparsity_roofline.bench.timing import timer_for
        from sparsity_roofline.bench.timing.protocol import InvalidMeasurement, Regime
        from sparsity_roofline.bench.timing.protocol import Stopping as Default

        result: Any = None

        def call() -> None:
            nonlocal result
            result = function(*args, **kwargs)

        if self._benchmark.disabled:
            self._benchmark.pedantic(call)
            return result
        device = pick_device()
        used = timer_for(device, timer)
        try:
            samples = used.measure(call, Regime(l2), stopping or Default())
        except (InvalidMeasurement, UserError) as error:
            self._fail(f"invalid measurement: {error}")
        self._tell(samples.busy_ns)
        self._info(samples, device, used.name, l2, flops, bytes, sol_us)
        return result

    def case(
        self,
        kernel: str,
        shape: str,
        *,
        pattern: str = "unstructured",
        sparsity: float = 0.9,
        dtype: str | None = None,
        device: Device | None = None,
        extra_kernels: tuple[str, ...] = (),
        stopping: Stopping | None = None,
    ) -> Record | None:
        """Time a kernel of the registry on a seeded weight, after its check against the float64 oracle.

        A kernel that does not support the case, or does not run here, skips the test; a wrong result, or samples that
        cannot be vouched for, fail it.

        Args:
            kernel: its name, as ``sparsity-roofline kernels`` lists them.
            shape: M x K x N, as text.
            pattern, sparsity: of the weight.
            dtype: fp16 on a GPU and fp32 on a CPU by default.
            extra_kernels: ``module:name`` or ``file.py:name`` of kernels of your own.

        Returns:
            The record; None where benchmarks are disabled and only the check was made.
        """
        from sparsity_roofline.bench.environment import pick_device

        place = device or pick_device()
        case, matrix = _problem(shape, pattern, sparsity, dtype or ("fp32" if place == "cpu" else "fp16"))
        bench = _bench(place, extra_kernels)
        if kernel not in bench.kernels:
            self._fail(f"no kernel {kernel!r}: there are {', '.join(bench.kernels)}")
        if self._benchmark.disabled:
            self._benchmark.pedantic(lambda: _checked(bench, kernel, case, matrix))
            return None
        bench.stopping = stopping or type(bench.stopping)()
        _LOADED[matrix.name] = matrix
        record = bench.run(case, kernel, 0)
        if record.status in SKIPPED:
            pytest.skip(record.reason)
        if record.status != "ok":
            self._fail(f"{record.status}: {record.reason}")
        self._tell(record.raw_samples_ns)
        self.extra_info.update(_figures(record, case))
        return record

    def _fail(self, text: str) -> NoReturn:
        """Fail inside pytest-benchmark, which would else warn of a fixture that was not used."""
        self._benchmark.pedantic(lambda: pytest.fail(text, pytrace=False))
        raise AssertionError("unreachable")

    def _tell(self, times_ns: list[float]) -> None:
        left = iter(times_ns)
        self._benchmark.pedantic(lambda: self._clock.advance(next(left, 0.0)), rounds=len(times_ns))

    def _info(
        self,
        samples: Samples,
        device: Device,
        timer: str,
        l2: str,
        flops: float | None,
        moved: float | None,
        sol_us: float | None,
    ) -> None:
        import numpy as np

        from sparsity_roofline.bench.environment import device_name

        ns = float(np.median(samples.busy_ns))
        info: dict[str, Any] = {
            "device": device_name(device),
            "timer": timer,
            "l2": l2,
            "kernels_per_call": samples.kernels_per_call,
            "stop_reason": samples.stop_reason,
            "tflops": None if flops is None else flops / ns / 1e3,
            "gbps": None if moved is None else moved / ns,
            "fraction_of_sol": None if sol_us is None else sol_us * 1e3 / ns,
            "sm_clock_mhz": samples.sm_clock_mhz,
        }
        self.extra_info.update({name: value for name, value in info.items() if value is not None})


_LOADED: dict[str, Matrix] = {}
"""Weights of the session by name; the bench asks for them."""


@cache
def _bench(device: Device, extra_kernels: tuple[str, ...]) -> Bench:
    """One bench a session and device, with the ceilings of the data sheet and those that are kept."""
    from sparsity_roofline.bench.begin import begin
    from sparsity_roofline.kernels.registry import load_kernels

    kernels = load_kernels(extra_kernels)
    return begin(device, kernels, lambda _, name: _LOADED[name], run_id="pytest")[0]


@cache
def _problem(shape: str, pattern: str, sparsity: float, dtype: str) -> tuple[Case, Matrix]:
    """A case and its seeded weight, pruned by magnitude."""
    from sparsity_roofline.bench.inputs import dense_weight
    from sparsity_roofline.bench.matrices import synthetic
    from sparsity_roofline.model.case import Case
    from sparsity_roofline.model.pattern import Pattern

    M, K, N = parse_shape(shape)
    parsed = Pattern.parse(pattern)
    if parsed.kind == "dense":
        matrix = dense_weight(M, K, 0)
    else:
        share = None if parsed.kind == "nm" else sparsity
        matrix = synthetic((M, K), parsed, share, name=f"{M}x{K}@{parsed}" + ("" if share is None else f"@{share:g}"))
    return Case.of(matrix, N, dtype, collection="pytest"), matrix


def _checked(bench: Bench, kernel: str, case: Case, matrix: Matrix) -> None:
    """Run once and check, without a time."""
    from sparsity_roofline.bench import inputs
    from sparsity_roofline.bench.measure import synchronize
    from sparsity_roofline.kernels.reference import check, oracle

    device = bench.evidence.device
    answer = bench.kernels[kernel].supports(case, device)
    if not answer:
        pytest.skip(answer.reason)
    x, y = inputs.make_x(case, device), inputs.make_y(case, device)
    bench.kernels[kernel].prepare(matrix, case, device).launch(x, y)
    synchronize(device)
    result = check(y, oracle(matrix, x, case.dtype, format=case.format), case.dtype, case.K)
    if not result.ok:
        pytest.fail(f"incorrect: {result.reason}", pytrace=False)


def _figures(record: Record, case: Case) -> dict[str, Any]:
    """Of a record, what a reader of a benchmark's file looks for; rates by the costs of the preset ``paper``."""
    from sparsity_roofline.model.cost import PRESETS, cost
    from sparsity_roofline.model.table import CaseTable

    ns = record.time_ns
    assert ns is not None
    work = cost(CaseTable.of([case]), PRESETS["paper"])
    sol, kind = record.sol_paper_datasheet_ns, "datasheet"
    if sol is None:
        sol, kind = record.sol_paper_measured_ns, "measured"
    figures: dict[str, Any] = {
        "kernel": record.kernel,
        "kernel_version": record.kernel_version,
        "case": record.case,
        "device": record.device,
        "timer": record.timer,
        "l2": record.regime_l2,
        "clock_state": record.clock_state,
        "sm_clock_mhz": record.sm_clock_mhz,
        "kernels_per_call": record.kernels_per_call,
        "stop_reason": record.stop_reason,
        "time_ci_low_us": (record.time_ci_low_ns or 0.0) / 1e3,
        "time_ci_high_us": (record.time_ci_high_ns or 0.0) / 1e3,
        "fraction_of_sol": None if sol is None else sol / ns,
        "sol_us": None if sol is None else sol / 1e3,
        "ceilings": None if sol is None else kind,
        "bound": record.bound_paper_datasheet or record.bound_paper_measured,
        "tflops": float(work.flops[0]) / ns / 1e3,
        "gbps": float(work.bytes[0]) / ns,
    }
    return {name: value for name, value in figures.items() if value is not None}
