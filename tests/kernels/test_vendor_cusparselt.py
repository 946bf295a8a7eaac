"""The cuSPARSELt plan against a stand-in that reads the same memory by the same descriptors, without a GPU."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from sparsity_roofline.kernels import reference
from sparsity_roofline.kernels._cuda import bindings, handles
from sparsity_roofline.kernels._cuda.errors import VendorUnsupported
from sparsity_roofline.kernels.convert import torch_dtype
from sparsity_roofline.kernels.nm.cusparselt import KERNELS
from sparsity_roofline.kernels.protocol import YES
from sparsity_roofline.model.case import Case
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.matrix import Matrix
from sparsity_roofline.model.pattern import Pattern

KERNEL = KERNELS[0]
TYPES = {2: torch.float16, 14: torch.bfloat16}


def memory(address: int, count: int, dtype: torch.dtype) -> torch.Tensor:
    """The tensor at an address, as a library would see it."""
    return torch.frombuffer((ctypes.c_char * (count * dtype.itemsize)).from_address(address), dtype=dtype)


class FakeCusparselt:
    """Does what the library documents, on host memory, and writes down every call. Compressing copies the weight."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.objects: dict[int, tuple[Any, ...]] = {}
        self.streams: list[int] = []
        self.searched = False
        self.fail: dict[str, Exception] = {}
        self._next = 1000

    def _log(self, name: str) -> None:
        self.calls.append(name)
        if name in self.fail:
            raise self.fail[name]

    def _new(self, name: str, *about: Any) -> int:
        self._log(name)
        self._next += 8
        self.objects[self._next] = about
        return self._next

    def _destroy(self, address: int) -> None:
        del self.objects[address]

    mat_descriptor_destroy = matmul_descriptor_destroy = matmul_plan_destroy = _destroy

    def matmul_alg_selection_destroy(self, address: int) -> None:
        self._destroy(address)
        raise RuntimeError("function cusparseLtMatmulAlgSelectionDestroy is not found")  # as libraries before 0.8 do

    def init(self) -> int:
        self._log("init")
        return 42

    def structured_descriptor_init(
        self, handle: int, rows: int, cols: int, ld: int, alignment: int, kind: int, order: int, sparsity: int
    ) -> int:
        assert (handle, ld, alignment, order, sparsity) == (42, cols, 16, 2, 0)
        return self._new("structured_descriptor_init", rows, cols, kind)

    def dense_descriptor_init(
        self, handle: int, rows: int, cols: int, ld: int, alignment: int, kind: int, order: int
    ) -> int:
        assert (handle, ld, alignment, order) == (42, cols, 16, 2)
        return self._new("dense_descriptor_init", rows, cols, kind)

    def matmul_descriptor_init(
        self, handle: int, op_a: int, op_b: int, a: int, b: int, c: int, d: int, compute: int
    ) -> int:
        assert (handle, op_a, op_b, compute) == (42, 0, 0, 2)
        assert c == d
        return self._new("matmul_descriptor_init", *(self.objects[m] for m in (a, b, c)))

    def matmul_alg_selection_init(self, handle: int, product: int, algorithm: int) -> int:
        assert (handle, algorithm) == (42, 0)
        assert product in self.objects
        return self._new("matmul_alg_selection_init", product)

    def matmul_plan_init(self, handle: int, product: int, selection: int) -> int:
        assert handle == 42
        assert self.objects[selection] == (product,)
        return self._new("matmul_plan_init", product)

    def matmul_get_workspace(self, handle: int, plan: int) -> int:
        self._log("matmul_get_workspace")
        return 4096 if self.searched else 0

    def sp_mma_compressed_size2(self, handle: int, a: int) -> tuple[int, int]:
        self._log("sp_mma_compressed_size2")
        rows, cols, kind = self.objects[a]
        return rows * cols * TYPES[kind].itemsize, 100

    def sp_mma_compress2(
        self, handle: int, a: int, sparse_a: int, op: int, dense: int, compressed: int, buffer: int, stream: int
    ) -> None:
        self._log("sp_mma_compress2")
        assert (handle, sparse_a, op, stream) == (42, 1, 0, 0)
        assert buffer
        rows, cols, kind = self.objects[a]
        ctypes.memmove(compressed, dense, rows * cols * TYPES[kind].itemsize)

    def matmul_search(self, *args: int) -> None:
        self._log("matmul_search")
        self._multiply(*args)
        self.searched = True

    def matmul(self, *args: int) -> None:
        self._log("matmul")
        self._multiply(*args)

    def matmul_alg_get_attribute(self, handle: int, selection: int, attribute: int, data: int, size: int) -> None:
        self._log("matmul_alg_get_attribute")
        assert handle == 42
        assert size == 4
        assert selection in self.objects
        ctypes.c_int32.from_address(data).value = {0: 5, 3: 2, 4: 1}[attribute]

    def _multiply(
        self, handle: int, plan: int, alpha: int, a: int, b: int, beta: int, c: int, d: int, workspace: int,
        streams: int, count: int,
    ) -> None:  # fmt: skip
        assert (handle, count) == (42, 1)
        assert c == d
        assert workspace
        assert ctypes.c_float.from_address(alpha).value == 1.0
        assert ctypes.c_float.from_address(beta).value == 0.0
        self.streams.append(ctypes.c_uint64.from_address(streams).value)
        shapes = self.objects[self.objects[plan][0]]
        w, x, y = (
            memory(at, rows * cols, TYPES[kind]).view(rows, cols)
            for at, (rows, cols, kind) in zip((a, b, d), shapes, strict=True)
        )
        y.copy_((w.float() @ x.float()).to(y.dtype))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCusparselt]:
    library = FakeCusparselt()
    monkeypatch.setattr(bindings, "needs_cuda", lambda: YES)
    monkeypatch.setattr(bindings, "_nvmath", lambda name: bindings.Binding("fake", library, (0, 8, 0)))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    handles.forget()
    yield library
    handles.forget()


