"""Dense GEMM on the CPU by PyTorch (oneDNN or MKL): the dense baseline where there is no GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sparsity_roofline.kernels import convert
from sparsity_roofline.kernels.protocol import BaseKernel, Device, Prepared, Step, no_step
from sparsity_roofline.model.case import Case
from sparsity_roofline.model.matrix import Matrix

if TYPE_CHECKING:
    import torch


class _Prepared:
    def __init__(self, weight: torch.Tensor) -> None:
        import torch

        self._weight = weight
        self._mm = torch.mm
        self.config: dict[str, Any] = {"threads": torch.get_num_threads(), "torch": torch.__version__}

    def launch(self, x: torch.Tensor, y: torch.Tensor) -> None:
        self._mm(self._weight, x, out=y)


class DenseTorch(BaseKernel):
    """``torch.mm`` into a given output, on the CPU."""

    name = "dense.torch"
    format = "dense"
    devices = ("cpu",)
    dtypes = ("fp32", "bf16", "fp16", "fp64")

    def prepare(self, matrix: Matrix, case: Case, device: Device, step: Step = no_step) -> Prepared:
        with step("convert"):
            weight = convert.dense_operand(matrix, case.dtype, device)
        return _Prepared(weight)


KERNELS = [DenseTorch()]
