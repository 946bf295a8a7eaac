"""Two kernels that do a percentage more work than they need: planted slowdowns, whose size is known by design.

    SPARSITY_ROOFLINE_SLOWED_PERCENT=5 sparsity-roofline run --kernel sparsity_roofline.bench.evidence.slowed

Unset or 0 is the baseline: the same code and launch, without the extra work. ``dense.slowed`` is a Triton GEMM whose
K loop runs longer, every tile alike: the weight gets further columns of zeros, which are loaded and multiplied with
rows of X. ``csr.slowed`` is ``csr.triton`` on a GPU and ``csr.torch`` on a CPU with further stored zeros in every row.
Results do not change, names and versions neither; ``kernel_config`` tells the planted percentage and the ratio of work
that whole steps and entries made of it. What a kernel does once (launch, prologue, writing Y) is not repeated: the
ratio of times falls short of the ratio of work by their share.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sparsity_roofline.kernels import convert
from sparsity_roofline.kernels.csr.torch import CsrTorch
from sparsity_roofline.kernels.csr.triton import CsrTriton
from sparsity_roofline.kernels.protocol import BaseKernel, Device, Prepared, Step, Support, no_step
from sparsity_roofline.kernels.support import PRECISIONS, TritonKernel, is_wide
from sparsity_roofline.model.case import Case
from sparsity_roofline.model.dtype import Unit
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.matrix import Matrix

if TYPE_CHECKING:
    import torch

VARIABLE = "SPARSITY_ROOFLINE_SLOWED_PERCENT"
MOST_PERCENT = 100.0


def planted_percent() -> float:
    """How much more work the environment asks for, in percent.

    Raises:
        UserError: not a number from 0 to 100.
    """
    text = os.environ.get(VARIABLE, "").strip() or "0"
    try:
        percent = float(text)
    except ValueError:
        percent = -1.0
    if not 0.0 <= percent <= MOST_PERCENT:
        raise UserError(f"{VARIABLE}={text}: it must be a number from 0 to {MOST_PERCENT:g}")
    return percent


@lru_cache(maxsize=16)
def with_more_entries(matrix: Matrix, percent: float) -> Matrix:
    """The matrix with ``percent`` more stored elements, value 0, spread over the rows by their length.

    Each row's share is rounded so that the running total is exact to one element. Places are free columns of the row,
    evenly spaced from a seeded start; a row without enough of them is filled up and the rest goes to later rows.
    """
    M, K = matrix.shape
    rng = np.random.default_rng(0)
    indices: list[npt.NDArray[Any]] = []
    values: list[npt.NDArray[np.float32]] = []
    lengths = np.zeros(M, dtype=np.int64)
    owed, given = 0.0, 0
    for row in range(M):
        begin, end = int(matrix.indptr[row]), int(matrix.indptr[row + 1])
        held, kept = matrix.indices[begin:end], matrix.values[begin:end]
        owed += (end - begin) * percent / 100.0
        vacant = np.ones(K, dtype=bool)
        vacant[held] = False
        free = np.flatnonzero(vacant)
        count = min(round(owed) - given, free.size) if end > begin else 0
        if count > 0:
            places = (int(rng.integers(free.size)) + np.arange(count) * free.size // count) % free.size
            cols = np.concatenate([held, free[places].astype(held.dtype)])
            order = np.argsort(cols)
            held, kept = cols[order], np.concatenate([kept, np.zeros(count, dtype=np.float32)])[order]
            given += count
        indices.append(held)
        values.append(kept)
        lengths[row] = held.size
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    flat = np.concatenate(indices) if indices else matrix.indices
    return Matrix(
        matrix.name, matrix.shape, indptr, flat, np.concatenate(values) if values else matrix.values,
        pattern=matrix.pattern, synthetic=True,
    )  # fmt: skip


class CsrSlowed(BaseKernel):
    """``csr.triton`` (GPU) or ``csr.torch`` (CPU) on a weight with more stored elements."""

    name = "csr.slowed"
    format = "csr"
    devices = ("cuda", "cpu")
    dtypes = ("fp16", "bf16", "fp32", "fp64")

    def unit(self, dtype: str, device: Device) -> Unit:
        return self._kernel(device).unit(dtype, device)

    def available(self, device: Device) -> Support:
        return self._kernel(device).available(device)

    def supports(self, case: Case, device: Device) -> Support:
        return self._kernel(device).supports(case, device)

    def prepare(self, matrix: Matrix, case: Case, device: Device, step: Step = no_step) -> Prepared:
        percent = planted_percent()
        with step("plant"):
            more = with_more_entries(matrix, percent)
        prepared = self._kernel(device).prepare(more, case, device, step)
        prepared.config = {**prepared.config, **planted(percent, more.nnz, matrix.nnz)}
        return prepared

    @staticmethod
    def _kernel(device: Device) -> BaseKernel:
        return CsrTriton() if device == "cuda" else CsrTorch()


def planted(percent: float, work: int, needed: int) -> dict[str, Any]:
    """What goes into ``kernel_config``."""
    return {"planted_percent": percent, "work_ratio": work / needed if needed else 1.0}


class _PreparedDense:
    BM, BN, BK = 64, 64, 32

    def __init__(self, weight: torch.Tensor, case: Case, percent: float) -> None:
        import torch

        steps = -(-case.K // self.BK)
        more = round(steps * percent / 100.0)
        wide = torch.zeros((case.M, (steps + more) * self.BK), dtype=weight.dtype, device=weight.device)
        wide[:, : case.K] = weight
        self._weight = wide
        self._precision = PRECISIONS[case.dtype]
        self.config: dict[str, Any] = {
            "BM": self.BM,
            "BN": self.BN,
            "BK": self.BK,
            "math": self._precision,
            **planted(percent, steps + more, steps),
        }

    def launch(self, x: torch.Tensor, y: torch.Tensor) -> None:
        from sparsity_roofline.bench.evidence._slowed import gemm_longer

        (M, N), K = y.shape, x.shape[0]
        if not y.numel():
            return
        gemm_longer[(-(-M // self.BM) * -(-N // self.BN),)](
            self._weight, x, y, M, N, K, self._weight.shape[1],
            BM=self.BM, BN=self.BN, BK=self.BK, PRECISION=self._precision,
            WIDE=is_wide(self._weight, x, y), num_warps=4, num_stages=4, enable_fp_fusion=True,
        )  # fmt: skip


class DenseSlowed(TritonKernel):
    """A tiled GEMM with more steps along K than it needs."""

    name = "dense.slowed"
    format = "dense"

    def prepare(self, matrix: Matrix, case: Case, device: Device, step: Step = no_step) -> Prepared:
        with step("convert"):
            weight = convert.dense_operand(matrix, case.dtype, device)
            return _PreparedDense(weight, case, planted_percent())


KERNELS = [DenseSlowed(), CsrSlowed()]
