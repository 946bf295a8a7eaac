"""What every reader hands over: checked CSR arrays, and the one way a broken file is reported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sparsity_roofline.bench.matrices.values import seeded_values
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.matrix import Matrix

MAX_DIMENSION = 2**31 - 1
"""Column indices are int32."""

FREE_ROWS = 2**24
"""Rows a small file may declare: 128 MiB of row offsets. Beyond it a file needs at least one byte per row."""


@dataclass
class Csr:
    """A checked mask with its values.

    Attributes:
        shape: (M, K).
        indptr: int64 (M + 1,); indices: int32 (nnz,), strictly increasing within a row.
        values: float32 (nnz,), or None where the file holds a pattern only.
        unpruned: float32 (M, K), the weight before pruning, where the file has it.
    """

    shape: tuple[int, int]
    indptr: npt.NDArray[np.int64]
    indices: npt.NDArray[np.int32]
    values: npt.NDArray[np.float32] | None = None
    unpruned: npt.NDArray[np.float32] | None = None

    def matrix(self, name: str, seed: int, **info: Any) -> Matrix:
        """A ``Matrix``; values are drawn from ``seed`` and ``name`` where the file has none."""
        values = self.values
        seeded = values is None
        if values is None:
            values = seeded_values(len(self.indices), seed, name)
        info.setdefault("unpruned", self.unpruned)
        return Matrix(name, self.shape, self.indptr, self.indices, values, seeded_values=seeded, **info)


class Malformed(UserError):
    """A file that breaks its format: ``file:line: reason``."""

    def __init__(self, where: str | Path, reason: str, line: int | None = None) -> None:
        place = f"{where}" if line is None else f"{where}:{line}"
        super().__init__(f"{place}: {reason}")


def check_header(where: str | Path, rows: int, cols: int, nnz: int, size: int, line: int | None = None) -> None:
    """Refuse header numbers that cannot be true of a file of ``size`` bytes, before any array is made for them.

    Raises:
        Malformed: negative or larger than 2^31 - 1, nnz > rows * cols, or rows far beyond the file's size.
    """
    if min(rows, cols, nnz) < 0:
        raise Malformed(where, f"negative number in the header: {rows} x {cols}, {nnz} elements", line)
    if max(rows, cols) > MAX_DIMENSION:
        raise Malformed(where, f"the header says {rows} x {cols}, more than {MAX_DIMENSION} rows or columns", line)
    if nnz > rows * cols:
        raise Malformed(where, f"the header says {nnz} elements, but {rows} x {cols} has room for {rows * cols}", line)
    if rows > max(FREE_ROWS, size):
        raise Malformed(where, f"the header says {rows} rows, but the file has {size} bytes", line)


def check_rows(
    where: str | Path, indptr: npt.NDArray[Any], nnz: int, line: int | None = None, name: str = "row offset"
) -> None:
    """Refuse row offsets that do not start at 0, decrease, or do not end at nnz.

    Raises:
        Malformed: with the first offender.
    """
    if indptr[0] != 0:
        raise Malformed(where, f"the first {name} is {indptr[0]}, not 0", line)
    falling = np.flatnonzero(indptr[1:] < indptr[:-1])
    if len(falling):
        row = int(falling[0])
        raise Malformed(where, f"{name}s decrease from {indptr[row]} to {indptr[row + 1]} at row {row}", line)
    if indptr[-1] != nnz:
        raise Malformed(where, f"the last {name} is {indptr[-1]}, but there are {nnz} elements", line)


def check_columns(
    where: str | Path,
    indptr: npt.NDArray[np.int64],
    indices: npt.NDArray[Any],
    cols: int,
    line: int | None = None,
) -> None:
    """Refuse column indices outside 0 .. cols - 1, unsorted or repeated within a row.

    Raises:
        Malformed: with the first offender and its row.
    """
    if not len(indices):
        return

    def row_of(position: int) -> int:
        return int(np.searchsorted(indptr, position, side="right")) - 1

    if int(indices.max()) >= cols or int(indices.min()) < 0:
        at = int(np.flatnonzero((indices >= cols) | (indices < 0))[0])
        raise Malformed(where, f"column index {indices[at]} in row {row_of(at)} is outside 0..{cols - 1}", line)
    rising = indices[1:] > indices[:-1]
    starts = indptr[1:-1]
    rising[starts[(starts > 0) & (starts < len(indices))] - 1] = True
    if not rising.all():
        at = int(np.flatnonzero(~rising)[0])
        before, after = int(indices[at]), int(indices[at + 1])
        what = f"column {after} occurs twice" if before == after else f"column {after} follows {before}: unsorted"
        raise Malformed(where, f"row {row_of(at + 1)}: {what}", line)


def finite_float32(where: str | Path, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Values as float32.

    Raises:
        Malformed: complex or otherwise non-numeric values, NaN, infinity, or a number beyond float32's range.
    """
    if values.dtype.kind not in "fiub":
        raise Malformed(where, f"values of type {values.dtype} are not real numbers")
    with np.errstate(over="ignore"):
        result = values.astype(np.float32)
    if not np.isfinite(result).all():
        at = int(np.flatnonzero(~np.isfinite(result.ravel()))[0])
        raise Malformed(where, f"value {at} is {values.ravel()[at]}: not a finite float32")
    return result


