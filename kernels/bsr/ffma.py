"""``bsr.ffma``: block-sparse rows in IEEE fp32 on CUDA cores, in CUDA C++. Launch code; device code: ``_ffma.cu``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sparsity_roofline.kernels import convert
from sparsity_roofline.kernels._cuda import compiled
from sparsity_roofline.kernels._cuda.kernel import CudaKernel
from sparsity_roofline.kernels.protocol import YES, Device, Prepared, Step, Support, no_step
from sparsity_roofline.model.case import Case, Format
from sparsity_roofline.model.matrix import Matrix

if TYPE_CHECKING:
    import torch

SOURCE = Path(__file__).with_name("_ffma.cu")
HEIGHTS = (128, 64, 32, 16)
GROUP = 8  # rows of tiles that are walked together


class Tile(NamedTuple):
    """One compiled variant: BM rows by BN columns of Y a block, buffers of the ring."""

    BM: int
    BN: int
    stages: int

    @property
    def threads(self) -> int:
        return self.BM * self.BN // 64

    @property
    def shared(self) -> int:
        return self.stages * 64 * (self.BM + self.BN)


def transposed(values: torch.Tensor, BM: int) -> torch.Tensor:
    """Blocks (count, r, c) as slabs of 16 columns, rows innermost: (count, r / BM, c / 16, 16, BM)."""
    count, r, c = values.shape
    return values.view(count, r // BM, BM, c // 16, 16).permute(0, 1, 3, 4, 2).contiguous()


def choose(M: int, N: int, r: int, multiprocessors: int = 132) -> Tile:
    """The variant for a shape and blocks of r rows: large tiles while they fill the GPU twice."""
    fitting = [BM for BM in HEIGHTS if r % BM == 0]
    for BM in fitting:
        BN = 256 if BM <= 32 else 128
        if 2 * multiprocessors <= -(-M // BM) * -(-N // BN):
            return Tile(BM, BN, 4)
    return Tile(fitting[-1], 128 if fitting[-1] == 16 or N > 64 else 64, 4)


class _Prepared:
    def __init__(self, operand: convert.BsrOperand, order: torch.Tensor, tile: Tile, case: Case) -> None:
        device = operand.values.device
        self._indptr, self._indices, self._order, self._tile, self._K = *operand[:2], order, tile, case.K
        _, r, c = operand.values.shape
        self._slabs, self._parts = c // 16, r // tile.BM
        self._values = transposed(operand.values, tile.BM)
        module = compiled.module(SOURCE, str(device), (("BM", tile.BM), ("BN", tile.BN), ("STAGES", tile.stages)))
        self._function = module.function("bsr_ffma", shared=tile.shared)
        self.config: dict[str, Any] = {
            **tile._asdict(),
            "row_order": "by falling length",
            "workspace_bytes": 0,
            "deterministic": True,
            "math": "ieee",
            "accumulate": "fp32",
        }

    def launch(self, x: torch.Tensor, y: torch.Tensor) -> None:
        M, N = y.shape
        tiles_m, tiles_n = self._order.shape[0] * self._parts, -(-N // self._tile.BN)
        self._function.launch(
            (tiles_m * tiles_n,),
            self._tile.threads,
            self._values,
            self._indptr,
            self._indices,
            self._order,
            x,
            y,
            M,
            N,
            self._K,
            self._slabs,
            self._parts,
            tiles_m,
            tiles_n,
            GROUP,
        )


class BsrFfma(CudaKernel):
    """Blocks of r x c, both multiples of 16, in fp32 without TF32."""

    name = "bsr.ffma"
    format: Format = "bsr"
    dtypes = ("fp32",)

    def supports(self, case: Case, device: Device) -> Support:
        answer = super().supports(case, device)
        if not answer:
            return answer
        r, c = case.block_rows, case.block_cols
        if min(r, c) < 1 or r % 16 or c % 16:
            return Support(f"rows and columns of a block must be multiples of 16, not {r} x {c}: use bsr.triton")
        if case.N % 4:
            return Support(f"N must be a multiple of 4, not {case.N} (rows of X start at 16 bytes): use bsr.triton")
        return YES

    def prepare(self, matrix: Matrix, case: Case, device: Device, step: Step = no_step) -> Prepared:
        tile = choose(case.M, case.N, case.block_rows)
        with step("convert"):
            operand = convert.bsr_operand(matrix, case.block_rows, case.block_cols, case.dtype, device)
        with step("sort rows"):
            order = convert.by_falling_length(operand.indptr)
        return _Prepared(operand, order, tile, case)


KERNELS = [BsrFfma()]
