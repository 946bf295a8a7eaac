"""A weight as tensors: dense, CSR, BSR and n:m operands of a ``Matrix``, rounded to a case's dtype.

Every kernel and the oracle take their operands from here, so all of them multiply the same rounded numbers. The work is
done with tensor operations on the target device in time linear in the stored elements.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sparsity_roofline.model.dtype import dtype as known
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.matrix import Matrix

if TYPE_CHECKING:
    import torch

_TORCH_NAMES = {"fp64": "float64", "fp32": "float32", "tf32": "float32", "fp16": "float16", "bf16": "bfloat16"}
_INT32_MAX = 2**31 - 1


class CsrOperand(NamedTuple):
    """CSR tensors: ``indptr`` (M + 1), ``indices`` (nnz) and ``values`` (nnz)."""

    indptr: torch.Tensor
    indices: torch.Tensor
    values: torch.Tensor


class BsrOperand(NamedTuple):
    """BSR tensors of ceil(M / r) block rows: ``indptr``, ``indices`` (blocks) and ``values`` (blocks, r, c).

    Blocks that reach beyond M or K hold zeros there; so do unstored elements within a stored block.
    """

    indptr: torch.Tensor
    indices: torch.Tensor
    values: torch.Tensor


class NmOperand(NamedTuple):
    """n:m tensors, one plane per kept slot: ``values`` and ``positions`` (uint8, 0 to m - 1), both (n, M, ceil(K / m)).

    A slot without an element holds value 0 and position 0.
    """

    values: torch.Tensor
    positions: torch.Tensor


def torch_dtype(dtype: str) -> torch.dtype:
    """The storage type of a dtype name; ``tf32`` is stored as float32.

    Raises:
        UserError: for an unknown dtype or one that no kernel here takes.
    """
    import torch

    if dtype not in _TORCH_NAMES:
        raise UserError(f"no kernel stores {known(dtype).name}: choose one of {', '.join(_TORCH_NAMES)}")
    return getattr(torch, _TORCH_NAMES[dtype])


def rounded(values: npt.NDArray[Any], dtype: str, device: str | torch.device) -> torch.Tensor:
    """An array as a tensor of the case's dtype on ``device``, rounded to nearest.

    Raises:
        UserError: if a value is not finite, or leaves the dtype's range.
    """
    import torch

    source = _tensor(values, device)
    out = source.to(torch_dtype(dtype))
    if not bool(torch.isfinite(out).all()):
        what = "holds NaN or infinity" if not bool(torch.isfinite(source).all()) else f"exceeds the range of {dtype}"
        raise UserError(f"the weight {what}: clean or rescale it, or choose another dtype")
    return out


def dense_operand(matrix: Matrix, dtype: str, device: str | torch.device) -> torch.Tensor:
    """What a dense kernel multiplies, (M, K): the unpruned weight where it is known, else the stored elements."""
    if matrix.unpruned is not None:
        return rounded(matrix.unpruned, dtype, device)
    return stored_as_dense(matrix, dtype, device)


def stored_as_dense(matrix: Matrix, dtype: str, device: str | torch.device) -> torch.Tensor:
    """The stored elements as a dense (M, K) tensor, zeros elsewhere."""
    import torch

    M, K = matrix.shape
    out = torch.zeros((M, K), dtype=torch_dtype(dtype), device=device)
    operand = csr_operand(matrix, dtype, device)
    out.view(-1)[_rows(matrix, device) * K + operand.indices] = operand.values
    return out


def csr_operand(matrix: Matrix, dtype: str, device: str | torch.device) -> CsrOperand:
    """The weight as CSR with int32 indices; offsets are int32 too unless nnz needs more."""
    import torch

    offsets = torch.int32 if matrix.nnz <= _INT32_MAX else torch.int64
    return CsrOperand(
        _tensor(matrix.indptr, device).to(offsets),
        _tensor(matrix.indices, device).to(torch.int32),
        rounded(matrix.values, dtype, device),
    )


def bsr_operand(matrix: Matrix, r: int, c: int, dtype: str, device: str | torch.device) -> BsrOperand:
    """The weight as BSR with blocks of r x c, sorted by column within a block row; int32 offsets and indices.

    Raises:
        UserError: if r or c is not positive, or the blocks outnumber int32.
    """
    import torch

    if r < 1 or c < 1:
        raise UserError(f"a block needs at least one row and column, not {r} x {c}")
    M, K = matrix.shape
    block_rows, block_cols = -(-M // r), -(-K // c)
    rows, cols = _rows(matrix, device), _tensor(matrix.indices, device).long()
    key = torch.div(rows, r, rounding_mode="floor") * block_cols + torch.div(cols, c, rounding_mode="floor")
    held = torch.zeros(block_rows * block_cols, dtype=torch.bool, device=device)
    held[key] = True
    slot = torch.cumsum(held, 0) - 1
    where = held.nonzero().view(-1)
    count = int(where.shape[0])
    if count > _INT32_MAX:
        raise UserError(f"{matrix.name} has {count} blocks of {r} x {c}, more than int32 offsets can address")
    values = torch.zeros((count, r, c), dtype=torch_dtype(dtype), device=device)
    values.view(-1)[slot[key] * (r * c) + rows % r * c + cols % c] = rounded(matrix.values, dtype, device)
    indptr = torch.zeros(block_rows + 1, dtype=torch.int32, device=device)
    if block_cols:
        indptr[1:] = torch.cumsum(held.view(block_rows, block_cols).sum(1), 0).int()
    return BsrOperand(indptr, (where % max(block_cols, 1)).int(), values)


def nm_operand(matrix: Matrix, n: int, m: int, dtype: str, device: str | torch.device) -> NmOperand:
    """The weight as n:m planes.

    Raises:
        UserError: if some group of m columns holds more than n elements, or m exceeds 256.
    """
    import torch

    if not 0 < n <= m <= 256:
        raise UserError(f"an n:m format needs 0 < n <= m <= 256, not {n}:{m}")
    M, K = matrix.shape
    groups = -(-K // m)
    cols = _tensor(matrix.indices, device).long()
    key = _rows(matrix, device) * groups + torch.div(cols, m, rounding_mode="floor")
    counts = torch.bincount(key, minlength=M * groups)
    if counts.numel() and int(counts.max()) > n:
        row, group = divmod(int(counts.argmax()), groups)
        raise UserError(
            f"{matrix.name} is not {n}:{m}: row {row} holds {int(counts.max())} elements in columns "
            f"{group * m} to {min(group * m + m, K) - 1}; prune it to {n}:{m} first"
        )
    before = torch.cumsum(counts, 0) - counts
    rank = torch.arange(key.shape[0], device=device) - before[key]
    values = torch.zeros((n, M, groups), dtype=torch_dtype(dtype), device=device)
    positions = torch.zeros((n, M, groups), dtype=torch.uint8, device=device)
    at = rank * (M * groups) + key
    values.view(-1)[at] = rounded(matrix.values, dtype, device)
    positions.view(-1)[at] = (cols % m).to(torch.uint8)
    return NmOperand(values, positions)


def by_falling_length(indptr: torch.Tensor) -> torch.Tensor:
    """Rows (or block rows) in the order of falling length, int32: the longest start first, neighbours are alike."""
    import torch

    return torch.argsort(indptr.diff(), descending=True, stable=True).int()


def _tensor(array: npt.NDArray[Any], device: str | torch.device) -> torch.Tensor:
    """A tensor over the array's memory where that is writable and already on the device, else a copy."""
    import torch

    return torch.from_numpy(np.require(array, requirements=["C", "W"])).to(device)


def _rows(matrix: Matrix, device: str | torch.device) -> torch.Tensor:
    """Row of every stored element, int64."""
    import torch

    lengths = _tensor(matrix.row_lengths, device).long()
    return torch.repeat_interleave(torch.arange(matrix.shape[0], device=device), lengths)
