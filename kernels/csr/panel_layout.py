"""The layout that the panel kernel multiplies: stored elements in blocks of (group of rows, panel of columns).

Rows are taken in the order of falling length, so that those who share a warp are about equally long, ``rows`` of them
to a group; ``panel`` columns to a panel. A block starts with rows + 1 row starts (16 bits, in units of 16 bytes from
the block's start, padded to whole units), then come the rows' elements, two to a unit: the value (fp32) and the byte
offset of its row of X within a panel of X in shared memory. A row with an odd count ends with a value of 0 and the
offset of a row of zeros behind the panel.

Bytes: 8 nnz, 8 for every odd row of a block, and 2 M per panel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sparsity_roofline.kernels.convert import CsrOperand, by_falling_length

if TYPE_CHECKING:
    import torch

UNIT = 16
"""Bytes that starts count: two elements."""


class PanelOperand(NamedTuple):
    """A weight in blocks.

    ``starts`` (groups * panels + 1) int32, first unit of each block, group-major; ``blocks`` (units, 4) int32, the
    elements' bits; ``order`` (M) int32, the row of every place; ``panels`` of the inner dimension; ``longest`` block
    in units.
    """

    starts: torch.Tensor
    blocks: torch.Tensor
    order: torch.Tensor
    panels: int
    longest: int

    @property
    def nbytes(self) -> int:
        """Bytes of the whole layout."""
        return int(self.starts.nbytes + self.blocks.nbytes + self.order.nbytes)


def header_bytes(rows: int) -> int:
    """Bytes of a block's row starts, as the device code counts them."""
    return (rows + 1 + 7) // 8 * UNIT


def pack(operand: CsrOperand, K: int, rows: int, panel: int, row_bytes: int) -> PanelOperand:
    """A CSR operand (fp32) with K columns in blocks of ``rows`` by ``panel``; a row of X takes ``row_bytes`` there.

    Raises:
        OverflowError: if a block outgrows its 16-bit row starts, or all of them the 32-bit ones.
    """
    import torch

    device = operand.values.device
    M = operand.indptr.shape[0] - 1
    groups, panels = -(-M // rows), -(-K // panel)
    order = by_falling_length(operand.indptr)
    place = torch.empty(M, dtype=torch.int64, device=device)
    place[order.long()] = torch.arange(M, device=device)
    at = torch.repeat_interleave(place, operand.indptr.diff().long())
    column = operand.indices.long()
    line = (at // rows * panels + column // panel) * rows + at % rows  # (block, row of it)
    line, sort = torch.sort(line, stable=True)
    column = column[sort]

    counts = torch.bincount(line, minlength=groups * panels * rows)
    units = ((counts + 1) // 2).view(groups * panels, rows)
    header = header_bytes(rows) // UNIT
    inside = torch.zeros((groups * panels, rows + 1), dtype=torch.int64, device=device)
    torch.cumsum(units, 1, out=inside[:, 1:])
    inside += header
    starts = torch.zeros(groups * panels + 1, dtype=torch.int64, device=device)
    torch.cumsum(inside[:, -1], 0, out=starts[1:])
    longest = int(inside[:, -1].max()) if inside.numel() else header
    if longest >= 2**16 or int(starts[-1]) >= 2**31:
        raise OverflowError("too large for the offsets of the panel layout")

    blocks = torch.zeros((int(starts[-1]), 4), dtype=torch.int32, device=device)
    blocks[:, 1::2] = panel * row_bytes
    heads = torch.zeros((groups * panels, header * 8), dtype=torch.int16, device=device)
    heads[:, : rows + 1] = torch.where(inside >= 2**15, inside - 2**16, inside).to(torch.int16)
    head_units = starts[:-1, None] + torch.arange(header, device=device)
    blocks[head_units.view(-1)] = heads.view(torch.int32).view(-1, 4)
    before = torch.cumsum(counts, 0) - counts
    rank = torch.arange(line.shape[0], device=device) - before[line]
    element = (starts[line // rows] + inside[:, :-1].reshape(-1)[line]) * 2 + rank
    elements = blocks.view(-1, 2)
    elements[element, 0] = operand.values[sort].view(torch.int32)
    elements[element, 1] = (column % panel * row_bytes).int()
    return PanelOperand(starts.int(), blocks, order, panels, longest)
