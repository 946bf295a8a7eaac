"""A kernel of your own, in one file: run it with ``--kernel examples/user_kernel.py:ColumnGather``.

It multiplies a CSR weight by gathering the rows of X that the stored elements need and adding them up per row of Y.
"""

from __future__ import annotations

import torch

from sparsity_roofline.kernels.convert import csr_operand
from sparsity_roofline.kernels.protocol import BaseKernel, no_step


class Prepared:
    def __init__(self, operand):
        self.indptr, self.indices, self.values = operand
        lengths = self.indptr.diff().long()
        self.rows = torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)
        self.config = {"method": "gather, scale, index_add_"}  # goes into the record

    def launch(self, x, y):
        y.zero_()
        y.index_add_(0, self.rows, x[self.indices] * self.values[:, None])


class ColumnGather(BaseKernel):
    name = "csr.gather"
    format = "csr"
    devices = ("cuda", "cpu")
    dtypes = ("fp32",)

    def prepare(self, matrix, case, device, step=no_step):
        with step("convert"):
            return Prepared(csr_operand(matrix, case.dtype, device))
