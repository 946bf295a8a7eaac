"""cuSPARSE and cuSPARSELt on a real GPU against a float64 NumPy product."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from sparsity_roofline.kernels import convert
from sparsity_roofline.kernels._cuda import bindings
from sparsity_roofline.kernels._cuda.versions import MISSING, versions
from sparsity_roofline.kernels.bsr.cusparse import KERNELS as BSR
from sparsity_roofline.kernels.csr.cusparse import KERNELS as CSR
from sparsity_roofline.kernels.nm.cusparselt import KERNELS as NM
from sparsity_roofline.kernels.tolerance import tolerance
from sparsity_roofline.model.case import Case
from sparsity_roofline.model.matrix import Matrix
from sparsity_roofline.model.pattern import Pattern

pytestmark = pytest.mark.gpu

DTYPES = ["fp16", "bf16", "fp32"]
NAN = float("nan")


def unstructured(M: int, K: int, density: float, seed: int = 0) -> Matrix:
    rng = np.random.default_rng(seed)
    return Matrix.from_dense("w", rng.standard_normal((M, K)).astype(np.float32), rng.random((M, K)) < density)


def blocks(M: int, K: int, r: int, c: int, density: float, seed: int = 0) -> Matrix:
    rng = np.random.default_rng(seed)
    mask = np.repeat(np.repeat(rng.random((M // r, K // c)) < density, r, 0), c, 1)
    dense = rng.standard_normal((M, K)).astype(np.float32)
    return Matrix.from_dense("w", dense, mask, pattern=Pattern("block", r=r, c=c))


def two_of_four(M: int, K: int, seed: int = 0) -> Matrix:
    rng = np.random.default_rng(seed)
    dense = rng.standard_normal((M, K)).astype(np.float32)
    order = np.argsort(np.argsort(-np.abs(dense.reshape(M, -1, 4)), axis=2), axis=2)
    return Matrix.from_dense("w", dense, (order < 2).reshape(M, K), pattern=Pattern("nm", n=2, m=4))


def usable(kernel: Any, case: Case) -> None:
    if not (answer := kernel.available("cuda")):
        pytest.skip(f"{kernel.name}: {answer.reason}")
    assert kernel.supports(case, "cuda")


def operands(case: Case, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Seeded normal X, and Y full of NaN, so that an element that is not written is seen."""
    generator = torch.Generator(device="cuda").manual_seed(seed)
    kind = convert.torch_dtype(case.dtype)
    x = torch.randn((case.K, case.N), generator=generator, device="cuda").to(kind)
    return x, torch.full((case.M, case.N), NAN, dtype=kind, device="cuda")


def agrees(y: torch.Tensor, matrix: Matrix, x: torch.Tensor, dtype: str) -> None:
    """y against the float64 product of the rounded operands, by the package's tolerance.

    Errors are related to what the product would be at random signs, because a small product may cancel to almost
    nothing; row by row, because rows of very different lengths have different errors.
    """
    w, dense = (t.double().cpu().numpy() for t in (convert.stored_as_dense(matrix, dtype, "cpu"), x))
    expected: npt.NDArray[np.float64] = w @ dense
    square = np.maximum(w**2 @ dense**2, expected**2)
    found = y.double().cpu().numpy()
    assert found.shape == expected.shape
    assert np.isfinite(found).all(), f"{int((~np.isfinite(found)).sum())} elements were not written"
    assert not found[square == 0].any()
    if not square.any():
        return
    limits = tolerance(dtype, matrix.shape[1])
    error = np.abs(found - expected)
    rms = np.linalg.norm(error) / np.sqrt(square.sum())
    assert rms <= limits.rms, f"relative error {rms:.2e}"
    scale = np.sqrt(np.maximum(square.mean(1, keepdims=True), square))
    assert (error <= limits.max * scale).all(), f"largest error {(error / np.maximum(scale, 1e-30)).max():.2e}"


def multiply(kernel: Any, matrix: Matrix, N: int, dtype: str) -> Any:
    case = Case.of(matrix, N, dtype)
    usable(kernel, case)
    prepared = kernel.prepare(matrix, case, "cuda")
    x, y = operands(case)
    prepared.launch(x, y)
    agrees(y, matrix, x, dtype)
    return prepared


@pytest.mark.parametrize("kernel", CSR, ids=lambda k: k.name)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("M", "K", "N", "density"),
    [
        (512, 384, 64, 0.25),  # even
        (727, 577, 33, 0.1),  # nothing is a multiple of anything
        (300, 200, 1, 0.2),  # N = 1
        (1, 1, 1, 1.0),  # smallest
        (3, 9000, 7, 0.02),  # long rows
        (1000, 3, 16, 0.3),  # short rows, many empty
        (64, 256, 40, 1.0),  # nothing pruned
    ],
)
def test_csr(kernel: Any, dtype: str, M: int, K: int, N: int, density: float) -> None:
    prepared = multiply(kernel, unstructured(M, K, density), N, dtype)
    assert prepared.config["algorithm"] == kernel.algorithm


