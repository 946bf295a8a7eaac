"""BSR by PyTorch: its own Triton kernel on a GPU, MKL on the CPU.

On a GPU the launch parameters are PyTorch's table where that has the device (only an A100 at the time of writing),
else its defaults, which are narrow and unpipelined: read these figures as "untuned", never as the best PyTorch can do.
That is ``bsr.torch.tuned``.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from sparsity_roofline.kernels import convert
from sparsity_roofline.kernels.protocol import YES, BaseKernel, Device, Prepared, Step, Support, no_step
from sparsity_roofline.kernels.support import has_module, needs_cuda
from sparsity_roofline.model.case import Case
from sparsity_roofline.model.dtype import DTYPES, Unit
from sparsity_roofline.model.matrix import Matrix

if TYPE_CHECKING:
    import torch


class PreparedCuda:
    """A BSR tensor and the launch parameters of PyTorch's kernel (``meta``, in PyTorch's names)."""

    def __init__(self, weight: torch.Tensor, case: Case) -> None:
        import torch
        from torch.sparse import _triton_ops

        self._weight, self._multiply = weight, _triton_ops.bsr_dense_addmm
        self.dtype = weight.dtype
        self.config: dict[str, Any] = {
            "tuned": False,
            "accumulate": "fp64" if case.dtype == "fp32" else "fp32",
            "torch": torch.__version__,
        }
        self.use(_launch_parameters(case, weight.dtype))

    def use(self, meta: dict[str, int]) -> None:
        """Launch with other parameters from now on."""
        self.meta = meta
        self.config |= meta

    def launch(self, x: torch.Tensor, y: torch.Tensor) -> None:
        self._multiply(y, self._weight, x, beta=0, alpha=1, out=y, meta=self.meta)


class _PreparedCpu:
    def __init__(self, weight: torch.Tensor) -> None:
        import torch

        self._weight, self._mm = weight, torch.mm
        self.config: dict[str, Any] = {
            "index": "int32",
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        }

    def launch(self, x: torch.Tensor, y: torch.Tensor) -> None:
        self._mm(self._weight, x, out=y)


def _launch_parameters(case: Case, dtype: torch.dtype) -> dict[str, Any]:
    """PyTorch's own choice, looked up once; where its split of N would not divide N, the nearest one that does."""
    from torch.sparse import _triton_ops

    r, c = case.block_rows, case.block_cols
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns that the parameters are untuned: config says so
        sparsity = round(1 - case.stored_blocks * r * c / max(case.M * case.K, 1), 2)
        meta = dict(
            _triton_ops.bsr_dense_addmm_meta(
                case.M, case.K, case.N, r, c, 0, 1, sparsity=sparsity, dtype=dtype, out_dtype=dtype
            )
        )
    width = case.N // meta["SPLIT_N"]
    if case.N % meta["SPLIT_N"] or width & (width - 1):
        meta["SPLIT_N"] = case.N // min(case.N & -case.N, max(r, 16))
    return meta


def _power_of_two(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


class BsrTorch(BaseKernel):
    """``bsr_dense_addmm`` on a GPU, ``torch.mm`` of a BSR tensor on the CPU."""

    name = "bsr.torch"
    format = "bsr"
    devices: tuple[Device, ...] = ("cuda", "cpu")
    dtypes = ("fp16", "bf16", "fp32")

    def unit(self, dtype: str, device: Device) -> Unit:
        """fp32 is summed in fp64 without tensor cores; 16-bit types use them."""
        return "cpu" if device == "cpu" else DTYPES[dtype].unit

    def available(self, device: Device) -> Support:
        answer = super().available(device)
        if not answer or device == "cpu":
            return answer
        return needs_cuda() and (YES if has_module("triton") else Support("needs Triton: pip install triton (Linux)"))

    def supports(self, case: Case, device: Device) -> Support:
        answer = super().supports(case, device)
        if not answer:
            return answer
        r, c = case.block_rows, case.block_cols
        if case.M % r or case.K % c:
            return Support(f"M and K must be multiples of the block: {case.M} x {case.K} in blocks of {r} x {c}")
        if device == "cpu":
            if case.dtype != "fp32":
                return Support(f"no {case.dtype} on the CPU: PyTorch's BSR product there takes fp32")
            if r != c:
                return Support(f"blocks must be square on the CPU (MKL), not {r} x {c}")
            return YES
        if min(r, c) < 16 or not (_power_of_two(r) and _power_of_two(c)):
            return Support(f"blocks must be powers of two from 16 on, not {r} x {c}")
        if case.N % 16:
            return Support(f"N must be a multiple of 16, not {case.N}")
        return YES

    def prepare(self, matrix: Matrix, case: Case, device: Device, step: Step = no_step) -> Prepared:
        import torch

        with step("convert"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch calls its BSR layout a beta, once per process
            operand = convert.bsr_operand(matrix, case.block_rows, case.block_cols, case.dtype, device)
            weight = torch.sparse_bsr_tensor(*operand, size=matrix.shape, check_invariants=False)
        with step("plan"):
            return _PreparedCpu(weight) if device == "cpu" else PreparedCuda(weight, case)


KERNELS = [BsrTorch()]
