"""The layout that the bitmap kernels multiply: one bit per element of W, and the stored values behind each other.

W is cut into strips of 16 rows and panels of 256 columns. A (strip, panel) has four parts of 64 columns; a part's mask
is what the 32 lanes of a warp hold of the four A fragments of ``mma.m16n8k16`` (and of ``wgmma`` with A in registers),
so a warp decodes straight into registers. Element e of register r of fragment q of lane 4 g + t is

    row     g + 8 (r mod 2)
    column  32 (q / 2) + 8 t + 4 (q mod 2) + 2 (r / 2) + e

The columns of a fragment are not the sixteen that lie side by side: a product may sum in any order as long as the rows
of X are taken in the same one, and this order gives a lane 8 neighbouring columns of a row, 16 bytes of a dense matrix.

A bit stands for one element (width 1, bit 8 q + 2 r + e) or for two neighbouring columns (width 2, bit 4 q + r), both
stored if either is: more bytes, but one register is decoded by one load instead of two and a merge. The values of a
(strip, panel) follow one another in the order (part, lane, bit), starting at a multiple of 16 bytes.

Bytes per element of a 16-bit W: 2 d + 1 / 8 at width 1, 2 (1 - s^2) + 1 / 16 at width 2; 1.13 and 1.56 at half density,
.25 and .30 at 1 / 16, against 2 dense and 6 d as CSR.
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

    ``masks`` (strips, panels, 32, 4 / width) int32; ``offsets`` (strips * panels + 1) int32, the first unit of each
    pair's values; ``values``, one-dimensional, padded to whole units.
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
    if pairs > MAX_PAIRS or case.nnz // 2 + pairs >= 2**31:
        return Support("too large for the 32-bit offsets of the bitmap layout")
    return YES


def bitmap_operand(matrix: Matrix, dtype: str, device: str | torch.device, width: int = 1) -> BitmapOperand:
    """The weight in the bitmap layout, rounded to ``dtype``, built on ``device``. Ask ``fits`` first."""
    return pack(convert.csr_operand(matrix, dtype, device), *matrix.shape, width)


def pack(operand: convert.CsrOperand, M: int, K: int, width: int = 1) -> BitmapOperand:
    """A CSR operand of M x K in the bitmap layout, on its device; ``width`` 1 or 2 elements to a bit.

    Sorts the elements: nnz log nnz.
    """
    import torch

    device = operand.values.device
    strips, panels = -(-M // ROWS), -(-K // COLUMNS)
    pairs = strips * panels
    row = torch.repeat_interleave(torch.arange(M, device=device), operand.indptr.diff().long())
    key, order = torch.sort(_position(row, operand.indices.long(), panels))
    unit, member = torch.unique_consecutive(key // width, return_inverse=True)
    bits = 32 // width  # of a lane's part
    pair, part, lane, bit = (unit // (128 * bits), unit // (32 * bits) % 4, unit // bits % 32, unit % bits)

    words = torch.zeros(pairs * 128 // width, dtype=torch.int64, device=device)
    at = (pair * 32 + lane) * 4 + part
    words.index_add_(0, at // width, 1 << (bit + at % width * bits))
    counts = torch.bincount(pair, minlength=pairs)
    per_unit = UNIT // (operand.values.element_size() * width)
    offsets = torch.zeros(pairs + 1, dtype=torch.int64, device=device)
    torch.cumsum((counts + per_unit - 1) // per_unit, 0, out=offsets[1:])
    before = torch.cumsum(counts, 0) - counts
    place = offsets[pair] * per_unit + torch.arange(unit.shape[0], device=device) - before[pair]
    values = torch.zeros(int(offsets[-1]) * per_unit * width, dtype=operand.values.dtype, device=device)
    values[place[member] * width + key % width] = operand.values[order]
    masks = torch.where(words >= 2**31, words - 2**32, words).int().view(strips, panels, 32, 4 // width)
    return BitmapOperand(masks, offsets.int(), values)


def _position(row: torch.Tensor, column: torch.Tensor, panels: int) -> torch.Tensor:
    """Sort key of elements: (pair, part, lane, bit), the last three in 2, 5 and 5 bits."""
    pair = (row >> 4) * panels + (column >> 8)
    lane = (row & 7) * 4 + (column >> 3 & 3)
    fragment = (column >> 5 & 1) * 2 + (column >> 2 & 1)
    register = (row >> 3 & 1) + (column >> 1 & 1) * 2
    bit = fragment * 8 + register * 2 + (column & 1)
    return ((pair * 4 + (column >> 6 & 3)) * 32 + lane) * 32 + bit