def csr_from_coordinates(
    where: str | Path,
    shape: tuple[int, int],
    rows: npt.NDArray[Any],
    cols: npt.NDArray[Any],
    values: npt.NDArray[Any] | None,
) -> Csr:
    """Coordinates in any order as checked CSR.

    Raises:
        Malformed: an index out of range, an entry that occurs twice, a value that is no finite float32.
    """
    for what, index, limit in (("row", rows, shape[0]), ("column", cols, shape[1])):
        if len(index) and (int(index.min()) < 0 or int(index.max()) >= limit):
            at = int(np.flatnonzero((index < 0) | (index >= limit))[0])
            raise Malformed(where, f"entry {at + 1}: {what} index {index[at]} (from 0) is outside 0..{limit - 1}")
    order = np.lexsort((cols, rows))
    rows, cols = rows[order], cols[order]
    twice = np.flatnonzero((rows[1:] == rows[:-1]) & (cols[1:] == cols[:-1]))
    if len(twice):
        at = int(twice[0])
        raise Malformed(where, f"row {rows[at]}, column {cols[at]} (from 0) occurs twice")
    indptr = np.zeros(shape[0] + 1, dtype=np.int64)
    np.cumsum(np.bincount(rows, minlength=shape[0]), out=indptr[1:])
    numbers = None if values is None else finite_float32(where, values[order])
    return Csr(shape, indptr, cols.astype(np.int32), numbers)


def csr_from_dense(
    where: str | Path,
    dense: npt.NDArray[Any],
    mask: npt.NDArray[np.bool_] | None = None,
    unpruned: npt.NDArray[Any] | None = None,
) -> Csr:
    """A dense weight as CSR: its non-zero entries, or those of ``mask``; axes after the first are flattened to K.

    A weight without zeros is a base for pruning: ``unpruned`` is the weight itself, and everything is stored.

    Raises:
        Malformed: fewer than two axes, or a value that is no finite float32.
    """
    if dense.ndim < 2:
        raise Malformed(where, f"a weight has two axes or more, not shape {dense.shape}")
    weight = finite_float32(where, dense.reshape(dense.shape[0], int(np.prod(dense.shape[1:]))))
    kept = weight != 0 if mask is None else mask.reshape(weight.shape)
    base = None if unpruned is None else finite_float32(where, unpruned.reshape(weight.shape))
    rows, cols = weight.shape
    if kept.all():  # the general way would take 16 bytes an element
        indptr = np.arange(rows + 1, dtype=np.int64) * cols
        indices = np.tile(np.arange(cols, dtype=np.int32), rows)
        return Csr((rows, cols), indptr, indices, weight.ravel(), weight if base is None else base)
    matrix = Matrix.from_dense("", weight, kept)
    return Csr(matrix.shape, matrix.indptr, matrix.indices, matrix.values, base)
