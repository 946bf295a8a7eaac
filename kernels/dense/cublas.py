"""Dense GEMM by cuBLAS through ``torch.mm``, with the math mode of each dtype set for the launch and put back after.

fp32 is IEEE, tf32 is TF32, and 16-bit products are never summed in 16 bits (PyTorch allows that by default).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sparsity_roofline.kernels import convert
from sparsity_roofline.kernels.protocol import BaseKernel, Device, Prepared, Step, Support, no_step
from sparsity_roofline.kernels.support import needs_cuda
from sparsity_roofline.model.case import Case
from sparsity_roofline.model.matrix import Matrix

if TYPE_CHECKING:
    import torch

_REDUCTIONS = {"fp16": "allow_fp16_reduced_precision_reduction", "bf16": "allow_bf16_reduced_precision_reduction"}


def _switch(dtype: str) -> tuple[str, Any]:
    """The attribute of ``torch.backends.cuda.matmul`` that decides the arithmetic of a dtype, and what it must be."""
    import torch

    if dtype in _REDUCTIONS:
        return _REDUCTIONS[dtype], False
    if hasattr(torch.backends.cuda.matmul, "fp32_precision"):  # PyTorch 2.9 and later
        return "fp32_precision", "tf32" if dtype == "tf32" else "ieee"
    return "allow_tf32", dtype == "tf32"


@contextmanager
def math_mode(dtype: str) -> Iterator[None]:
    """Hold cuBLAS to the arithmetic that a dtype's name promises while the block runs."""
    import torch

    name, value = _switch(dtype)
    before = getattr(torch.backends.cuda.matmul, name)
    setattr(torch.backends.cuda.matmul, name, value)
    try:
        yield
    finally:
        setattr(torch.backends.cuda.matmul, name, before)


class _Prepared:
    def __init__(self, weight: torch.Tensor, dtype: str) -> None:
        import torch

        self._weight, self._dtype = weight, dtype
        name, value = _switch(dtype)
        self.config: dict[str, Any] = {
            "math": "ieee" if dtype == "fp32" else dtype,
            "accumulate": "fp32",
            "torch": torch.__version__,
            name: value,
        }

    def launch(self, x: torch.Tensor, y: torch.Tensor) -> None:
        import torch

        with math_mode(self._dtype):
            torch.mm(self._weight, x, out=y)


class DenseCublas(BaseKernel):
    """cuBLAS GEMM, the dense baseline on a GPU."""

    name = "dense.cublas"
    format = "dense"
    devices = ("cuda",)
    dtypes = ("fp16", "bf16", "tf32", "fp32")
    layouts = ("row-major", "token-major")

    def available(self, device: Device) -> Support:
        return super().available(device) and needs_cuda()

    def prepare(self, matrix: Matrix, case: Case, device: Device, step: Step = no_step) -> Prepared:
        with step("convert"):
            weight = convert.dense_operand(matrix, case.dtype, device)
        return _Prepared(weight, case.dtype)


KERNELS = [DenseCublas()]
