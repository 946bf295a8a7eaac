"""CSR by PyTorch: cuSPARSE (CSR algorithm 2, descriptors rebuilt per call) on a GPU, MKL on the CPU."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from sparsity_roofline.kernels import convert
from sparsity_roofline.kernels.protocol import YES, BaseKernel, Device, Prepared, Step, Support, no_step
from sparsity_roofline.kernels.support import needs_cuda
from sparsity_roofline.model.case import Case
from sparsity_roofline.model.dtype import Unit
from sparsity_roofline.model.matrix import Matrix

if TYPE_CHECKING:
    import torch


class _Prepared:
    def __init__(self, weight: torch.Tensor, device: Device) -> None:
        import torch

        self._weight = weight
        self._mm = torch.mm
        self.config: dict[str, Any] = {
            "index": str(weight.col_indices().dtype).removeprefix("torch."),
            "torch": torch.__version__,
        }
        if device == "cpu":
            self.config["threads"] = torch.get_num_threads()

    def launch(self, x: torch.Tensor, y: torch.Tensor) -> None:
        self._mm(self._weight, x, out=y)


class CsrTorch(BaseKernel):
    """``torch.mm`` of a CSR tensor with int32 indices (its default, int64, reads twice the index bytes)."""

    name = "csr.torch"
    format = "csr"
    devices = ("cuda", "cpu")
    dtypes = ("fp16", "bf16", "fp32", "fp64")

    def unit(self, dtype: str, device: Device) -> Unit:
        return "cpu" if device == "cpu" else "cuda"

    def available(self, device: Device) -> Support:
        return needs_cuda() if device == "cuda" else YES

    def supports(self, case: Case, device: Device) -> Support:
        answer = super().supports(case, device)
        if answer and device == "cpu" and case.dtype not in ("fp32", "fp64"):
            return Support(f"no {case.dtype} on the CPU: PyTorch's CSR product there takes fp32 and fp64")
        return answer

    def prepare(self, matrix: Matrix, case: Case, device: Device, step: Step = no_step) -> Prepared:
        import torch

        with step("convert"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch calls its CSR layout a beta, once per process
            indptr, indices, values = convert.csr_operand(matrix, case.dtype, device)
            indices = indices.to(indptr.dtype)
            weight = torch.sparse_csr_tensor(indptr, indices, values, size=matrix.shape, check_invariants=False)
        return _Prepared(weight, device)


KERNELS = [CsrTorch()]
