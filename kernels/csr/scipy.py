"""CSR by SciPy on the CPU: one thread, no vendor library; the plain yardstick."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sparsity_roofline.kernels import convert
from sparsity_roofline.kernels.protocol import BaseKernel, Device, Prepared, Step, no_step
from sparsity_roofline.model.case import Case
from sparsity_roofline.model.matrix import Matrix

if TYPE_CHECKING:
    import torch


class _Prepared:
    def __init__(self, weight: Any) -> None:
        import scipy

        self._weight = weight
        self.config: dict[str, Any] = {"index": str(weight.indices.dtype), "threads": 1, "scipy": scipy.__version__}

    def launch(self, x: torch.Tensor, y: torch.Tensor) -> None:
        y.numpy()[...] = self._weight @ x.numpy()


class CsrScipy(BaseKernel):
    """``scipy.sparse.csr_array @ X``; SciPy returns a new array, which is copied into the output."""

    name = "csr.scipy"
    format = "csr"
    devices = ("cpu",)
    dtypes = ("fp32", "fp64")

    def prepare(self, matrix: Matrix, case: Case, device: Device, step: Step = no_step) -> Prepared:
        from scipy.sparse import csr_array

        with step("convert"):
            indptr, indices, values = convert.csr_operand(matrix, case.dtype, device)
            weight = csr_array((values.numpy(), indices.numpy(), indptr.numpy()), shape=matrix.shape)
        return _Prepared(weight)


KERNELS = [CsrScipy()]
