"""BSR by SciPy on the CPU, any block size: one thread, a small GEMM per block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sparsity_roofline.kernels import convert
from sparsity_roofline.kernels.protocol import BaseKernel, Device, Prepared, Step, no_step
from sparsity_roofline.model.case import Case
from sparsity_roofline.model.matrix import Matrix

if TYPE_CHECKING:
    import torch


class _Prepared:
    def __init__(self, weight: Any, rows: int, cols: int) -> None:
        import scipy

        self._weight, self._rows = weight, rows
        self._pad = weight.shape[1] - cols
        self.config: dict[str, Any] = {
            "index": str(weight.indices.dtype),
            "pads_x": bool(self._pad),
            "threads": 1,
            "scipy": scipy.__version__,
        }

    def launch(self, x: torch.Tensor, y: torch.Tensor) -> None:
        import numpy as np

        dense = x.numpy()
        if self._pad:
            dense = np.pad(dense, ((0, self._pad), (0, 0)))
        y.numpy()[...] = (self._weight @ dense)[: self._rows]


class BsrScipy(BaseKernel):
    """``scipy.sparse.bsr_array @ X``; where K is no multiple of the block, each call pads X (``pads_x``)."""

    name = "bsr.scipy"
    format = "bsr"
    devices = ("cpu",)
    dtypes = ("fp32", "fp64")

    def prepare(self, matrix: Matrix, case: Case, device: Device, step: Step = no_step) -> Prepared:
        from scipy.sparse import bsr_array

        r, c = case.block_rows, case.block_cols
        with step("convert"):
            indptr, indices, values = convert.bsr_operand(matrix, r, c, case.dtype, device)
            M, K = matrix.shape
            shape = (-(-M // r) * r, -(-K // c) * c)
            weight = bsr_array((values.numpy(), indices.numpy(), indptr.numpy()), shape=shape, blocksize=(r, c))
        return _Prepared(weight, M, K)


KERNELS = [BsrScipy()]
