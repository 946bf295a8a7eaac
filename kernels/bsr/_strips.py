"""The layout of ``bsr.wgmma``: blocks of a weight gathered into the 64-row tiles of a warpgroup MMA.

``_wgmma.cu`` explains what it is for. In words: rows are dealt in units of 16, four units make a strip, ``strips``
strips a group. The columns that any strip of a group stores, in pieces of CK, are packed into steps.
"""

from __future__ import annotations

from math import gcd
from typing import TYPE_CHECKING, NamedTuple

from sparsity_roofline.kernels.convert import BsrOperand, by_falling_length

if TYPE_CHECKING:
    import torch

LARGE_MASK = 2**24  # blocks, stored or not
UNIT = 16
STRIP = 64


class Strips(NamedTuple):
    """A weight as steps of tiles.

    Attributes:
        tiles: (tiles, 64 * piece), every tile in the order in which the MMA reads it.
        meta: (steps, step / piece + 2), int32: the pieces' columns in units of ``piece`` (-1: none), first tile, mask.
            Bit s * (step / piece) + i of the mask: strip s has a tile in the i-th piece.
        rows: (groups, strips * 4), int32: first row of Y of each unit, -1 where there is none.
        starts: (groups + 1), int64, on the CPU: first step of each group.
        step: columns that make a step: 32 or 64.
        piece: columns of a tile: 16, 32 or 64, at most ``step``.
        strips: strips of a group.
    """

    tiles: torch.Tensor
    meta: torch.Tensor
    rows: torch.Tensor
    starts: torch.Tensor
    step: int
    piece: int
    strips: int


def piece_of(c: int, step: int = 64) -> int:
    """Columns of a tile for blocks of c columns; 0 if blocks do not consist of pieces."""
    return gcd(c, step) if c % UNIT == 0 else 0


def order_by_overlap(operand: BsrOperand, K: int, members: int) -> torch.Tensor:
    """Block rows so ordered that each run of ``members`` stores many columns in common, int32.

    Greedy: the longest row left opens a run, and the row that shares most with the run's union, for its length, joins
    it. Takes about block_rows^2 * block_cols operations on the weight's device. Falls back to falling length where one
    row makes a run or the mask is too large to be worth it.
    """
    import torch

    block_rows, block_cols = operand.indptr.shape[0] - 1, -(-K // operand.values.shape[2])
    if members < 2 or block_rows * block_cols > LARGE_MASK:
        return by_falling_length(operand.indptr)
    device = operand.indptr.device
    lengths = operand.indptr.long().diff()
    stored = torch.zeros((block_rows, block_cols), dtype=torch.float32, device=device)
    stored[torch.repeat_interleave(torch.arange(block_rows, device=device), lengths), operand.indices.long()] = 1.0
    length = lengths.float()
    gone = torch.zeros(block_rows, dtype=torch.float32, device=device)
    order = torch.empty(block_rows, dtype=torch.int64, device=device)
    union = stored[:0]
    for i in range(block_rows):
        opens = i % members == 0
        score = length if opens else torch.mv(stored, union) - 0.5 * length
        chosen = torch.argmax(score + gone).view(1)
        row = stored[chosen].view(-1)
        union = row if opens else torch.maximum(union, row)
        gone[chosen] = -torch.inf
        order[i] = chosen[0]
    return order.int()


def strips_of(operand: BsrOperand, order: torch.Tensor, K: int, strips: int, step: int = 64) -> Strips:
    """Blocks of r x c (both multiples of 16) as strips, block rows in the order given.

    Args:
        operand: the weight.
        order: (block rows), the block rows in the order in which they are dealt to strips.
        K: columns of the weight.
        strips: strips of a group.
        step: columns that make a step.
    """
    import torch

    indptr, indices, values = operand
    device, (count, r, c) = values.device, values.shape
    piece, units = piece_of(c, step), r // UNIT
    block_rows, pieces, packed = indptr.shape[0] - 1, -(-K // c) * (c // piece), step // piece
    groups = -(-block_rows * units // (4 * strips))

    place = torch.empty(block_rows, dtype=torch.int64, device=device)
    place[order.long()] = torch.arange(block_rows, device=device)
    block_row = torch.repeat_interleave(torch.arange(block_rows, device=device), indptr.long().diff())
    # Every (block, unit of its rows, piece of its columns) and where it goes.
    unit = place[block_row][:, None] * units + torch.arange(units, device=device)
    column = indices.long()[:, None] * (c // piece) + torch.arange(c // piece, device=device)
    unit, column = (t.expand(count, units, c // piece) for t in (unit[:, :, None], column[:, None, :]))
    strip, quarter = unit // 4, unit % 4

    held = torch.zeros((groups * strips, pieces), dtype=torch.bool, device=device)
    held[strip, column] = True
    union = held.view(groups, strips, pieces).any(1)
    rank = torch.cumsum(union, 1) - 1
    steps = -(-union.sum(1) // packed)
    starts = torch.zeros(groups + 1, dtype=torch.int64, device=device)
    starts[1:] = torch.cumsum(steps, 0)
    total = int(starts[-1])

    tile_strip, tile_column = held.nonzero(as_tuple=True)
    group = tile_strip // strips
    at_step = starts[group] + rank[group, tile_column] // packed
    bit = tile_strip % strips * packed + rank[group, tile_column] % packed
    stored = torch.argsort(at_step * (strips * packed) + bit)
    number = torch.empty_like(stored)
    number[stored] = torch.arange(stored.shape[0], device=device)
    where = torch.zeros_like(held, dtype=torch.int64)
    where[tile_strip, tile_column] = number

    meta = torch.zeros((max(total, 1), packed + 2), dtype=torch.int32, device=device)
    meta[:, :packed] = -1
    at_group, at_column = union.nonzero(as_tuple=True)
    nth = rank[at_group, at_column]
    meta[starts[at_group] + nth // packed, nth % packed] = at_column.int()
    tiles_in = torch.bincount(at_step, minlength=max(total, 1))
    meta[:, packed] = (torch.cumsum(tiles_in, 0) - tiles_in).int()
    masks = torch.zeros(max(total, 1), dtype=torch.int64, device=device)
    meta[:, packed + 1] = masks.index_add_(0, at_step, 1 << bit).int()

    # Core matrices of 8 x 8: within a tile (slice of 16 columns, half of it, 8 rows); see ``w_descriptor``.
    q = piece // 16
    tiles = torch.zeros((max(stored.shape[0], 1), q, 2, 4, 2, 8, 8), dtype=values.dtype, device=device)
    parts = values.view(count, units, 2, 8, c // piece, q, 2, 8).permute(0, 1, 4, 5, 6, 2, 3, 7)
    tiles.permute(0, 3, 1, 2, 4, 5, 6)[where[strip, column], quarter] = parts

    rows = torch.full((groups * strips * 4,), -1, dtype=torch.int32, device=device)
    first = order.long()[:, None] * r + torch.arange(units, device=device) * UNIT
    rows[: block_rows * units] = first.reshape(-1).int()
    return Strips(
        tiles.view(tiles.shape[0], STRIP * piece),
        meta,
        rows.view(groups, strips * 4),
        starts.cpu(),
        step,
        piece,
        strips,
    )
