"""Every kernel against a float64 product that shares no code with it: every dtype, odd and degenerate shapes.

On a machine with a GPU the CUDA kernels run there. Without one, ``test_interpreter.py`` runs this file once more in a
process of its own in which Triton interprets its kernels on the CPU.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from sparsity_roofline.kernels.convert import torch_dtype
from sparsity_roofline.kernels.protocol import Device, Kernel
from sparsity_roofline.kernels.reference import check
from sparsity_roofline.kernels.registry import load_kernels
from sparsity_roofline.kernels.support import interpreting
from sparsity_roofline.model.case import Case, Layout, format_of
from sparsity_roofline.model.matrix import Matrix
from sparsity_roofline.model.pattern import Pattern

# Relative Frobenius error at K <= 300. Written down here, not taken from the rule under test.
LIMITS = {"fp64": 1e-15, "fp32": 1e-6, "tf32": 2e-3, "fp16": 1e-3, "bf16": 8e-3}


@dataclass(frozen=True)
class Problem:
    """One weight and N. ``kept`` is the share of elements (or blocks, or of each group's n slots) that are stored."""

    pattern: str
    M: int
    K: int
    N: int
    kept: float = 0.4
    shape: str = ""  # "dense row", "empty rows", "empty columns" or "one element"

    def __str__(self) -> str:
        text = f"{self.pattern}-{self.M}x{self.K}x{self.N}-{self.kept:g}-{self.shape}"
        return text.rstrip("-").replace(" ", "_")

    def weight(self) -> np.ndarray:
        """A dense float32 weight that obeys the pattern; stored elements are never 0."""
        rng = np.random.default_rng(zlib.crc32(str(self).encode()))
        p = Pattern.parse(self.pattern)
        w = rng.standard_normal((self.M, self.K)).astype(np.float32)
        w[w == 0] = 1.0
        if p.kind == "block":
            keep = rng.random((-(-self.M // p.r), -(-self.K // p.c))) < self.kept
            mask = np.kron(keep, np.ones((p.r, p.c), dtype=bool))[: self.M, : self.K]
        elif p.kind == "nm":
            groups = -(-self.K // p.m)
            order = rng.random((self.M, groups, p.m)).argsort(axis=2)
            slots = (order < p.n) & (rng.random(order.shape) < self.kept)
            mask = slots.reshape(self.M, groups * p.m)[:, : self.K]
        else:
            mask = rng.random((self.M, self.K)) < self.kept
        if self.shape == "dense row":
            mask[:] = False
            mask[self.M // 2] = True
        elif self.shape == "empty rows":
            mask[: self.M // 2] = False
        elif self.shape == "empty columns":
            mask[:, self.K // 3 :] = False
        elif self.shape == "one element":
            mask[:] = False
            mask[-1, -1] = True
        return w * mask


UNSTRUCTURED = [
    Problem("unstructured", 19, 65, 33),
    Problem("unstructured", 16, 96, 48),
    Problem("unstructured", 37, 65, 1),
    Problem("unstructured", 1, 65, 5),
    Problem("unstructured", 17, 1, 17),
    Problem("unstructured", 1, 1, 1, 1.0),
    Problem("unstructured", 11, 300, 70, 0.05),
    Problem("unstructured", 48, 64, 16, 0.0),  # nnz = 0
    Problem("unstructured", 33, 200, 24, 0.3, "dense row"),
    Problem("unstructured", 21, 64, 40, 0.3, "empty rows"),
    Problem("unstructured", 33, 64, 3, 0.3, "empty columns"),
    Problem("unstructured", 33, 64, 9, 0.3, "one element"),
]
BLOCK = [
    Problem("block16", 64, 128, 48),
    Problem("block16", 64, 96, 1),
    Problem("block16", 37, 70, 33),  # neither M nor K a multiple of the block
    Problem("block16", 64, 64, 130),
    Problem("block32x16", 64, 96, 16),
    Problem("block16x32", 48, 96, 80),
    Problem("block64", 128, 192, 70, 0.5),
    Problem("block128x64", 150, 128, 130, 0.7),
    Problem("block256x8", 260, 64, 20, 0.5),
    Problem("block64x200", 64, 300, 40, 0.7),
    Problem("block1", 9, 30, 8),
    Problem("block2", 14, 66, 35),
    Problem("block3x5", 31, 43, 18),
    Problem("block8x4", 64, 64, 64),
    Problem("block16", 48, 64, 32, 0.0),  # nnz = 0
    Problem("block16", 48, 80, 32, 0.5, "empty rows"),
    Problem("block16", 48, 80, 32, 0.5, "empty columns"),
    Problem("block16", 64, 64, 32, 0.5, "one element"),
    Problem("block16", 1, 17, 3, 1.0),
]
NM = [
    Problem("2:4", 64, 128, 48, 1.0),
    Problem("2:4", 32, 64, 16),  # fewer than 2 stored in some groups
    Problem("2:4", 37, 66, 33, 1.0),  # K not a multiple of m
    Problem("2:4", 1, 64, 1, 1.0),
    Problem("2:4", 40, 64, 130, 1.0),
    Problem("2:4", 32, 64, 16, 0.0),  # nnz = 0
    Problem("2:4", 64, 64, 64, 1.0, "empty rows"),
    Problem("1:4", 33, 64, 20, 1.0),
    Problem("4:4", 20, 30, 10, 1.0),
    Problem("1:2", 33, 50, 20, 1.0),
    Problem("4:8", 40, 72, 70, 1.0),
    Problem("2:5", 21, 43, 12, 1.0),
    Problem("1:100", 21, 143, 12, 1.0),
]
PROBLEMS = {"dense": UNSTRUCTURED[:7], "csr": UNSTRUCTURED, "bsr": BLOCK, "nm": NM}


def parameters() -> Iterator[object]:
    for kernel in load_kernels().values():
        for device in kernel.devices:
            for dtype in kernel.dtypes:
                for problem in PROBLEMS[kernel.format]:
                    yield pytest.param(
                        kernel,
                        device,
                        dtype,
                        problem,
                        id=f"{kernel.name}-{device}-{dtype}-{problem}",
                        marks=[pytest.mark.gpu] if device == "cuda" else [],
                    )


def multiply(kernel: Kernel, device: Device, dtype: str, problem: Problem, layout: Layout = "row-major") -> None:
    """Run one problem and compare it with NumPy's float64 product of the rounded operands."""
    w = problem.weight()
    matrix = Matrix.from_dense("test", w, pattern=Pattern.parse(problem.pattern))
    case = Case.of(matrix, problem.N, dtype, kernel.format, layout=layout)
    answer = kernel.supports(case, device)
    if not answer:
        pytest.skip(f"{kernel.name}: {answer.reason}")
    storage = torch_dtype(dtype)
    x = torch.from_numpy(np.random.default_rng(1).standard_normal((problem.K, problem.N))).to(storage)
    operand = x.to(device)
    y = torch.full((problem.M, problem.N), float("nan"), dtype=storage, device=device)
    if layout == "token-major":
        operand, y = operand.t().contiguous().t(), y.t().contiguous().t()
    prepared = kernel.prepare(matrix, case, device)
    for _ in range(2):  # a second launch must not depend on what the first left
        prepared.launch(operand, y)
    expected = torch.from_numpy(w).to(storage).double().numpy() @ x.double().numpy()
    result = y.cpu().double().numpy()
    if not expected.any():
        assert not result.any()
    else:
        error = np.linalg.norm(result - expected) / np.linalg.norm(expected)
        assert error < LIMITS[dtype], f"relative error {error:.2e}"
    verdict = check(y.cpu(), torch.from_numpy(expected), dtype, problem.K)
    assert verdict.ok, verdict.reason
    assert all(isinstance(value, (str, int, float, bool)) for value in prepared.config.values())


@pytest.mark.parametrize(("kernel", "device", "dtype", "problem"), list(parameters()))
def test_against_float64(kernel: Kernel, device: Device, dtype: str, problem: Problem) -> None:
    answer = kernel.available(device)
    if not answer:
        pytest.skip(f"{kernel.name}: {answer.reason}")
    multiply(kernel, device, dtype, problem)


TOKEN_MAJOR = [k for k in load_kernels().values() if "token-major" in getattr(k, "layouts", ())]


@pytest.mark.parametrize("kernel", TOKEN_MAJOR, ids=lambda kernel: kernel.name)
@pytest.mark.parametrize("dtype", ["fp16", "fp32"])
@pytest.mark.parametrize("device", [pytest.param("cuda", marks=pytest.mark.gpu), "cpu"])
def test_token_major(kernel: Kernel, device: Device, dtype: str) -> None:
    """X as (N, K) and Y as (N, M) in memory, as a linear layer holds them."""
    if device == "cpu" and not (interpreting() and kernel.available("cpu")):
        pytest.skip("checked with TRITON_INTERPRET=1 by test_interpreter.py")
    for problem in PROBLEMS[kernel.format]:
        multiply(kernel, device, dtype, problem, "token-major")


TRITON = [kernel for kernel in load_kernels().values() if hasattr(kernel, "interpreted")]


@pytest.mark.parametrize("kernel", TRITON, ids=lambda kernel: kernel.name)
@pytest.mark.parametrize("dtype", ["fp16", "fp32"])
@pytest.mark.parametrize("device", [pytest.param("cuda", marks=pytest.mark.gpu), "cpu"])
def test_wide_offsets_change_nothing(
    kernel: Kernel, device: Device, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variants for tensors beyond 2^31 elements, on small ones."""
    if device == "cpu" and not interpreting():
        pytest.skip("checked with TRITON_INTERPRET=1 by test_interpreter.py")
    import importlib

    module = importlib.import_module(type(kernel).__module__)
    monkeypatch.setattr(module, "is_wide", lambda *tensors: True)
    for problem in PROBLEMS[kernel.format][:3]:
        multiply(kernel, device, dtype, problem)


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize("kernel", TRITON, ids=lambda kernel: kernel.name)
@pytest.mark.parametrize("wide", ["X", "Y"])
def test_more_than_int32_elements(kernel: Kernel, wide: str) -> None:
    """X, then Y, of 2^31 elements and more: the last rows and columns are right."""
    N = 32784
    M, K = (48, 65600) if wide == "X" else (65600, 48)
    assert max(M, K) * N > 2**31 + 2**21
    rng = np.random.default_rng(0)
    w = np.zeros((M, K), dtype=np.float32)
    w[-16:, -16:] = rng.standard_normal((16, 16))  # one block of 16; 2:4 keeps half of it
    pattern = {"dense": "dense", "csr": "unstructured", "bsr": "block16", "nm": "2:4"}[kernel.format]
    if pattern == "2:4":
        w[:, 2::4] = w[:, 3::4] = 0
    matrix = Matrix.from_dense("wide", w, pattern=Pattern.parse(pattern))
    x = torch.randn((K, N), dtype=torch.float16, device="cuda")
    y = torch.full((M, N), float("nan"), dtype=torch.float16, device="cuda")
    case = Case.of(matrix, N, "fp16", format_of(Pattern.parse(pattern)))
    kernel.prepare(matrix, case, "cuda").launch(x, y)
    expected = torch.from_numpy(w[-16:, -16:]).half().cuda().double() @ x[-16:].double()
    assert check(y[-16:], expected, "fp16", K).ok
    assert not y[:-16].any()
