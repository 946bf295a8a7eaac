"""The cuSPARSE plans against a stand-in that reads the same memory by the same descriptors, without a GPU."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsity_roofline.kernels import reference
from sparsity_roofline.kernels._cuda import bindings, handles
from sparsity_roofline.kernels._cuda.errors import VendorOutOfMemory
from sparsity_roofline.kernels.bsr.cusparse import KERNELS as BSR
from sparsity_roofline.kernels.convert import stored_as_dense, torch_dtype
from sparsity_roofline.kernels.csr.cusparse import KERNELS as CSR
from sparsity_roofline.kernels.protocol import YES
from sparsity_roofline.kernels.tolerance import UNIT_ROUNDOFF
from sparsity_roofline.model.case import Case
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.matrix import Matrix
from sparsity_roofline.model.pattern import Pattern

TYPES = {0: torch.float32, 2: torch.float16, 14: torch.bfloat16}


def memory(address: int, count: int, dtype: torch.dtype) -> torch.Tensor:
    """The tensor at an address, as a library would see it."""
    size = count * dtype.itemsize
    return torch.frombuffer((ctypes.c_char * size).from_address(address), dtype=dtype) if size else torch.empty(0)


class FakeCusparse:
    """Does what the generic API documents, on host memory, and writes down every call."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.objects: dict[int, dict[str, Any]] = {}
        self.streams: list[int] = []
        self.prepared: tuple[Any, ...] | None = None
        self.fail: dict[str, Exception] = {}
        self._next = 1000

    def _log(self, name: str) -> None:
        self.calls.append(name)
        if name in self.fail:
            raise self.fail[name]

    def _new(self, **about: Any) -> int:
        self._next += 8
        self.objects[self._next] = about
        return self._next

    def create(self) -> int:
        self._log("create")
        return 42

    def set_stream(self, handle: int, stream: int) -> None:
        self._log("set_stream")
        assert handle == 42
        self.streams.append(stream)

    def create_csr(
        self, rows: int, cols: int, nnz: int, ptr: int, idx: int, val: int, pt: int, it: int, base: int, vt: int
    ) -> int:
        self._log("create_csr")
        assert (pt, it, base) == (2, 2, 0)
        return self._new(shape=(rows, cols), nnz=nnz, r=1, c=1, ptr=ptr, idx=idx, val=val, type=vt)

    def create_bsr(
        self, brows: int, bcols: int, bnnz: int, r: int, c: int, ptr: int, idx: int, val: int,
        pt: int, it: int, base: int, vt: int, order: int,
    ) -> int:  # fmt: skip
        self._log("create_bsr")
        assert (pt, it, base, order) == (2, 2, 0, 2)
        return self._new(shape=(brows * r, bcols * c), nnz=bnnz, r=r, c=c, ptr=ptr, idx=idx, val=val, type=vt)

    def create_dn_mat(self, rows: int, cols: int, ld: int, values: int, kind: int, order: int) -> int:
        self._log("create_dn_mat")
        assert values
        assert order == 2
        assert ld >= cols
        return self._new(shape=(rows, cols), ld=ld, values=values, type=kind)

    def dn_mat_set_values(self, descriptor: int, values: int) -> None:
        self._log("dn_mat_set_values")
        self.objects[descriptor]["values"] = values

    def destroy_sp_mat(self, descriptor: int) -> None:
        self._log("destroy_sp_mat")
        del self.objects[descriptor]

    def destroy_dn_mat(self, descriptor: int) -> None:
        self._log("destroy_dn_mat")
        del self.objects[descriptor]

    def sp_mm_buffer_size(self, *args: int) -> int:
        self._log("sp_mm_buffer_size")
        assert len(args) == 10
        return 512

    def sp_mm_preprocess(self, *args: int) -> None:
        self._log("sp_mm_preprocess")
        assert len(args) == 11
        self.prepared = args

    def sp_mm(
        self, handle: int, op_a: int, op_b: int, alpha: int, a: int, b: int, beta: int, c: int,
        compute: int, alg: int, buffer: int,
    ) -> None:  # fmt: skip
        self._log("sp_mm")
        assert (handle, op_a, op_b, compute) == (42, 0, 0, 0)
        assert buffer
        if alg in (4, 12):  # preprocessing counts for the same operands, algorithm and buffer only
            assert self.prepared == (handle, op_a, op_b, alpha, a, b, beta, c, compute, alg, buffer)
        assert ctypes.c_float.from_address(alpha).value == 1.0
        assert ctypes.c_float.from_address(beta).value == 0.0
        w = self._dense_weight(self.objects[a])
        x, y = (self._dense(self.objects[d]) for d in (b, c))
        y.copy_((w.float() @ x.float()).to(y.dtype))

    def _dense_weight(self, about: dict[str, Any]) -> torch.Tensor:
        (rows, cols), r, c = about["shape"], about["r"], about["c"]
        ptr = memory(about["ptr"], rows // r + 1, torch.int32).tolist()
        idx = memory(about["idx"], about["nnz"], torch.int32).tolist()
        val = memory(about["val"], about["nnz"] * r * c, TYPES[about["type"]]).view(-1, r, c)
        out = torch.zeros((rows, cols), dtype=val.dtype)
        for row in range(rows // r):
            for at in range(ptr[row], ptr[row + 1]):
                out[row * r : row * r + r, idx[at] * c : idx[at] * c + c] += val[at]
        return out

    def _dense(self, about: dict[str, Any]) -> torch.Tensor:
        rows, cols = about["shape"]
        flat = memory(about["values"], (rows - 1) * about["ld"] + cols, TYPES[about["type"]])
        return flat.as_strided((rows, cols), (about["ld"], 1))


@contextmanager
def faked(version: tuple[int, int, int] = (12, 6, 3), *, complete: bool = True) -> Iterator[FakeCusparse]:
    """A machine whose cuSPARSE is the stand-in."""
    fake = FakeCusparse()
    binding = bindings.Binding("fake", fake, version, complete)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bindings, "needs_cuda", lambda: YES)
        patch.setattr(bindings, "_nvmath", lambda library: binding if complete else bindings.INSTALL_NVMATH)
        patch.setattr(bindings, "_cupy_cusparse", lambda: binding)
        handles.forget()
        yield fake
        handles.forget()


def weight(M: int, K: int, density: float, *, r: int = 0, c: int = 0, seed: int = 0) -> Matrix:
    rng = np.random.default_rng(seed)
    dense = rng.standard_normal((M, K)).astype(np.float32)
    mask = rng.random((-(-M // max(r, 1)), -(-K // max(c, 1)))) < density
    if r:
        mask = np.repeat(np.repeat(mask, r, 0), c, 1)[:M, :K]
        return Matrix.from_dense("w", dense, mask, pattern=Pattern("block", r=r, c=c))
    return Matrix.from_dense("w", dense, mask)


def operands(case: Case, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    kind = torch_dtype(case.dtype)
    x = torch.randn((case.K, case.N), generator=generator).to(kind)
    return x, torch.full((case.M, case.N), float("nan")).to(kind)


def correct(kernel: Any, matrix: Matrix, case: Case) -> None:
    prepared = kernel.prepare(matrix, case, "cpu")
    x, y = operands(case)
    prepared.launch(x, y)
    # Against the sum of |w x|, not against y: the few elements of a small product may cancel to almost nothing.
    w = stored_as_dense(matrix, case.dtype, "cpu").double()
    bound = (4 * UNIT_ROUNDOFF[case.dtype] + case.K * 2.0**-24) * (w.abs() @ x.double().abs())
    assert y.dtype == x.dtype
    assert bool(((y.double() - w @ x.double()).abs() <= bound).all())


@pytest.mark.parametrize("kernel", CSR, ids=lambda k: k.name)
@pytest.mark.parametrize("dtype", ["fp16", "bf16", "fp32"])
@pytest.mark.parametrize(("M", "K", "N", "density"), [(7, 13, 5, 0.4), (1, 1, 1, 1.0), (33, 17, 1, 0.1), (4, 64, 8, 1)])
def test_csr_plan_multiplies(kernel: Any, dtype: str, M: int, K: int, N: int, density: float) -> None:
    matrix = weight(M, K, density)
    with faked():
        correct(kernel, matrix, Case.of(matrix, N, dtype))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 9), st.floats(0, 1), st.integers(0, 99))
def test_csr_plan_multiplies_anything(M: int, K: int, N: int, density: float, seed: int) -> None:
    matrix = weight(M, K, density, seed=seed)
    with faked():
        correct(CSR[0], matrix, Case.of(matrix, N, "fp32"))


@pytest.mark.parametrize("dtype", ["fp16", "bf16", "fp32"])
@pytest.mark.parametrize(("r", "c"), [(4, 4), (2, 8), (16, 16)])
def test_bsr_plan_multiplies(dtype: str, r: int, c: int) -> None:
    matrix = weight(3 * r, 5 * c, 0.5, r=r, c=c)
    with faked():
        correct(BSR[0], matrix, Case.of(matrix, 3, dtype))


def test_csr_is_planned_once_and_launches_only_set_pointers() -> None:
    matrix = weight(6, 8, 0.5)
    case = Case.of(matrix, 4, "fp32")
    steps: list[str] = []

    @contextmanager
    def step(name: str) -> Iterator[None]:
        steps.append(name)
        yield

    with faked() as fake:
        prepared = CSR[0].prepare(matrix, case, "cpu", step)
        assert steps == ["convert", "plan", "preprocess"]
        assert fake.calls == [
            "create", "set_stream", "create_csr", "create_dn_mat", "create_dn_mat",
            "sp_mm_buffer_size", "sp_mm_preprocess",
        ]  # fmt: skip
        fake.calls.clear()
        x, y = operands(case)
        prepared.launch(x, y)
        assert fake.calls == ["dn_mat_set_values", "dn_mat_set_values", "sp_mm"]
        fake.calls.clear()
        prepared.launch(x, y)
        assert fake.calls == ["sp_mm"]
        fake.calls.clear()
        other = y.clone()
        prepared.launch(x, other)
        assert fake.calls == ["dn_mat_set_values", "sp_mm"]
        assert torch.equal(y, other)


def test_algorithm_2_has_no_preprocessing() -> None:
    matrix = weight(6, 8, 0.5)
    with faked() as fake:
        prepared = CSR[2].prepare(matrix, Case.of(matrix, 4, "fp16"), "cpu")
        assert "sp_mm_preprocess" not in fake.calls
    assert prepared.config["algorithm"] == "CSR_ALG2"
    assert prepared.config["preprocess"] is False


def test_config_says_what_runs() -> None:
    matrix = weight(6, 8, 0.5)
    with faked():
        config = CSR[0].prepare(matrix, Case.of(matrix, 4, "fp16"), "cpu").config
    assert config == {
        "library": "cusparse", "library_version": "12.6.3", "binding": "fake", "algorithm": "CSR_ALG3",
        "preprocess": True, "layout": "row-major", "index": "int32", "compute": "fp32", "workspace_bytes": 512,
    }  # fmt: skip


def test_plans_share_the_handle_and_own_their_descriptors() -> None:
    matrix = weight(6, 8, 0.5)
    case = Case.of(matrix, 4, "fp32")
    with faked() as fake:
        first = CSR[2].prepare(matrix, case, "cpu")
        second = CSR[2].prepare(matrix, case, "cpu")
        assert fake.calls.count("create") == 1
        assert len(fake.objects) == 6
        del first
        gc.collect()
        assert len(fake.objects) == 3
        x, y = operands(case)
        second.launch(x, y)
        assert bool(torch.isfinite(y).all())
        second.close()
        assert not fake.objects


def test_operands_stay_alive_with_the_plan() -> None:
    """The stand-in reads the weight's memory at every launch; garbage collection must not have freed it."""
    matrix = weight(40, 60, 0.5)
    case = Case.of(matrix, 4, "fp32")
    with faked():
        prepared = CSR[0].prepare(matrix, case, "cpu")
        gc.collect()
        clutter = [torch.full((4096,), float("nan")) for _ in range(200)]
        x, y = operands(case)
        prepared.launch(x, y)
        assert reference.check(y, reference.oracle(matrix, x, "fp32"), "fp32", 60).ok
    assert clutter


def test_the_current_stream_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = weight(6, 8, 0.5)
    case = Case.of(matrix, 4, "fp32")
    with faked() as fake:
        prepared = CSR[2].prepare(matrix, case, "cpu")
        x, y = operands(case)
        monkeypatch.setattr(handles, "current_stream", lambda device: 7)
        prepared.launch(x, y)
        prepared.launch(x, y)
        monkeypatch.setattr(handles, "current_stream", lambda device: 0)
        prepared.launch(x, y)
    assert fake.streams == [0, 7, 0]


def test_a_failure_half_way_destroys_what_was_made() -> None:
    matrix = weight(6, 8, 0.5)
    error = type("cuSPARSEError", (Exception,), {"status": 2})()
    with faked() as fake:
        fake.fail["sp_mm_buffer_size"] = error
        with pytest.raises(VendorOutOfMemory, match="SpMM_bufferSize failed with status ALLOC_FAILED"):
            CSR[0].prepare(matrix, Case.of(matrix, 4, "fp32"), "cpu")
        gc.collect()
        assert not fake.objects


def test_a_failing_launch_names_the_status() -> None:
    matrix = weight(6, 8, 0.5)
    case = Case.of(matrix, 4, "fp32")
    with faked() as fake:
        prepared = CSR[0].prepare(matrix, case, "cpu")
        fake.fail["sp_mm"] = type("cuSPARSEError", (Exception,), {"status": 6})()
        with pytest.raises(RuntimeError, match="cuSPARSE SpMM failed with status EXECUTION_FAILED"):
            prepared.launch(*operands(case))


def test_wrong_operands_never_reach_the_library() -> None:
    matrix = weight(6, 8, 0.5)
    case = Case.of(matrix, 4, "fp32")
    with faked() as fake:
        prepared = CSR[0].prepare(matrix, case, "cpu")
        fake.calls.clear()
        x, y = operands(case)
        with pytest.raises(ValueError, match="y must be"):
            prepared.launch(x, y[:3])
        assert not fake.calls


@pytest.mark.parametrize("kernel", [*CSR, *BSR], ids=lambda k: k.name)
@pytest.mark.parametrize(("M", "N"), [(8, 3), (0, 3), (8, 0)])
def test_nothing_stored_is_zero_filled_without_the_library(kernel: Any, M: int, N: int) -> None:
    matrix = weight(M, 8, 0.0, r=4, c=4) if kernel in BSR else weight(M, 8, 0.0)
    case = Case.of(matrix, N, "fp16")
    with faked() as fake:
        assert kernel.supports(case, "cuda")
        prepared = kernel.prepare(matrix, case, "cpu")
        x, y = operands(case)
        prepared.launch(x, y)
        assert not fake.calls
    assert y.shape == (M, N)
    assert not y.any()
    assert "zeros" in prepared.config["algorithm"]


def test_empty_rows_and_columns_are_fine() -> None:
    dense = np.zeros((9, 11), dtype=np.float32)
    dense[4, 2:9] = np.arange(1, 8)
    matrix = Matrix.from_dense("one row", dense)
    with faked():
        for kernel in CSR:
            correct(kernel, matrix, Case.of(matrix, 6, "fp32"))


def test_supports_says_why_not() -> None:
    matrix = weight(6, 8, 0.5)

    def reason(kernel: Any, **changes: Any) -> str:
        values = {**Case.of(matrix, 4, "fp16").to_dict(), **changes}
        text: str = kernel.supports(Case.from_dict(values), "cuda").reason
        return text

    with faked():
        assert reason(CSR[0]) == ""
        assert "fp64" in reason(CSR[0], dtype="fp64")
        assert "int32" in reason(CSR[0], nnz=2**31)
        assert reason(CSR[0], N=1_048_560) == ""
        assert "N exceeds 1048560, where cuSPARSE 12.6.3 writes zeros: needs 12.7.20" in reason(CSR[0], N=1_048_561)
        assert "row-major" in reason(CSR[0], layout="token-major")
        assert "multiplies csr" in reason(CSR[0], format="bsr")
        block = {"format": "bsr", "block_rows": 2, "block_cols": 2, "stored_blocks": 3}
        assert reason(BSR[0], **block) == ""
        assert "multiples of the block" in reason(BSR[0], **{**block, "block_rows": 4})
        assert "multiples of the block" in reason(BSR[0], **{**block, "block_cols": 3})
        assert "square blocks only" in reason(BSR[0], **{**block, "block_cols": 1})
    with faked((12, 7, 20)):
        assert reason(CSR[0], N=1_048_561) == ""


def test_only_algorithm_2_runs_without_preprocessing() -> None:
    matrix = weight(6, 8, 0.5)
    case = Case.of(matrix, 4, "fp32")
    with faked(complete=False):
        assert "nvmath" in CSR[0].available("cuda").reason
        assert "nvmath" in CSR[1].available("cuda").reason
        assert "nvmath" in BSR[0].available("cuda").reason
        assert CSR[2].available("cuda")
        correct(CSR[2], matrix, case)
        with pytest.raises(UserError, match="nvmath-python"):
            CSR[0].prepare(matrix, case, "cpu")


def test_units_are_cuda_cores() -> None:
    assert {kernel.unit(dtype, "cuda") for kernel in (*CSR, *BSR) for dtype in kernel.dtypes} == {"cuda"}
