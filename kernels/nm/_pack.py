"""2:4 weights in the order in which sparse tensor-core instructions consume them.

An instruction that multiplies 16 rows by 32 columns takes 16 kept values a row, as the fragments of a dense 16 x 16
product, and a two-bit position for each: positions of a group of four ascend, a nibble a group, the first group lowest
(PTX ISA, "Sparse matrix storage"). A 32-bit word of metadata covers 16 columns of row g (low half) and of row g + 8
(high half); it is given by lane 4 g + h or 4 g + 2 + h, where h is the half of the 32 columns and the selector 0 or 1
says which pair of lanes counts. ``wgmma`` asks for the same of each of its four warps.

Everything here is a handful of tensor operations on the weight's device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparsity_roofline.kernels.convert import NmOperand

if TYPE_CHECKING:
    import torch

MMA_ROWS, MMA_COLUMNS = 32, 128
"""Rows and columns of one unit of ``mma_units``."""
MMA_BYTES = 4608

WGMMA_ROWS, WGMMA_COLUMNS = 64, 64
"""Rows and columns of one unit of ``wgmma_units``."""
WGMMA_BYTES = 4608


def compressed(operand: NmOperand, rows: int, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Kept values and positions of a 2:4 weight, padded to whole tiles of rows x columns with zeros.

    Args:
        operand: planes of ``convert.nm_operand(matrix, 2, 4, ...)``.

    Returns:
        values (Mp, Kp / 2) and metadata (Mp, Kp / 16), int16 of which bits 4 i to 4 i + 3 are the positions of the
        i-th of four groups. Where a group keeps fewer than two values, zeros at unused positions fill it up, since
        positions must differ and ascend.
    """
    import torch

    values, positions = operand
    _, M, groups = values.shape
    first, second = positions[0].int(), positions[1].int()
    single = second <= first  # a missing second value has position 0, a stored one comes after the first
    at_end = single & (first == 3)  # then the zero goes in front
    low = torch.where(at_end, 2, first)
    high = torch.where(single, torch.where(at_end, 3, first + 1), second)
    pair = torch.stack((torch.where(at_end, 0, values[0]), torch.where(at_end, values[0], values[1])), 2)
    pad_rows, pad_groups = -M % rows, -groups % (columns // 4)
    pad = torch.nn.functional.pad
    values = pad(pair, (0, 0, 0, pad_groups, 0, pad_rows)).flatten(1)
    nibbles = pad(low | high << 2, (0, pad_groups, 0, pad_rows), value=0b0100)
    shifts = torch.tensor([0, 4, 8, 12], dtype=torch.int32, device=nibbles.device)
    words = (nibbles.unflatten(1, (-1, 4)) << shifts).sum(2)
    return values.contiguous(), words.to(torch.int16)


def mma_units(operand: NmOperand) -> torch.Tensor:
    """Units of 32 rows x 128 columns for ``_mma.cu``: int16 (row groups, chunks of columns, 2304).

    Of each unit's nine pieces of 32 lanes x 16 bytes, piece 2 i + j is the A fragment of k32 step i and 16-row tile j,
    the last one the metadata words of the four steps, for tile 0 by lanes 0 and 1 of a quad, for tile 1 by 2 and 3.
    """
    import torch

    values, words = compressed(operand, MMA_ROWS, MMA_COLUMNS)
    groups, chunks = values.shape[0] // MMA_ROWS, values.shape[1] * 2 // MMA_COLUMNS
    # row = 32 group + 16 tile + 8 lower + g; kept column = 64 chunk + 16 step + 8 right + 2 t + i
    a = values.view(torch.int16).view(groups, 2, 2, 8, chunks, 4, 2, 4, 2)
    a = a.permute(0, 4, 5, 1, 3, 7, 6, 2, 8).reshape(groups, chunks, 2048)
    # word column = 8 chunk + 2 step + half
    e = words.view(groups, 2, 2, 8, chunks, 4, 2).permute(0, 4, 3, 1, 6, 5, 2).reshape(groups, chunks, 256)
    return torch.cat((a, e), 2)


def wgmma_units(operand: NmOperand) -> torch.Tensor:
    """Units of 64 rows x 64 columns for ``_wgmma.cu``: int16 (row groups, steps along K, 2304).

    First the kept values as core matrices of 8 rows x 16 bytes: (k32 step, 8-row group, half, row, value); then a
    metadata word a thread: step 0 by lanes 0 and 1 of a quad, step 1 by lanes 2 and 3.
    """
    import torch

    values, words = compressed(operand, WGMMA_ROWS, WGMMA_COLUMNS)
    groups, steps = values.shape[0] // WGMMA_ROWS, values.shape[1] * 2 // WGMMA_COLUMNS
    # row = 64 group + 8 eight + r; kept column = 32 step + 16 k32 + 8 half + i
    a = values.view(torch.int16).view(groups, 8, 8, steps, 2, 2, 8)
    a = a.permute(0, 3, 4, 1, 5, 2, 6).reshape(groups, steps, 2048)
    # row = 64 group + 16 warp + 8 lower + g; word column = 4 step + 2 k32 + half
    e = words.view(groups, 4, 2, 8, steps, 2, 2).permute(0, 4, 1, 3, 5, 6, 2).reshape(groups, steps, 256)
    return torch.cat((a, e), 2)
