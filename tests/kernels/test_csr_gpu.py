"""The CSR kernels of this repository on a GPU: uneven and empty rows, every tile width, split inner dimensions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sparsity_roofline.kernels.convert import torch_dtype
from sparsity_roofline.kernels.csr import bitmap, decode, panel, wgmma
from sparsity_roofline.kernels.protocol import BaseKernel
from sparsity_roofline.kernels.reference import check, oracle
from sparsity_roofline.model.case import Case
from sparsity_roofline.model.matrix import Matrix

pytestmark = pytest.mark.gpu

KERNELS: list[BaseKernel] = [bitmap.CsrBitmap(), wgmma.CsrWgmma(), decode.CsrDecode(), panel.CsrPanel()]


def weight(M: int, K: int, kept: float) -> Matrix:
    """Row densities from none to twice the mean, one row and one column full, one strip of 16 rows empty."""
    rng = np.random.default_rng(M * K)
    mask = rng.random((M, K)) < kept * np.linspace(0, 2, M)[:, None]
    mask[M // 3] = True
    mask[:, K // 2] = True
    mask[32:48] = False
    return Matrix.from_dense("uneven", rng.standard_normal((M, K), dtype=np.float32), mask)


@pytest.mark.parametrize("N", [1, 4, 8, 16, 24, 32, 40, 64, 128, 136, 264, 512])
@pytest.mark.parametrize(("M", "K", "kept"), [(300, 1032, 0.4), (130, 4608, 0.06), (2064, 256, 0.2)])
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_uneven_rows(kernel: BaseKernel, M: int, K: int, kept: float, N: int) -> None:
    matrix = weight(M, K, kept)
    for dtype in kernel.dtypes:
        case = Case.of(matrix, N, dtype)
        answer = kernel.supports(case, "cuda")
        if not answer:
            pytest.skip(answer.reason)
        prepared = kernel.prepare(matrix, case, "cuda")
        for seed in range(2):  # nothing of the first launch shows in the second
            generator = torch.Generator(device="cuda").manual_seed(seed)
            x = torch.randn((K, N), generator=generator, device="cuda").to(torch_dtype(dtype))
            y = torch.full((M, N), float("nan"), dtype=x.dtype, device="cuda")
            prepared.launch(x, y)
            verdict = check(y, oracle(matrix, x, dtype), dtype, K)
            assert verdict.ok, f"{dtype}: {verdict.reason}"
            again = torch.full_like(y, float("nan"))
            prepared.launch(x, again)
            assert torch.equal(y, again), f"{dtype}: two launches differ"
