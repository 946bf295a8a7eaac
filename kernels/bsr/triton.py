"""``bsr.triton``: block-sparse rows on tensor cores. Launch code and fixed choices; device code: ``_triton.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sparsity_roofline.kernels import convert
from sparsity_roofline.kernels.protocol import Device, Prepared, Step, no_step
from sparsity_roofline.kernels.support import PRECISIONS, TritonKernel, is_wide
from sparsity_roofline.model.case import Case
from sparsity_roofline.model.matrix import Matrix

if TYPE_CHECKING:
    import torch


class Tile(NamedTuple):
    """One compiled variant for a block size: tile of Y, step along the packed K, MMA orientation, warps, stages."""

    BM: int
    BN: int
    BK: int
    transposed: bool
    warps: int
    stages: int
    group: int = 8


def choose(r: int, N: int, dtype: str) -> Tile:
    """The variant for blocks of r rows and N columns.

    At N <= 16 the bytes of W bound the time: BM of 16 spreads a block over several programs. At larger N, 16-bit tiles
    below 64 rows are transposed to reach the 64-row warpgroup MMA, which takes operands in both orders only in 16 bits.
    The column of a block is loaded in one pipeline stage and its rows of X in a later one, so ``stages`` of 5 and 7
    give 3 and 4 buffers.
    """
    rows = 1 << max(r - 1, 0).bit_length()
    BM = min(max(rows, 16), 64)
    if dtype == "fp32":  # FFMA: no tensor cores
        if N <= 16:
            return Tile(BM, 16, 16, False, 4, 3)
        return Tile(BM, 64, 16, False, 4, 3) if N <= 64 else Tile(BM, 128, 32, False, 4, 3)
    if dtype == "tf32":
        # Two warps at 64 rows, for mma.sync: the warpgroup's MMA wants X turned round through shared memory.
        if N <= 16:
            return Tile(16, 16, 64, False, 2, 7)
        if BM == 64:
            return Tile(64, 128 if rows > 64 and N > 64 else 64, 32, False, 2, 5 if rows == 64 else 4)
        return Tile(BM, 64, 32, False, 2, 5) if N <= 64 else Tile(BM, 128, 32, False, 4, 4)
    if N <= 16:
        return Tile(16, 16, 128, False, 2, 7)
    BM = min(max(rows, 16), 128)
    if N <= 64:
        return Tile(min(BM, 64), 64, 64, BM < 64, 4, 5)
    return Tile(BM, 128, 64, BM < 64, 4, 5)  # best of the first cuts in 35 of 48 cases (measured, H100)


class _Prepared:
    def __init__(self, operand: convert.BsrOperand, order: torch.Tensor, case: Case) -> None:
        import triton

        self._operand, self._order, self._K = operand, order, case.K
        self._tile = choose(case.block_rows, case.N, case.dtype)
        self._precision = PRECISIONS[case.dtype]
        self._token_major = case.layout == "token-major"
        self.config: dict[str, Any] = {
            **self._tile._asdict(),
            "index": "int32",
            "row_order": "by falling length",
            "math": self._precision,
            "accumulate": "fp32",
            "triton": triton.__version__,
        }

    def launch(self, x: torch.Tensor, y: torch.Tensor) -> None:
        from sparsity_roofline.kernels.bsr._triton import bsr_spmm

        if not y.numel():
            return
        t, values = self._tile, self._operand.values
        (M, N), (_, r, c), block_rows = y.shape, values.shape, self._order.shape[0]
        bsr_spmm[(block_rows * -(-r // t.BM) * -(-N // t.BN),)](
            *self._operand,
            self._order,
            x,
            y,
            block_rows,
            M,
            N,
            self._K,
            R=r,
            C=c,
            BM=t.BM,
            BN=t.BN,
            BK=t.BK,
            TRANSPOSED=t.transposed,
            GROUP=t.group,
            PRECISION=self._precision,
            TOKEN_MAJOR=self._token_major,
            WIDE=is_wide(values, x, y),
            num_warps=t.warps,
            enable_fp_fusion=True,
            num_stages=t.stages,
        )


class BsrTriton(TritonKernel):
    """Any r x c: blocks are packed along K to full MMA steps; rows are padded to 16 in registers, never in memory."""

    name = "bsr.triton"
    format = "bsr"
    layouts = ("row-major", "token-major")

    def prepare(self, matrix: Matrix, case: Case, device: Device, step: Step = no_step) -> Prepared:
        with step("convert"):
            operand = convert.bsr_operand(matrix, case.block_rows, case.block_cols, case.dtype, device)
        with step("sort rows"):
            order = convert.by_falling_length(operand.indptr)
        return _Prepared(operand, order, case)


KERNELS = [BsrTriton()]