@pytest.mark.parametrize("kernel", CSR, ids=lambda k: k.name)
@pytest.mark.parametrize("dtype", DTYPES)
def test_csr_with_one_full_row_among_empty_ones(kernel: Any, dtype: str) -> None:
    dense = np.zeros((257, 1024), dtype=np.float32)
    dense[100] = np.random.default_rng(0).standard_normal(1024)
    multiply(kernel, Matrix.from_dense("one row", dense), 24, dtype)


@pytest.mark.parametrize("kernel", [*CSR, *BSR], ids=lambda k: k.name)
@pytest.mark.parametrize(("M", "N"), [(64, 16), (0, 16), (64, 0)])
def test_nothing_stored(kernel: Any, M: int, N: int) -> None:
    matrix = blocks(M, 64, 32, 32, 0.0) if kernel in BSR else unstructured(M, 64, 0.0)
    multiply(kernel, matrix, N, "fp16")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [16, 32, 64])
@pytest.mark.parametrize("N", [1, 40, 128])
def test_bsr(dtype: str, size: int, N: int) -> None:
    multiply(BSR[0], blocks(4 * size, 7 * size, size, size, 0.4), N, dtype)


def test_bsr_with_empty_block_rows() -> None:
    dense = np.zeros((128, 128), dtype=np.float32)
    dense[32:64, 64:96] = np.random.default_rng(0).standard_normal((32, 32))
    multiply(BSR[0], Matrix.from_dense("w", dense, pattern=Pattern("block", r=32, c=32)), 16, "fp32")


@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_small_blocks(size: int) -> None:
    multiply(BSR[0], blocks(8 * size, 8 * size, size, size, 0.5), 16, "fp32")


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
@pytest.mark.parametrize(("M", "K", "N"), [(64, 64, 8), (512, 4608, 56), (304, 208, 256), (16, 16, 8)])
def test_two_of_four(dtype: str, M: int, K: int, N: int) -> None:
    prepared = multiply(NM[0], two_of_four(M, K), N, dtype)
    assert prepared.config["algorithm_id"] >= 0


def test_two_of_four_of_zeros() -> None:
    matrix = Matrix.from_dense("zeros", np.zeros((64, 64), np.float32), pattern=Pattern("nm", n=2, m=4))
    multiply(NM[0], matrix, 16, "fp16")


CASES = [
    *((kernel, unstructured(200, 300, 0.2)) for kernel in CSR),
    (BSR[0], blocks(128, 192, 32, 32, 0.5)),
    (NM[0], two_of_four(128, 192)),
]


@pytest.mark.parametrize(("kernel", "matrix"), CASES, ids=[kernel.name for kernel, _ in CASES])
def test_one_plan_many_launches(kernel: Any, matrix: Matrix) -> None:
    """New X and Y, old ones again, and another stream: the plan follows, and results do not depend on history."""
    case = Case.of(matrix, 64, "fp16")
    usable(kernel, case)
    prepared = kernel.prepare(matrix, case, "cuda")
    first, second = operands(case, 1), operands(case, 2)
    for x, y in (first, second, first):
        y.fill_(NAN)
        prepared.launch(x, y)
        agrees(y, matrix, x, "fp16")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        x, y = second
        y.fill_(NAN)
        prepared.launch(x, y)
    torch.cuda.current_stream().wait_stream(stream)
    agrees(y, matrix, x, "fp16")


@pytest.mark.parametrize(("kernel", "matrix"), CASES, ids=[kernel.name for kernel, _ in CASES])
def test_a_launch_can_be_captured(kernel: Any, matrix: Matrix) -> None:
    """A launch that could be captured allocates nothing, synchronises nothing and runs on the current stream."""
    case = Case.of(matrix, 64, "fp16")
    usable(kernel, case)
    prepared = kernel.prepare(matrix, case, "cuda")
    x, y = operands(case)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        prepared.launch(x, y)
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        prepared.launch(x, y)
    y.fill_(NAN)
    graph.replay()
    agrees(y, matrix, x, "fp16")


@pytest.mark.parametrize("dtype", DTYPES)
def test_cupy_serves_algorithm_2(monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    spare = bindings._cupy_cusparse()
    if isinstance(spare, str):
        pytest.skip(spare)
    monkeypatch.setattr(bindings, "_nvmath", lambda library: bindings.INSTALL_NVMATH)
    prepared = multiply(CSR[2], unstructured(200, 300, 0.2), 40, dtype)
    assert prepared.config["binding"] == "cupy"
    assert not CSR[0].available("cuda")


def test_versions_are_numbers() -> None:
    found = versions()
    for name in ("cusparse", "cusparselt"):
        if found["nvmath"].startswith(MISSING):
            pytest.skip(found["nvmath"])
        assert found[name].count(".") == 2, found