def two_of_four(M: int, K: int, seed: int = 0) -> Matrix:
    rng = np.random.default_rng(seed)
    dense = rng.standard_normal((M, K)).astype(np.float32)
    order = np.argsort(np.argsort(-np.abs(dense.reshape(M, -1, 4)), axis=2), axis=2)
    return Matrix.from_dense("w", dense, (order < 2).reshape(M, K), pattern=Pattern("nm", n=2, m=4))


def operands(case: Case) -> tuple[torch.Tensor, torch.Tensor]:
    kind = torch_dtype(case.dtype)
    x = torch.randn((case.K, case.N), generator=torch.Generator().manual_seed(1)).to(kind)
    return x, torch.full((case.M, case.N), float("nan")).to(kind)


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
@pytest.mark.parametrize(("M", "K", "N"), [(16, 16, 8), (48, 32, 24), (16, 144, 40)])
def test_plan_multiplies(fake: FakeCusparselt, dtype: str, M: int, K: int, N: int) -> None:
    matrix = two_of_four(M, K)
    case = Case.of(matrix, N, dtype)
    assert KERNEL.supports(case, "cuda")
    prepared = KERNEL.prepare(matrix, case, "cpu")
    x, y = operands(case)
    prepared.launch(x, y)
    result = reference.check(y, reference.oracle(matrix, x, dtype), dtype, K)
    assert result.ok, result.reason


def test_planned_and_searched_once(fake: FakeCusparselt) -> None:
    from contextlib import contextmanager

    steps: list[str] = []

    @contextmanager
    def step(name: str) -> Iterator[None]:
        steps.append(name)
        yield

    matrix = two_of_four(16, 32)
    case = Case.of(matrix, 8, "fp16")
    prepared = KERNEL.prepare(matrix, case, "cpu", step)
    assert steps == ["convert", "plan", "compress", "search"]
    assert fake.calls == [
        "init", "structured_descriptor_init", "dense_descriptor_init", "dense_descriptor_init",
        "matmul_descriptor_init", "matmul_alg_selection_init", "matmul_plan_init",
        "sp_mma_compressed_size2", "sp_mma_compress2",
        "matmul_get_workspace", "matmul_search", "matmul_get_workspace",
        "matmul_alg_get_attribute", "matmul_alg_get_attribute", "matmul_alg_get_attribute",
    ]  # fmt: skip
    fake.calls.clear()
    for _ in range(3):
        prepared.launch(*operands(case))
    assert fake.calls == ["matmul"] * 3
    assert prepared.config == {
        "library": "cusparselt", "library_version": "0.8.0", "binding": "fake", "algorithm_id": 5, "split_k": 2,
        "split_k_mode": 1, "layout": "row-major", "compute": "fp32", "compressed_bytes": 16 * 32 * 2,
        "workspace_bytes": 4096,
    }  # fmt: skip


def test_the_workspace_grows_when_the_winner_needs_more(fake: FakeCusparselt) -> None:
    matrix = two_of_four(16, 32)
    prepared = KERNEL.prepare(matrix, Case.of(matrix, 8, "fp16"), "cpu")
    assert prepared._workspace.numel() == 4096


