"""Matrix Market files: SciPy reads the numbers, after the banner and the size line have been held against the file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sparsity_roofline.bench.matrices.structure import (
    Csr,
    Malformed,
    check_header,
    csr_from_coordinates,
    csr_from_dense,
)
from sparsity_roofline.model.matrix import Matrix

_LONGEST_LINE = 1 << 16
_FIELDS = ("real", "double", "integer", "unsigned-integer", "pattern")
_SYMMETRIES = ("general", "symmetric", "skew-symmetric")


@dataclass(frozen=True)
class MtxHeader:
    """Banner and size line.

    Attributes:
        layout: ``coordinate`` or ``array``; field, symmetry: as the banner spells them, in lower case.
        stored: entries in the file.
    """

    layout: str
    field: str
    symmetry: str
    rows: int
    cols: int
    stored: int

    @property
    def nnz(self) -> int:
        """Elements after symmetric storage is expanded; an upper bound, since a diagonal entry has no mirror image."""
        if self.layout == "array":
            return self.rows * self.cols
        return min(self.stored * (1 if self.symmetry == "general" else 2), self.rows * self.cols)


def mtx_header(path: Path) -> MtxHeader:
    """Read banner and size line and hold them against the file's size.

    Raises:
        Malformed: no Matrix Market file, a kind that cannot be a real weight, or numbers the size contradicts.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        banner = file.readline(_LONGEST_LINE).decode("latin-1").split()
        if len(banner) != 5 or [word.lower() for word in banner[:2]] != ["%%matrixmarket", "matrix"]:
            raise Malformed(path, "the first line is not '%%MatrixMarket matrix <format> <field> <symmetry>'", 1)
        layout, field, symmetry = (word.lower() for word in banner[2:])
        if layout not in ("coordinate", "array"):
            raise Malformed(path, f"format {layout!r}: expected coordinate or array", 1)
        if field == "complex" or symmetry == "hermitian":
            raise Malformed(path, f"a {field} {symmetry} matrix is no real weight: only real numbers are read", 1)
        if field not in _FIELDS or symmetry not in _SYMMETRIES:
            raise Malformed(path, f"unknown field or symmetry: {field} {symmetry}", 1)
        number, line = 2, file.readline(_LONGEST_LINE)
        while line and (line.startswith(b"%") or not line.strip()):
            number, line = number + 1, file.readline(_LONGEST_LINE)
        rest = size - file.tell()
    words = line.split()
    wanted = 3 if layout == "coordinate" else 2
    if len(words) != wanted or not all(re.fullmatch(rb"-?\d{1,18}", word) for word in words):
        shown = line[:60].decode("ascii", "backslashreplace").strip()
        raise Malformed(path, f"the size line should hold {wanted} whole numbers, not {shown!r}", number)
    rows, cols = int(words[0]), int(words[1])
    if symmetry != "general" and rows != cols:
        raise Malformed(path, f"{symmetry}, but {rows} x {cols} is not square", number)
    if layout == "array":
        stored = rows * cols if symmetry == "general" else rows * (rows + 1) // 2
        shortest = 2
        if symmetry == "skew-symmetric":
            stored -= rows
    else:
        stored = int(words[2])
        shortest = 4 if field == "pattern" else 6
    check_header(path, rows, cols, stored, size, number)
    if stored * shortest - 1 > rest:
        raise Malformed(path, f"truncated: {stored} entries cannot fit into the {rest} bytes that follow", number)
    return MtxHeader(layout, field, symmetry, rows, cols, stored)


def read_mtx(path: Path) -> Csr:
    """Read one; symmetric storage is expanded, a pattern has no values.

    Raises:
        Malformed: also repeated entries: summing them would hide a fault of the file.
    """
    from scipy.io import mmread

    header = mtx_header(path)
    try:
        found: Any = mmread(path)
    except (ValueError, OverflowError) as error:
        match = re.match(r"Line (\d+): (.*)", str(error), re.DOTALL)
        line, reason = (int(match[1]), match[2]) if match else (None, str(error))
        raise Malformed(path, " ".join(reason.split()), line) from None
    if header.layout == "array":
        return csr_from_dense(path, np.asarray(found))
    values = None if header.field == "pattern" else found.data
    return csr_from_coordinates(path, (header.rows, header.cols), found.row, found.col, values)


def write_mtx(matrix: Matrix, path: Path) -> None:
    """Write coordinate real general, row by row; nine digits, so float32 values come back exactly."""
    from scipy.io import mmwrite
    from scipy.sparse import coo_array

    coo = coo_array((matrix.values, (matrix.row_ids(), matrix.indices)), shape=matrix.shape)
    with path.open("wb") as file:  # a path would get ".mtx" appended if it ends otherwise
        mmwrite(file, coo, comment="", field="real", precision=9, symmetry="general")
