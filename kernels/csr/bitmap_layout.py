"""The layout that the bitmap kernels multiply: one bit per element of W, and the stored values behind each other.

W is cut into strips of 16 rows and panels of 256 columns. A (strip, panel) holds 32 lanes x 4 words of 32 bits, one
bit for each of its elements, and its values in the order (word, lane, bit), starting at a multiple of 16 bytes.

Word i covers columns 64 i to 64 i + 63 of the panel; its bits are what lane 4 g + t holds of the four A fragments of
``mma.m16n8k16`` (and of ``wgmma`` with A in registers), so a warp decodes straight into registers. Bit 8 q + 2 r + e is
element e of register r of fragment q, and stands for

    row     g + 8 (r mod 2)
    column  32 (q / 2) + 8 t + 4 (q mod 2) + 2 (r / 2) + e

The columns of a fragment are not the sixteen that lie side by side: a product may sum in any order as long as the rows
of X are taken in the same one, and this order gives a lane 8 neighbouring columns of a row, 16 bytes of a dense matrix.

Bytes: b nnz + M K / 8 + 4 M K / 4096 (and up to 15 per panel of padding): 1.13 per element of a 16-bit W at half
density, against 2 dense and 3 as CSR.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sparsity_roofline.kernels import convert
from sparsity_roofline.kernels.protocol import YES, Support
from sparsity_roofline.model.case import Case
from sparsity_roofline.model.matrix import Matrix

if TYPE_CHECKING:
    import torch

ROWS, COLUMNS = 16, 256
"""Elements of a (strip, panel)."""

UNIT = 16
"""Bytes that a panel's values are aligned to; offsets count these."""

MAX_PAIRS = 2**31 - 2**16
"""(strip, panel) pairs that the device code counts with 32 bits."""


class BitmapOperand(NamedTuple):
    """A weight in the bitmap layout.

    ``masks`` (strips, panels, 32, 4) int32; ``offsets`` (strips * panels + 1) int32, the first unit of each pair's
    values; ``values``, one-dimensional, padded to whole units.
    """

    masks: torch.Tensor
    offsets: torch.Tensor
    values: torch.Tensor

    @property
    def strips(self) -> int:
        """Rows / 16, rounded up."""
        return int(self.masks.shape[0])

    @property
    def panels(self) -> int:
        """Columns / 256, rounded up."""
        return int(self.masks.shape[1])

    @property
    def nbytes(self) -> int:
        """Bytes of the whole layout."""
        return int(self.masks.nbytes + self.offsets.nbytes + self.values.nbytes)

    def capacity(self, panels: int) -> int:
        """Bytes of the longest run of values over ``panels`` consecutive panels of a strip, from a multiple of it on.

        What a warp must have room for to take that many panels in one step.
        """
        import torch

        lengths = self.offsets.diff().view(self.strips, self.panels).long()
        groups = -(-self.panels // panels)
        lengths = torch.nn.functional.pad(lengths, (0, groups * panels - self.panels))
        runs = lengths.view(self.strips, groups, panels).sum(2)
        return int(runs.max()) * UNIT if runs.numel() else 0


def fits(case: Case) -> Support:
    """Yes if the layout's 32-bit counts suffice for a case, whichever way its elements lie."""
    pairs = -(-case.M // ROWS) * -(-case.K // COLUMNS)
    if pairs > MAX_PAIRS or case.nnz // 4 + pairs >= 2**31:
        return Support("too large for the 32-bit offsets of the bitmap layout")
    return YES


def bitmap_operand(matrix: Matrix, dtype: str, device: str | torch.device) -> BitmapOperand:
    """The weight in the bitmap layout, rounded to ``dtype``, built on ``device``. Ask ``fits`` first."""
    return pack(convert.csr_operand(matrix, dtype, device), *matrix.shape)


def pack(operand: convert.CsrOperand, M: int, K: int) -> BitmapOperand:
    """A CSR operand of M x K in the bitmap layout, on its device. Sorts the elements: nnz log nnz."""
    import torch

    device = operand.values.device
    strips, panels = -(-M // ROWS), -(-K // COLUMNS)
    pairs = strips * panels
    row = torch.repeat_interleave(torch.arange(M, device=device), operand.indptr.diff().long())
    key, order = torch.sort(_position(row, operand.indices.long(), panels))

    words = torch.zeros(pairs * 128, dtype=torch.int64, device=device)
    words.index_add_(0, (key >> 12) * 128 + (key >> 5 & 31) * 4 + (key >> 10 & 3), 1 << (key & 31))
    counts = torch.bincount(key >> 12, minlength=pairs)
    per_unit = UNIT // operand.values.element_size()
    offsets = torch.zeros(pairs + 1, dtype=torch.int64, device=device)
    torch.cumsum((counts + per_unit - 1) // per_unit, 0, out=offsets[1:])
    before = torch.cumsum(counts, 0) - counts
    rank = torch.arange(key.shape[0], device=device) - before[key >> 12]
    values = torch.zeros(int(offsets[-1]) * per_unit, dtype=operand.values.dtype, device=device)
    values[offsets[key >> 12] * per_unit + rank] = operand.values[order]
    masks = torch.where(words >= 2**31, words - 2**32, words).int().view(strips, panels, 32, 4)
    return BitmapOperand(masks, offsets.int(), values)


def _position(row: torch.Tensor, column: torch.Tensor, panels: int) -> torch.Tensor:
    """Sort key of elements: (pair, word, lane, bit), the last three in 2, 5 and 5 bits."""
    pair = (row >> 4) * panels + (column >> 8)
    lane = (row & 7) * 4 + (column >> 3 & 3)
    fragment = (column >> 5 & 1) * 2 + (column >> 2 & 1)
    register = (row >> 3 & 1) + (column >> 1 & 1) * 2
    bit = fragment * 8 + register * 2 + (column & 1)
    return ((pair * 4 + (column >> 6 & 3)) * 32 + lane) * 32 + bit
