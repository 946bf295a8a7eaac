"""``bsr.mma``: block-sparse rows by few columns, in CUDA C++. Launch code and layout; device code: ``_mma.cu``."""

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

SOURCE = Path(__file__).with_name("_mma.cu")
MOST_COLUMNS = 256


class Tile(NamedTuple):
    """One compiled variant: 16 * units rows by BN columns a block, its warps, and slices in flight of each."""

    units: int
    BN: int
    warps: int
    depth: int

    @property
    def shared(self) -> int:
        """Bytes: the rings of X, then in their place the warps' sums."""
        return max(self.warps * self.depth * 32 * self.BN, self.warps * 64 * self.units * (self.BN + 8))


class Slices(NamedTuple):
    """A weight as slices of 16 columns in the order of the MMA's registers.

    Attributes:
        tiles: (slices, units * 256).
        columns: (slices of one row of groups), int32: k / 16 of each slice, block row after block row.
        groups: (groups, 4), int32, longest first: first tile, first of ``columns``, slices, first row of Y.
    """

    tiles: torch.Tensor
    columns: torch.Tensor
    groups: torch.Tensor


def slices_of(operand: convert.BsrOperand, units: int) -> Slices:
    """Blocks of r x c as slices of 16 * units rows; r must be a multiple of that, c of 16."""
    import torch

    indptr, indices, values = operand
    device, (count, r, c) = values.device, values.shape
    each, wide = r // (16 * units), c // 16  # groups of a block row, slices of a block
    block_rows = indptr.shape[0] - 1
    lengths = indptr.long().diff() * wide
    first = indptr[:-1].long() * wide
    # Slices of a block row: group after group, each with all of the row's blocks.
    block_row = torch.repeat_interleave(torch.arange(block_rows, device=device), indptr.long().diff())
    place = torch.arange(count, device=device) * wide - first[block_row]
    at = (first * each)[block_row][:, None] + lengths[block_row][:, None] * torch.arange(each, device=device)
    at = (at + place[:, None])[:, :, None] + torch.arange(wide, device=device)
    # Registers of m16n8k16: lane (row % 8, column % 8 / 2) holds pairs of columns for both halves of rows and columns.
    parts = values.view(count, each, units, 2, 8, wide, 2, 4, 2).permute(0, 1, 5, 2, 4, 7, 6, 3, 8)
    tiles = torch.zeros((max(count * each * wide, 1), units, 8, 4, 2, 2, 2), dtype=values.dtype, device=device)
    tiles[at] = parts
    columns = (indices.long()[:, None] * wide + torch.arange(wide, device=device)).view(-1).int()
    group = torch.arange(each, device=device)
    starts = (first * each)[:, None] + lengths[:, None] * group
    rows = torch.arange(block_rows, device=device)[:, None] * r + group * (16 * units)
    table = torch.stack([starts, first[:, None].expand_as(starts), lengths[:, None].expand_as(starts), rows], 2)
    table = table.view(-1, 4)
    order = torch.argsort(table[:, 2], descending=True, stable=True)
    return Slices(tiles.view(tiles.shape[0], units * 256), columns, table[order].int().contiguous())


def choose(M: int, K: int, N: int, r: int, density: float) -> Tile:
    """The variant for a shape, blocks of r rows and a share of stored blocks.

    From a sweep on an H100 (five shapes, N of 16, 64 and 256): more warps where a block has many slices and there are
    few blocks; two units where X would otherwise pass through L2 for every 16 rows.
    """
    BN = 16 if N <= 16 else 32 if N <= 32 else 64
    slices, rows = density * K / 16, -(-M // 16)
    if N > 64 and r % 32 == 0 and M > 1024:
        return Tile(2, BN, 4, 3)
    if BN > 16 and r % 32 == 0 and slices >= 64 and M > 1024:
        return Tile(2, BN, 8, 6)
    if BN == 16:
        return Tile(1, BN, 4 if rows > 528 and r < 64 else 16 if slices >= 48 and rows <= 528 else 8, 4)
    return Tile(1, BN, 16 if rows <= 64 and slices >= 64 else 4 if rows > 528 or N > 64 else 8, 4)


class _Prepared:
    def __init__(self, slices: Slices, tile: Tile, case: Case, device: torch.device) -> None:
        self._slices, self._tile, self._K = slices, tile, case.K
        defines = (("UNITS", tile.units), ("BN", tile.BN), ("WARPS", tile.warps), ("DEPTH", tile.depth))
        module = compiled.module(SOURCE, str(device), (*defines, ("BF16", int(case.dtype == "bf16"))))
        self._function = module.function("bsr_mma", shared=tile.shared)
        self.config: dict[str, Any] = {
            **tile._asdict(),
            "weight_bytes": slices.tiles.nbytes + slices.columns.nbytes + slices.groups.nbytes,
            "workspace_bytes": 0,
            "deterministic": True,
            "accumulate": "fp32",
        }

    def launch(self, x: torch.Tensor, y: torch.Tensor) -> None:
        M, N = y.shape
        tiles, columns, groups = self._slices
        grid = (groups.shape[0], -(-N // self._tile.BN))
        self._function.launch(grid, 32 * self._tile.warps, tiles, groups, columns, x, y, M, N, self._K)


class BsrMma(CudaKernel):
    """Blocks of r x c, both multiples of 16, in 16 bits, by few columns."""

    name = "bsr.mma"
    format: Format = "bsr"

    def supports(self, case: Case, device: Device) -> Support:
        answer = super().supports(case, device)
        if not answer:
            return answer
        r, c = case.block_rows, case.block_cols
        if min(r, c) < 1 or r % 16 or c % 16:
            return Support(f"rows and columns of a block must be multiples of 16, not {r} x {c}: use bsr.triton")
        if case.N % 8:
            return Support(f"N must be a multiple of 8, not {case.N} (rows of X start at 16 bytes): use bsr.triton")
        if case.N > MOST_COLUMNS:
            return Support(f"made for N up to {MOST_COLUMNS}, not {case.N}: use bsr.wgmma or bsr.triton")
        return YES

    def prepare(self, matrix: Matrix, case: Case, device: Device, step: Step = no_step) -> Prepared:
        blocks = -(-case.M // case.block_rows) * -(-case.K // case.block_cols)
        tile = choose(case.M, case.K, case.N, case.block_rows, case.stored_blocks / max(blocks, 1))
        with step("convert"):
            operand = convert.bsr_operand(matrix, case.block_rows, case.block_cols, case.dtype, device)
        with step("pack slices"):
            slices = slices_of(operand, tile.units)
        return _Prepared(slices, tile, case, operand.values.device)


KERNELS = [BsrMma()]
