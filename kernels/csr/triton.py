"""``csr.triton``: row-split CSR on CUDA cores. Launch code and its fixed choices; the device code is ``_triton.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sparsity_roofline.kernels import convert
from sparsity_roofline.kernels.protocol import Device, Prepared, Step, no_step
from sparsity_roofline.kernels.support import TritonKernel, is_wide
from sparsity_roofline.model.case import Case
from sparsity_roofline.model.dtype import Unit
from sparsity_roofline.model.matrix import Matrix

if TYPE_CHECKING:
    import torch


class Tile(NamedTuple):
    """One compiled variant: rows and columns of Y per program, lanes per row, warps."""

    BR: int
    BT: int
    BN: int
    warps: int


def choose(N: int) -> Tile:
    """The variant for N columns: BN no wider than N needs, the lanes that frees given to more rows.

    One warp and 16 rows of X by 64 columns in flight was the best of the first cuts at N >= 64 (measured, H100).
    """
    if N > 32:
        return Tile(1, 16, 64, 1)
    if N > 16:
        return Tile(2, 16, 32, 1)
    if N > 4:
        return Tile(4, 16, 16, 1)
    return Tile(8, 32, 4, 1)


class _Prepared:
    def __init__(self, operand: convert.CsrOperand, order: torch.Tensor, case: Case) -> None:
        import triton

        self._operand, self._order = operand, order
        self._tile = choose(case.N)
        self.config: dict[str, Any] = {
            **self._tile._asdict(),
            "index": "int32",
            "row_order": "by falling length",
            "accumulate": "fp32",
            "triton": triton.__version__,
        }

    def launch(self, x: torch.Tensor, y: torch.Tensor) -> None:
        from sparsity_roofline.kernels.csr._triton import csr_spmm

        if not y.numel():
            return
        t, (M, N) = self._tile, y.shape
        csr_spmm[(-(-M // t.BR) * -(-N // t.BN),)](
            *self._operand,
            self._order,
            x,
            y,
            M,
            N,
            BR=t.BR,
            BT=t.BT,
            BN=t.BN,
            WIDE=is_wide(x, y),
            num_warps=t.warps,
            enable_fp_fusion=True,
        )


class CsrTriton(TritonKernel):
    """Row-split CSR: tiles of elements by columns, rows sorted by length, sums in fp32."""

    name = "csr.triton"
    format = "csr"
    dtypes = ("fp16", "bf16", "fp32")

    def unit(self, dtype: str, device: Device) -> Unit:
        return "cpu" if device == "cpu" else "cuda"

    def prepare(self, matrix: Matrix, case: Case, device: Device, step: Step = no_step) -> Prepared:
        with step("convert"):
            operand = convert.csr_operand(matrix, case.dtype, device)
        with step("sort rows"):
            order = convert.by_falling_length(operand.indptr)
        return _Prepared(operand, order, case)


KERNELS = [CsrTriton()]
