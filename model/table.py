"""Many cases as a struct of arrays: what the cost functions work on, 100,000 rows at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any

import numpy as np
import numpy.typing as npt

from sparsity_roofline.model.case import Case
from sparsity_roofline.model.dtype import DTYPES
from sparsity_roofline.model.errors import UserError

Ints = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int8]

TABLE_FORMATS = ("dense", "csr", "bsr", "nm", "bitmap")
"""Formats that have a cost: those of ``Case`` and ``bitmap``, which no kernel here stores yet."""

DENSE, CSR, BSR, NM, BITMAP = range(len(TABLE_FORMATS))

_COUNTS = ("M", "K", "N", "nnz", "stored_blocks", "block_rows", "block_cols", "n", "m", "used_columns")
_FORMAT_CODE = {name: code for code, name in enumerate(TABLE_FORMATS)}
_DTYPE_CODE = {name: code for code, name in enumerate(DTYPES)}


@dataclass(frozen=True, eq=False)
class CaseTable:
    """One row per case, as in ``Case``; every array has the table's length.

    Attributes:
        M, K, N, nnz, stored_blocks, block_rows, block_cols, n, m, used_columns: int64.
        format_code: int8, index into ``TABLE_FORMATS``.
        dtype_code: int8, index into the keys of ``DTYPES``.

    The constructor trusts its arguments; ``of`` and ``from_columns`` check them.
    """

    M: Ints
    K: Ints
    N: Ints
    nnz: Ints
    stored_blocks: Ints
    block_rows: Ints
    block_cols: Ints
    n: Ints
    m: Ints
    used_columns: Ints
    format_code: Codes
    dtype_code: Codes

    def __len__(self) -> int:
        return int(self.M.shape[0])

    @property
    def format(self) -> npt.NDArray[np.str_]:
        """Format names, one per row."""
        return np.asarray(TABLE_FORMATS)[self.format_code]

    @property
    def dtype(self) -> npt.NDArray[np.str_]:
        """Data type names, one per row."""
        return np.asarray(tuple(DTYPES))[self.dtype_code]

    @classmethod
    def of(cls, cases: Sequence[Case]) -> CaseTable:
        """The table of a sequence of cases, in its order.

        Raises:
            UserError: a case whose numbers contradict each other (which row, what is wrong).
        """
        rows = list(map(attrgetter(*_COUNTS), cases))
        counts = np.asarray(rows, dtype=np.int64).reshape(len(rows), len(_COUNTS)).T
        columns = dict(zip(_COUNTS, np.ascontiguousarray(counts), strict=True))
        formats = _codes((c.format for c in cases), len(rows), _FORMAT_CODE, "format")
        dtypes = _codes((c.dtype for c in cases), len(rows), _DTYPE_CODE, "dtype")
        table = cls(**columns, format_code=formats, dtype_code=dtypes)
        table.validate()
        return table

    @classmethod
    def from_columns(cls, **columns: Any) -> CaseTable:
        """A table from arrays or scalars (scalars are repeated).

        Needed: M, K, N, format, dtype (names). ``nnz`` may be left out for dense and nm rows, ``used_columns``
        defaults to K, the rest to 0.

        Raises:
            UserError: an unknown or missing column, lengths that differ, values that contradict each other.
        """
        unknown = set(columns) - {*_COUNTS, "format", "dtype"}
        missing = {"M", "K", "N", "format", "dtype"} - set(columns)
        if unknown or missing:
            wrong = f"unknown column {sorted(unknown)[0]!r}" if unknown else f"column {sorted(missing)[0]!r} is missing"
            raise UserError(f"case table: {wrong}; columns are {', '.join((*_COUNTS, 'format', 'dtype'))}")
        arrays = {name: np.atleast_1d(np.asarray(value)) for name, value in columns.items()}
        size = max((len(a) for a in arrays.values()), default=0)
        if any(len(a) == 0 for a in arrays.values()):
            size = 0
        for name, array in arrays.items():
            if array.ndim != 1 or len(array) not in (1, size):
                raise UserError(f"case table: column {name!r} has shape {array.shape}, expected {size} rows")
        counts = {name: _integers(name, arrays.get(name, np.zeros(1, dtype=np.int64)), size) for name in _COUNTS}
        formats = np.broadcast_to(_lookup(arrays["format"], _FORMAT_CODE, "format"), size).copy()
        dtypes = np.broadcast_to(_lookup(arrays["dtype"], _DTYPE_CODE, "dtype"), size).copy()
        M, K = counts["M"], counts["K"]
        _check_size(M, K)
        if "used_columns" not in arrays:
            counts["used_columns"] = K.copy()
        dense, nm = formats == DENSE, formats == NM
        if "nnz" not in arrays:
            if np.any(~dense & ~nm & (formats != BSR)):
                raise UserError("case table: column 'nnz' is needed for csr and bitmap rows")
            m = np.maximum(counts["m"], 1)
            kept = np.where(nm, M * (K // m * counts["n"] + np.minimum(K % m, counts["n"])), 0)
            area = counts["stored_blocks"] * counts["block_rows"] * counts["block_cols"]
            counts["nnz"] = np.where(formats == BSR, np.minimum(area, M * K), kept)
        counts["nnz"] = np.where(dense, M * K, counts["nnz"])
        counts["used_columns"] = np.where(dense, K, counts["used_columns"])
        table = cls(**counts, format_code=formats, dtype_code=dtypes)
        table.validate()
        return table

    def as_dense(self) -> CaseTable:
        """The same shapes and types with the weight stored dense: the other side of every speedup."""
        zeros = np.zeros_like(self.M)
        return CaseTable(
            M=self.M,
            K=self.K,
            N=self.N,
            nnz=self.M * self.K,
            stored_blocks=zeros,
            block_rows=zeros,
            block_cols=zeros,
            n=zeros,
            m=zeros,
            used_columns=self.K,
            format_code=np.full_like(self.format_code, DENSE),
            dtype_code=self.dtype_code,
        )

    def take(self, rows: Any) -> CaseTable:
        """The rows chosen by an index array, mask or slice."""
        return CaseTable(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def validate(self) -> None:
        """Hold what every cost function relies on.

        Raises:
            UserError: the first row that breaks a rule, and the rule.
        """
        for name in _COUNTS:
            _refuse(getattr(self, name) < 0, f"{name} is negative")
        _check_size(self.M, self.K)
        _refuse(self.nnz > self.M * self.K, "nnz exceeds M K")
        _refuse(self.used_columns > self.K, "used_columns exceeds K")
        bsr, nm = self.format_code == BSR, self.format_code == NM
        _refuse(bsr & ((self.block_rows < 1) | (self.block_cols < 1)), "a bsr case needs block_rows and block_cols")
        r, c = np.maximum(self.block_rows, 1), np.maximum(self.block_cols, 1)
        grid = _ceil_div(self.M, r) * _ceil_div(self.K, c)
        _refuse(bsr & (self.stored_blocks > grid), "stored_blocks exceeds the number of blocks")
        _refuse(nm & ((self.n < 1) | (self.n > self.m)), "an nm case needs 0 < n <= m")


def _ceil_div(a: Ints, b: Ints) -> Ints:
    return -(-a // b)


def _refuse(bad: npt.NDArray[np.bool_], rule: str) -> None:
    if bad.any():
        raise UserError(f"case table, row {int(np.argmax(bad))}: {rule}")


def _check_size(M: Ints, K: Ints) -> None:
    _refuse(M.astype(np.float64) * K.astype(np.float64) >= 2.0**63, "M K does not fit 63 bits")


def _integers(name: str, array: npt.NDArray[Any], size: int) -> Ints:
    if array.dtype.kind not in "iub":
        whole = array.dtype.kind == "f" and bool(np.all(np.isfinite(array)) and np.all(array == np.floor(array)))
        if array.size and not whole:
            raise UserError(f"case table: column {name!r} holds something else than whole numbers")
    return np.broadcast_to(array.astype(np.int64), size).copy()


def _lookup(names: npt.NDArray[Any], code: dict[str, int], what: str) -> Codes:
    out = np.full(names.shape, -1, dtype=np.int8)
    for name, number in code.items():
        out[names == name] = number
    if np.any(out < 0):
        bad = names[int(np.argmax(out < 0))]
        raise UserError(f"case table: unknown {what} {str(bad)!r}: choose one of {', '.join(code)}")
    return out


def _codes(names: Any, size: int, code: dict[str, int], what: str) -> Codes:
    try:
        return np.fromiter((code[name] for name in names), dtype=np.int8, count=size)
    except KeyError as unknown:
        raise UserError(f"case table: unknown {what} {unknown.args[0]!r}: choose one of {', '.join(code)}") from None
