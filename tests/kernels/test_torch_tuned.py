"""PyTorch's BSR kernel, searched: which parameters are tried, and that the search leaves a correct kernel."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sparsity_roofline.kernels.bsr import torch_tuned
from sparsity_roofline.kernels.reference import check, oracle
from sparsity_roofline.model.case import Case
from sparsity_roofline.model.matrix import Matrix
from sparsity_roofline.model.pattern import Pattern


def case(N: int, block: int = 32, dtype: str = "fp16") -> tuple[Matrix, Case]:
    rng = np.random.default_rng(0)
    mask = np.kron(rng.random((128 // block, 256 // block)) < 0.5, np.ones((block, block))).astype(bool)
    weight = rng.standard_normal((128, 256)).astype(np.float32)
    matrix = Matrix.from_dense("w", weight, mask, pattern=Pattern("block", r=block, c=block))
    return matrix, Case.of(matrix, N, dtype)


@pytest.mark.parametrize("N", [16, 48, 64, 96, 256, 2048, 16384])
@pytest.mark.parametrize("block", [16, 128])
@pytest.mark.parametrize("dtype", ["fp16", "fp32"])
def test_candidates_divide_n_and_fit(N: int, block: int, dtype: str) -> None:
    _, asked = case(N, block, dtype)
    found = torch_tuned.candidates(asked)
    assert len({tuple(sorted(meta.items())) for meta in found}) == len(found)
    for meta in found:
        assert N % meta["SPLIT_N"] == 0
        width = N // meta["SPLIT_N"]
        assert width & (width - 1) == 0
        assert (block + width) * block * (4 if dtype == "fp32" else 2) * (meta["num_stages"] - 1) <= 227 * 1024
    if N in (16, 64, 256, 2048, 16384) and block == 16:
        assert len(found) >= 4


def test_it_says_that_it_needs_a_gpu() -> None:
    answer = torch_tuned.BsrTorchTuned().available("cpu")
    assert not answer
    assert answer.reason == "runs on cuda only"


@pytest.mark.gpu
@pytest.mark.parametrize("N", [16, 64, 512])
def test_a_searched_kernel_is_correct_and_says_what_it_chose(N: int) -> None:
    kernel = torch_tuned.BsrTorchTuned()
    matrix, asked = case(N)
    prepared = kernel.prepare(matrix, asked, "cuda")
    x = torch.randn(256, N, device="cuda").half()
    y = torch.full((128, N), float("nan"), device="cuda", dtype=torch.float16)
    prepared.launch(x, y)
    assert check(y, oracle(matrix, x, "fp16", format="bsr"), "fp16", 256).ok
    assert prepared.config["tuned"] is True
    assert prepared.config["candidates"] >= 2
    assert N % prepared.config["SPLIT_N"] == 0
