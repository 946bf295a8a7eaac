"""One job in this process: order of events, seeds, memory guard, caches, statuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from sparsity_roofline.bench import inputs, memory, rows
from sparsity_roofline.bench.failures import is_out_of_memory, status_of
from sparsity_roofline.bench.measure import Bench, Recent
from sparsity_roofline.bench.timing.protocol import InvalidMeasurement, Regime, Samples, Stopping
from sparsity_roofline.kernels._cuda.errors import VendorUnsupported
from sparsity_roofline.kernels.protocol import YES, BaseKernel, Support, no_step
from sparsity_roofline.model.case import Case
from sparsity_roofline.model.ceilings import Ceilings
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.matrix import Matrix


class CountingTimer:
    """Calls three times and says it took 1, 2 and 3 microseconds."""

    name = "counting"
    able = YES
    fault: Exception | None = None

    def available(self) -> Support:
        return self.able

    def measure(self, call: Callable[[], None], regime: Regime, stopping: Stopping) -> Samples:
        if self.fault:
            raise self.fault
        for _ in range(3):
            call()
        return Samples([3000.0, 1000.0, 2000.0], [3500.0, 1500.0, 2500.0], 2, "samples", [], None, 1410.0)


class Torch(BaseKernel):
    name, format, devices, dtypes = "csr.t", "csr", ("cpu",), ("fp16", "bf16", "fp32")

    def prepare(self, matrix, case, device, step=no_step):
        from sparsity_roofline.kernels import convert

        w = convert.stored_as_dense(matrix, case.dtype, device)

        class Prepared:
            config = {"where": "/opt/lib/x.so", "n": 3}  # noqa: RUF012

            def launch(self, x, y):
                y.copy_((w.double() @ x.double()).to(y.dtype))

        with step("a"), step("b"):
            pass
        with step("a"):
            return Prepared()


def weight(M=24, K=40, density=0.2, seed=0) -> Matrix:
    rng = np.random.default_rng(seed)
    dense = rng.standard_normal((M, K)).astype(np.float32)
    return Matrix.from_dense("w", dense, rng.random((M, K)) < density)


CEILINGS = Ceilings("cpu", "measured", {"fp32_flops": 1e11, "fp16_flops": 2e11}, 1e10, l2_bytes=1 << 20)


@pytest.fixture
def bench() -> Bench:
    loads: list[str] = []

    def load(source: int, name: str) -> Matrix:
        loads.append(name)
        return weight()

    made = Bench({"csr.t": Torch()}, load, rows.Evidence("r", "cpu", "cpu", "e", None, CEILINGS, 2), CountingTimer())
    made.loads = loads  # type: ignore[attr-defined]
    return made


def a_case(N=7, dtype="fp32", **more) -> Case:
    return Case("c", "w", 24, 40, N, "unstructured", "csr", dtype, nnz=100, used_columns=40, **more)


@pytest.mark.parametrize("dtype", ["fp16", "bf16", "fp32"])
@pytest.mark.parametrize("N", [1, 7])
def test_ok_record_is_complete(bench: Bench, dtype: str, N: int) -> None:
    record = bench.run(a_case(N, dtype), "csr.t", 0)
    assert (record.status, record.reason) == ("ok", "")
    assert (record.time_ns, record.time_min_ns, record.samples, record.discarded) == (2000.0, 1000.0, 3, 0)
    assert (record.span_ns, record.kernels_per_call, record.sm_clock_mhz) == (2500.0, 2, 1410.0)
    assert record.raw_samples_ns == [3000.0, 1000.0, 2000.0]
    assert record.nnz == weight().nnz
    assert record.digest == weight().digest
    assert record.empty_rows == int((weight().row_lengths == 0).sum())
    assert record.max_row_nnz == int(weight().row_lengths.max())
    assert json.loads(record.kernel_config)["where"] == "x.so"
    assert list(json.loads(record.setup_ns)) == ["a", "b", "first launch"]
    assert record.threads == 2
    if dtype == "bf16":  # no ceiling for it: the columns stay empty, the row stands
        assert record.sol_paper_measured_ns is None
    else:
        assert record.sol_paper_measured_ns is not None
        assert record.sol_bound_measured_ns <= record.sol_paper_measured_ns
        expected = 2 * weight().nnz * N
        assert record.flops_paper == expected


def test_speed_of_light_columns_are_the_models(bench: Bench) -> None:
    from sparsity_roofline.model.roofline import sol_case

    case = a_case().realise(weight())
    record = bench.run(a_case(), "csr.t", 0)
    for preset in ("paper", "unit", "bound"):
        sol, bound, flops, moved = sol_case(case, CEILINGS, preset, "cpu")
        assert getattr(record, f"sol_{preset}_measured_ns") == pytest.approx(sol * 1e9)
        assert getattr(record, f"bound_{preset}_measured") == bound
        assert getattr(record, f"flops_{preset}") == flops
        assert getattr(record, f"bytes_{preset}") == moved
    assert record.sol_paper_datasheet_ns is None
    assert record.ceilings_measured == CEILINGS.identity


def test_matrix_inputs_and_oracle_are_made_once_per_problem(bench: Bench, monkeypatch) -> None:
    made = []
    real = inputs.make_x
    monkeypatch.setattr(inputs, "make_x", lambda *a: made.append(a) or real(*a))
    for _ in range(3):
        bench.run(a_case(), "csr.t", 0)
    assert bench.loads == ["w"]  # type: ignore[attr-defined]
    assert len(made) == 1
    bench.run(a_case(N=8), "csr.t", 0)
    assert bench.loads == ["w"]  # type: ignore[attr-defined]
    assert len(made) == 2


def test_invalid_measurement_and_missing_timer(bench: Bench) -> None:
    bench.timer.fault = InvalidMeasurement("records were lost")  # type: ignore[attr-defined]
    record = bench.run(a_case(), "csr.t", 0)
    assert (record.status, record.reason) == ("invalid_environment", "records were lost")
    assert record.error_rms is not None
    bench.timer.fault = UserError("cannot hold clocks", 6)  # type: ignore[attr-defined]
    assert bench.run(a_case(), "csr.t", 0).status == "invalid_environment"
    bench.timer.able = Support("no CUPTI; install it")  # type: ignore[attr-defined]
    record = bench.run(a_case(), "csr.t", 0)
    assert (record.status, record.reason) == ("invalid_environment", "timer counting: no CUPTI; install it")


def test_too_large_is_refused_before_anything_is_allocated(bench: Bench, monkeypatch) -> None:
    monkeypatch.setattr(inputs, "make_x", lambda *a: pytest.fail("allocated"))
    record = bench.run(a_case(N=2**40), "csr.t", 0)
    assert record.status == "out_of_memory"
    assert "GiB of memory" in record.reason
    monkeypatch.undo()
    assert bench.run(a_case(), "csr.t", 0).status == "ok"


def test_changed_collection_and_unsupported_dtype_are_rows(bench: Bench) -> None:
    record = bench.run(replace(a_case(), M=99), "csr.t", 0)
    assert record.status == "error"
    assert "the collection changed" in record.reason
    record = bench.run(a_case(dtype="fp64"), "csr.t", 0)
    assert (record.status, record.reason) == ("unsupported", "no fp64: accepts fp16, bf16, fp32")


def test_dense_case_uses_the_seeded_weight(bench: Bench) -> None:
    class Dense(Torch):
        name, format = "dense.t", "dense"

        def prepare(self, matrix, case, device, step=no_step):
            seen.append(matrix)
            from sparsity_roofline.kernels import convert

            w = convert.dense_operand(matrix, case.dtype, device)

            class Prepared:
                config: dict = {}  # noqa: RUF012

                def launch(self, x, y):
                    torch.mm(w, x, out=y)

            return Prepared()

    seen: list[Matrix] = []
    bench.kernels["dense.t"] = Dense()  # type: ignore[index]
    case = Case("c", "dense/24x40", 24, 40, 7, "dense", "dense", "fp32", nnz=960, used_columns=40, seed=5)
    record = bench.run(case, "dense.t", -1)
    assert record.status == "ok"
    assert (record.nnz, record.max_row_nnz, record.empty_rows) == (960, 40, 0)
    expected = inputs.dense_weight(24, 40, 5).unpruned
    assert np.array_equal(seen[0].unpruned, expected)
    assert (expected != 0).all()
    assert bench.loads == []  # type: ignore[attr-defined]


def test_empty_weight(bench: Bench) -> None:
    bench.load = lambda source, name: weight(density=0.0)
    record = bench.run(a_case(), "csr.t", 0)
    assert record.status == "ok"
    assert (record.nnz, record.used_columns, record.empty_rows) == (0, 0, 24)


@pytest.mark.parametrize("layout", ["row-major", "token-major"])
def test_inputs_are_seeded_non_zero_and_laid_out(layout) -> None:
    case = a_case(N=50, dtype="fp16", layout=layout)
    x = inputs.make_x(case, "cpu")
    assert x.shape == (40, 50)
    assert x.is_contiguous() == (layout == "row-major")
    assert (x != 0).all()
    assert torch.equal(x, inputs.make_x(case, "cpu"))
    assert not torch.equal(x, inputs.make_x(replace(case, seed=1), "cpu"))
    assert abs(float(x.float().mean())) < 0.1
    assert abs(float(x.float().std()) - 1) < 0.1
    y = inputs.make_y(case, "cpu")
    assert y.shape == (24, 50)
    assert y.isnan().all()


def test_dense_and_sparse_get_the_same_input() -> None:
    dense = Case("c", "dense/24x40", 24, 40, 7, "dense", "dense", "fp32", nnz=960)
    assert torch.equal(inputs.make_x(dense, "cpu"), inputs.make_x(a_case(), "cpu"))


def test_bytes_needed_covers_what_is_certainly_allocated() -> None:
    case = replace(a_case(), M=1000, K=2000, N=3000, nnz=50_000)
    certain = 4 * (2000 * 3000 + 1000 * 3000) + 8 * 1000 * 3000 + 8 * 50_000
    assert memory.bytes_needed(case) > certain
    assert memory.too_large(case, memory.bytes_needed(case), "cpu") == ""
    assert "needs about" in memory.too_large(case, memory.bytes_needed(case) - 1, "cpu")
    assert memory.free_bytes("cpu") > 0


def test_status_of() -> None:
    assert status_of(RuntimeError("CUDA out of memory. Tried"))[0] == "out_of_memory"
    assert status_of(RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling"))[0] == "out_of_memory"
    assert status_of(type("OutOfMemoryError", (Exception,), {})("x")) == ("out_of_memory", "x")
    assert status_of(VendorUnsupported("cuSPARSE: NOT_SUPPORTED", "NOT_SUPPORTED"))[0] == "unsupported"
    assert status_of(MemoryError()) == ("out_of_memory", "the allocation failed")
    assert status_of(type("OutOfResources", (Exception,), {})("shared memory"))[0] == "error"
    assert status_of(UserError("bad file: line 3")) == ("error", "bad file: line 3")
    assert status_of(ValueError("\n\n  first \nsecond")) == ("error", "ValueError: first")
    assert status_of(KeyError()) == ("error", "KeyError")
    assert not is_out_of_memory(ValueError("out of memory"))


def test_recent_keeps_the_newest_within_its_budget() -> None:
    kept: Recent[str] = Recent(10)
    made = []

    def get(key: str) -> str:
        return kept.get(key, lambda: made.append(key) or key, lambda v: 4)

    for key in "abab":
        get(key)
    assert made == ["a", "b"]
    get("c")  # 12 bytes: the least recently used, a, goes
    get("b")
    get("a")
    assert made == ["a", "b", "c", "a"]
    lone: Recent[str] = Recent(0)
    assert lone.get("x", lambda: "big", lambda v: 99) == "big"
    assert lone.get("x", lambda: pytest.fail("made again"), lambda v: 99) == "big"


def test_wall_time_is_split_into_phases(bench: Bench) -> None:
    class Settling(CountingTimer):
        settled = 0

        def settle(self) -> None:
            Settling.settled += 1

        def measure(self, call: Callable[[], None], regime: Regime, stopping: Stopping) -> Samples:
            assert Settling.settled  # before the samples, and before the readings around them
            return replace(super().measure(call, regime, stopping), warm_up_s=1e-6)

    bench.timer = Settling()
    wall = json.loads(bench.run(a_case(), "csr.t", 0).wall_ns)
    phases = {"load", "library start", "conversion", "inputs", "oracle", "first launch", "check", "clock settling"}
    assert set(wall) == {*phases, "warm-up", "timing", "total"}
    assert wall["warm-up"] == 1000
    assert wall["total"] >= sum(ns for name, ns in wall.items() if name != "total")
    failed = bench.run(a_case(dtype="fp64"), "csr.t", 0)
    assert failed.status == "unsupported"
    assert json.loads(failed.wall_ns)["total"] > 0


def test_a_library_is_loaded_before_its_setup_is_timed(bench: Bench) -> None:
    class Lazy(Torch):
        prepared = 0

        def prepare(self, matrix, case, device, step=no_step):
            Lazy.prepared += 1
            return super().prepare(matrix, case, device, step)

    bench.kernels = {"csr.t": Lazy()}
    for count, dtype in ((2, "fp32"), (3, "fp32"), (5, "fp16")):
        assert bench.run(a_case(dtype=dtype), "csr.t", 0).status == "ok"
        assert Lazy.prepared == count


def test_causes_of_discarded_samples_are_counted(bench: Bench) -> None:
    class Losing(CountingTimer):
        def measure(self, call: Callable[[], None], regime: Regime, stopping: Stopping) -> Samples:
            return Samples([1e3] * 100, [1e3] * 100, 1, "samples", ["host late", "host late", "lost"])

    bench.timer = Losing()
    record = bench.run(a_case(), "csr.t", 0)
    assert (record.status, record.discarded) == ("ok", 3)
    assert json.loads(record.discard_causes) == {"host late": 2, "lost": 1}
    assert bench_record_without_causes(bench).discard_causes == ""


def bench_record_without_causes(bench: Bench):
    bench.timer = CountingTimer()
    return bench.run(a_case(), "csr.t", 0)


def test_a_dense_case_multiplies_the_weight_it_names() -> None:
    rng = np.random.default_rng(1)
    before = rng.standard_normal((24, 40)).astype(np.float32)
    pruned = Matrix.from_dense("layer@0.9", before, rng.random((24, 40)) < 0.1, unpruned=before)
    multiplied: list[torch.Tensor] = []

    class Dense(Torch):
        name, format = "dense.t", "dense"

        def prepare(self, matrix, case, device, step=no_step):
            from sparsity_roofline.kernels import convert

            w = convert.dense_operand(matrix, case.dtype, device)
            multiplied.append(w)

            class Prepared:
                config: dict[str, object] = {}  # noqa: RUF012

                def launch(self, x, y):
                    y.copy_((w.double() @ x.double()).to(y.dtype))

            return Prepared()

    def load(source: int, name: str) -> Matrix:
        assert (source, name) == (4, "layer@0.9")
        return pruned

    evidence = rows.Evidence("r", "cpu", "cpu", "e", None, CEILINGS, 2)
    bench = Bench({"dense.t": Dense()}, load, evidence, CountingTimer())
    case = Case("c", inputs.dense_name(24, 40), 24, 40, 7, "dense", "dense", "fp32", 960, weight="layer@0.9")
    record = bench.run(case, "dense.t", 4)
    assert (record.status, record.weight) == ("ok", "layer@0.9")
    assert np.array_equal(multiplied[-1].numpy(), before)
    seeded = bench.run(replace(case, weight=inputs.SEEDED), "dense.t", -1)
    assert (seeded.status, seeded.weight) == ("ok", "seeded")
    assert np.array_equal(multiplied[-1].numpy(), inputs.dense_weight(24, 40, 0).dense_operand())


def test_a_peer_far_slower_than_the_dense_product_is_not_timed(bench: Bench, monkeypatch) -> None:
    """Dense is said to take 2 us; the peer sleeps 20 ms a call, ours too, and only the peer is skipped."""
    import time

    class Slow(Torch):
        def prepare(self, matrix, case, device, step=no_step):
            prepared = super().prepare(matrix, case, device, step)
            launch = prepared.launch

            def late(x, y):
                time.sleep(0.02)
                launch(x, y)

            prepared.launch = late
            return prepared

    class Ours(Slow):
        ours = True

    class Dense(Torch):
        name, format = "dense.t", "dense"

        def prepare(self, matrix, case, device, step=no_step):
            from sparsity_roofline.kernels import convert

            w = convert.dense_operand(matrix, case.dtype, device)

            class Prepared:
                config: dict = {}  # noqa: RUF012

                def launch(self, x, y):
                    torch.mm(w, x, out=y)

            return Prepared()

    bench.kernels = {"csr.t": Slow(), "csr.o": Ours(), "dense.t": Dense()}
    dense = Case("c", "dense/24x40", 24, 40, 7, "dense", "dense", "fp32", nnz=960, used_columns=40)
    bench.stopping = Stopping(skip_above=20)
    assert bench.run(a_case(), "csr.t", 0).status == "ok"  # the dense time is not known yet
    assert bench.run(dense, "dense.t", -1).status == "ok"
    skipped = bench.run(a_case(), "csr.t", 0)
    assert skipped.status == "unsupported"
    assert "not timed: one call takes" in skipped.reason
    assert "more than 20 times the dense product's 0.002 ms" in skipped.reason
    assert skipped.time_ns is None
    assert bench.run(a_case(), "csr.o", 0).status == "ok"
    assert bench.run(a_case(N=8), "csr.t", 0).status == "ok"  # another shape, without a dense time
    bench.stopping = Stopping()
    assert bench.run(a_case(), "csr.t", 0).status == "ok"
