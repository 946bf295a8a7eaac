"""A sparse weight in memory: mask, values, and where it came from."""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from sparsity_roofline.model.pattern import DENSE, UNSTRUCTURED, Pattern

IntArray = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float32]


class Matrix:
    """A weight W of shape (M, K), held as CSR in NumPy arrays. Immutable by convention.

    Attributes:
        name: unique within its collection, for example ``rn50/magnitude_pruning/0.9/initial_conv``.
        shape: (M, K).
        indptr: int64, M + 1 row offsets, first 0, last nnz.
        indices: int32, nnz column indices, strictly increasing within a row.
        values: float32, nnz stored values. A stored value of 0 counts as stored: the mask decides, not the number.
        pattern: the pattern its mask obeys.
        network, layer, method: where it belongs, or None where the source does not say.
        target_sparsity: the sparsity that was asked for; the realised one is ``sparsity``.
        columns_per_image: N of one image (output pixels) for a convolution, or None.
        synthetic: True if the mask or the layer was made here rather than released by somebody who trained it.
        seeded_values: True if the values were drawn here because the source holds a pattern only.
        unpruned: float32 (M, K), the weight before pruning where it is known, else None.

    The constructor trusts its arguments; readers of files validate before they build one.
    """

    def __init__(
        self,
        name: str,
        shape: tuple[int, int],
        indptr: IntArray,
        indices: IntArray,
        values: FloatArray,
        *,
        pattern: Pattern = UNSTRUCTURED,
        network: str | None = None,
        layer: str | None = None,
        method: str | None = None,
        target_sparsity: float | None = None,
        columns_per_image: int | None = None,
        synthetic: bool = False,
        seeded_values: bool = False,
        unpruned: FloatArray | None = None,
    ) -> None:
        self.name = name
        self.shape = shape
        self.indptr = indptr
        self.indices = indices
        self.values = values
        self.pattern = pattern
        self.network = network
        self.layer = layer
        self.method = method
        self.target_sparsity = target_sparsity
        self.columns_per_image = columns_per_image
        self.synthetic = synthetic
        self.seeded_values = seeded_values
        self.unpruned = unpruned

    @classmethod
    def from_dense(cls, name: str, dense: FloatArray, mask: npt.NDArray[np.bool_] | None = None, **info: Any) -> Matrix:
        """Build one from a dense (M, K) array; ``mask`` (M, K) says what is stored, by default the non-zero entries."""
        mask = dense != 0 if mask is None else mask
        rows, cols = np.nonzero(mask)
        indptr = np.zeros(dense.shape[0] + 1, dtype=np.int64)
        np.cumsum(np.bincount(rows, minlength=dense.shape[0]), out=indptr[1:])
        shape = (int(dense.shape[0]), int(dense.shape[1]))
        return cls(name, shape, indptr, cols.astype(np.int32), dense[mask].astype(np.float32), **info)

    @classmethod
    def dense(cls, name: str, array: FloatArray, **info: Any) -> Matrix:
        """An unpruned weight: nothing is stored as sparse, ``dense_operand`` returns ``array``."""
        shape = (int(array.shape[0]), int(array.shape[1]))
        empty = np.zeros(shape[0] + 1, dtype=np.int64)
        info.setdefault("pattern", DENSE)
        none = np.zeros(0, dtype=np.float32)
        return cls(name, shape, empty, np.zeros(0, dtype=np.int32), none, unpruned=array, **info)

    def dense_operand(self) -> FloatArray:
        """What a dense kernel multiplies: the unpruned weight where it is known, else ``to_dense()``."""
        return self.to_dense() if self.unpruned is None else self.unpruned

    def __repr__(self) -> str:
        return f"Matrix({self.name!r}, {self.shape[0]} x {self.shape[1]}, {self.pattern}, nnz={self.nnz})"

    @property
    def nnz(self) -> int:
        """Stored elements of the mask."""
        return int(self.indices.shape[0])

    @property
    def density(self) -> float:
        """nnz / (M K); 0 for a matrix with no entries at all."""
        size = self.shape[0] * self.shape[1]
        return self.nnz / size if size else 0.0

    @property
    def sparsity(self) -> float:
        """1 - density."""
        return 1.0 - self.density

    @cached_property
    def row_lengths(self) -> IntArray:
        """Stored elements of each row, int64, length M."""
        return np.diff(self.indptr)

    @cached_property
    def used_columns(self) -> int:
        """Columns that hold at least one stored element: the rows of X that a kernel must read."""
        return int(np.unique(self.indices).shape[0])

    @cached_property
    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 of shape and structure (values excluded)."""
        h = hashlib.sha256(np.asarray(self.shape, dtype=np.int64).tobytes())
        h.update(np.ascontiguousarray(self.indptr, dtype=np.int64).tobytes())
        h.update(np.ascontiguousarray(self.indices, dtype=np.int32).tobytes())
        return h.hexdigest()[:16]

    def row_ids(self) -> IntArray:
        """Row of every stored element, int32, length nnz."""
        return np.repeat(np.arange(self.shape[0], dtype=np.int32), self.row_lengths)

    def to_dense(self) -> FloatArray:
        """The weight as a dense float32 (M, K) array, zeros where nothing is stored."""
        out = np.zeros(self.shape, dtype=np.float32)
        out[self.row_ids(), self.indices] = self.values
        return out

    def blocks(self, r: int, c: int) -> tuple[IntArray, IntArray]:
        """Block rows and block columns (int64, sorted by row then column) of the r x c blocks that hold any element.

        M and K are rounded up to whole blocks.
        """
        block_cols = -(-self.shape[1] // c)
        key = self.row_ids().astype(np.int64) // r * block_cols + self.indices // c
        key = np.unique(key)
        return key // max(block_cols, 1), key % max(block_cols, 1)