def test_the_current_stream_is_used(fake: FakeCusparselt, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = two_of_four(16, 32)
    case = Case.of(matrix, 8, "fp16")
    prepared = KERNEL.prepare(matrix, case, "cpu")
    monkeypatch.setattr(handles, "current_stream", lambda device: 2**40 + 8)
    prepared.launch(*operands(case))
    assert fake.streams == [0, 2**40 + 8]


def test_descriptors_go_with_the_plan(fake: FakeCusparselt) -> None:
    matrix = two_of_four(16, 32)
    case = Case.of(matrix, 8, "fp16")
    prepared = KERNEL.prepare(matrix, case, "cpu")
    assert len(fake.objects) == 6
    del prepared
    gc.collect()
    assert not fake.objects


def test_a_refused_plan_leaves_nothing_behind(fake: FakeCusparselt) -> None:
    matrix = two_of_four(16, 32)
    fake.fail["matmul_plan_init"] = type("cuSPARSELtError", (Exception,), {"status": 10})()
    with pytest.raises(VendorUnsupported, match="cuSPARSELt MatmulPlanInit failed with status NOT_SUPPORTED"):
        KERNEL.prepare(matrix, Case.of(matrix, 8, "fp16"), "cpu")
    gc.collect()
    assert not fake.objects


def test_a_weight_that_is_not_two_of_four_is_refused(fake: FakeCusparselt) -> None:
    dense = np.zeros((16, 16), dtype=np.float32)
    dense[3, 4:7] = 1.0
    matrix = Matrix.from_dense("w", dense, pattern=Pattern("nm", n=2, m=4))
    with pytest.raises(UserError, match="not 2:4: row 3 holds 3 elements in columns 4 to 7"):
        KERNEL.prepare(matrix, Case.of(matrix, 8, "fp16"), "cpu")
    assert not fake.calls


def test_negative_zeros_are_not_handed_over(fake: FakeCusparselt) -> None:
    matrix = two_of_four(16, 16)
    matrix.values[::3] = -0.0
    prepared = KERNEL.prepare(matrix, Case.of(matrix, 8, "fp16"), "cpu")
    stored = prepared._compressed.view(torch.float16)
    assert not torch.signbit(stored[stored == 0]).any()


def test_misaligned_operands_are_refused(fake: FakeCusparselt) -> None:
    matrix = two_of_four(16, 16)
    case = Case.of(matrix, 8, "fp16")
    prepared = KERNEL.prepare(matrix, case, "cpu")
    x, _ = operands(case)
    shifted = torch.zeros(16 * 8 + 1, dtype=torch.float16)[1:].view(16, 8)
    with pytest.raises(ValueError, match="16 bytes"):
        prepared.launch(x, shifted)


def test_nothing_stored_still_goes_through_the_library(fake: FakeCusparselt) -> None:
    matrix = Matrix.from_dense("zeros", np.zeros((16, 16), np.float32), pattern=Pattern("nm", n=2, m=4))
    case = Case.of(matrix, 8, "fp16")
    prepared = KERNEL.prepare(matrix, case, "cpu")
    x, y = operands(case)
    prepared.launch(x, y)
    assert not y.any()
    assert "matmul" in fake.calls


def test_an_empty_matrix_is_zero_filled(fake: FakeCusparselt) -> None:
    matrix = Matrix.from_dense("empty", np.zeros((0, 16), np.float32), pattern=Pattern("nm", n=2, m=4))
    case = Case.of(matrix, 8, "fp16")
    assert KERNEL.supports(case, "cuda")
    prepared = KERNEL.prepare(matrix, case, "cpu")
    prepared.launch(*operands(case))
    assert not fake.calls


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"dtype": "fp32"}, "no fp32"),
        ({"n": 1}, "multiplies 2:4, not 1:4"),
        ({"N": 1}, "N must be a multiple of 8, not 1"),
        ({"N": 12}, "N must be a multiple of 8"),
        ({"M": 24}, "M and K must be multiples of 16, not 24 x 32"),
        ({"K": 40}, "M and K must be multiples of 16"),
        ({"N": 2**27}, "2^31 - 1"),
        ({"format": "csr"}, "multiplies nm, not csr"),
        ({"layout": "token-major"}, "row-major"),
    ],
)
def test_supports_says_why_not(fake: FakeCusparselt, changes: dict[str, Any], words: str) -> None:
    case = Case.from_dict({**Case.of(two_of_four(16, 32), 8, "fp16").to_dict(), **changes})
    reason = KERNEL.supports(case, "cuda").reason
    assert words in reason
    assert bool(words) == bool(reason)


def test_old_gpus_are_named(fake: FakeCusparselt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    assert "this GPU has 7.5" in KERNEL.available("cuda").reason
    monkeypatch.setattr(bindings, "_nvmath", lambda name: "no library")
    assert KERNEL.available("cuda").reason == "no library"
    with pytest.raises(UserError, match=r"nm\.cusparselt: no library"):
        KERNEL.prepare(two_of_four(16, 16), Case.of(two_of_four(16, 16), 8, "fp16"), "cpu")
