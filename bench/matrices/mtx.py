"""Matrix Market files, plain or gzipped (.mtx.gz): banner, size line and the shape of every line are checked, then
pandas reads the numbers. A gzipped file is read as a stream, in pieces, and never held whole.

SciPy's own reader (1.17) is not used: on a word with something behind its number ("1.5x", a NUL byte) it reads on
without complaint, and dies with a segmentation fault where that is the end of the file.
"""

from __future__ import annotations

import csv
import gzip
import math
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt

from sparsity_roofline.bench.matrices.structure import (
    Csr,
    Malformed,
    check_header,
    csr_from_coordinates,
    csr_from_dense,
)
from sparsity_roofline.model.matrix import Matrix

_LONGEST_LINE = 1 << 16
_CHUNK = 1 << 20
_WIDEST = 1 << 10
"""Bytes of an entry's line in a gzipped file, on average; a little gzip data can unfold to terabytes of blanks."""
_DEFLATE_RATIO = 1032
GZIP = b"\x1f\x8b"
_ODD = np.ones(256, dtype=np.bool_)
_ODD[32:127] = _ODD[[9, 10, 13]] = False
_FIELDS = ("real", "double", "integer", "unsigned-integer", "pattern")
_SYMMETRIES = ("general", "symmetric", "skew-symmetric")


@dataclass(frozen=True)
class MtxHeader:
    """Banner and size line.

    Attributes:
        layout: ``coordinate`` or ``array``; field, symmetry: as the banner spells them, in lower case.
        stored: entries in the file.
        line, offset: number of the size line, and of the first byte after it.
        packed: by gzip.
    """

    layout: str
    field: str
    symmetry: str
    rows: int
    cols: int
    stored: int
    line: int
    offset: int
    packed: bool = False

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
    packed = _packed(path)
    size = path.stat().st_size * (_DEFLATE_RATIO if packed else 1)
    with _text(path, packed) as file:
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
        offset = file.tell()
        rest = size - offset
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
    return MtxHeader(layout, field, symmetry, rows, cols, stored, number, offset, packed)


def _packed(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == GZIP


@contextmanager
def _text(path: Path, packed: bool) -> Iterator[IO[bytes]]:
    """The file's text.

    Raises:
        Malformed: damaged gzip data, when they are read.
    """
    if not packed:
        with path.open("rb") as file:
            yield file
        return
    try:
        with gzip.open(path, "rb") as unpacked:
            yield cast("IO[bytes]", unpacked)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise Malformed(path, f"broken or truncated gzip data: {error}") from None


def read_mtx(path: Path) -> Csr:
    """Read one; symmetric storage is expanded, a pattern has no values.

    Raises:
        Malformed: also repeated entries: summing them would hide a fault of the file.
    """
    header = mtx_header(path)
    _check_lines(path, header)
    kinds: dict[int, type] = {0: np.float64}
    if header.layout == "coordinate":
        kinds = {0: np.int64, 1: np.int64} | ({} if header.field == "pattern" else {2: np.float64})
    found = _columns(path, header, kinds)
    if header.layout == "array":
        return csr_from_dense(path, _full(header, found[0]))
    rows, cols = found[0] - 1, found[1] - 1
    for index, limit in ((rows, header.rows), (cols, header.cols)):
        if len(index) and (int(index.min()) < 0 or int(index.max()) >= limit):
            at = int(np.flatnonzero((index < 0) | (index >= limit))[0])
            raise Malformed(path, f"index {index[at] + 1} is outside 1..{limit}", _line_of(path, header, at))
    values = found[2] if len(found) > 2 else None
    if header.symmetry != "general":
        mirror = np.flatnonzero(rows != cols)
        rows, cols = np.concatenate([rows, cols[mirror]]), np.concatenate([cols, rows[mirror]])
        if values is not None:
            sign = -1.0 if header.symmetry == "skew-symmetric" else 1.0
            values = np.concatenate([values, sign * values[mirror]])
    return csr_from_coordinates(path, (header.rows, header.cols), rows, cols, values)


def _columns(path: Path, header: MtxHeader, kinds: dict[int, type]) -> list[npt.NDArray[Any]]:
    """The words of the lines that ``_check_lines`` has passed, as numbers, column by column."""
    import pandas as pd

    if not header.stored:
        return [np.zeros(0, dtype=kind) for kind in kinds.values()]
    with _text(path, header.packed) as file:
        file.seek(header.offset)
        try:
            frame = pd.read_csv(
                file,
                sep=r"\s+",
                header=None,
                names=list(kinds),
                dtype=kinds,
                engine="c",
                quoting=csv.QUOTE_NONE,
                na_filter=False,
            )
        except (ValueError, OverflowError) as error:
            raise _bad_word(path, header, kinds, error) from None
    return [frame[column].to_numpy() for column in kinds]


def _bad_word(path: Path, header: MtxHeader, kinds: dict[int, type], error: Exception) -> Malformed:
    """The first word that is no number, looked for one by one now that there is one."""
    for number, words in _entries(path, header):
        for word, kind in zip(words, kinds.values(), strict=False):
            text = word.decode("ascii", "backslashreplace")
            try:
                good = "_" not in text and math.isfinite(float(text))
                good &= kind is not np.int64 or abs(int(text)) < 2**63
            except ValueError:
                good = False
            if not good:
                wanted = "a whole number" if kind is np.int64 else "a number"
                return Malformed(path, f"{text[:40]!r} is not {wanted}", number)
    return Malformed(path, " ".join(str(error).split()))


def _line_of(path: Path, header: MtxHeader, entry: int) -> int:
    """Line of the entry of that number, counted from 0."""
    return next(number for at, (number, _) in enumerate(_entries(path, header)) if at == entry)


def _entries(path: Path, header: MtxHeader) -> Iterator[tuple[int, list[bytes]]]:
    """Line number and words of every entry; slow, for messages only."""
    with _text(path, header.packed) as file:
        file.seek(header.offset)
        for number, line in enumerate(file, header.line + 1):
            if words := line.split():
                yield number, words


def _full(header: MtxHeader, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """An array file's numbers, column by column (of the lower triangle if it is symmetric), as (M, K)."""
    if header.symmetry == "general":
        return values.reshape(header.cols, header.rows).T
    dense = np.zeros((header.rows, header.cols))
    skew = header.symmetry == "skew-symmetric"
    upper = np.triu_indices(header.rows, k=int(skew))  # row by row of the upper triangle: columns of the lower one
    dense[upper] = -values if skew else values
    dense.T[upper] = values
    return dense


def _check_lines(path: Path, header: MtxHeader) -> None:
    """Refuse anything but ``stored`` lines of as many words of printable ASCII as an entry has; blank lines may occur.

    Raises:
        Malformed: with the line.
    """
    wanted = 1 if header.layout == "array" else 2 if header.field == "pattern" else 3
    line, entries, seen = header.line + 1, 0, 0
    with _text(path, header.packed) as file:
        file.seek(header.offset)
        while data := file.read(_CHUNK):
            seen += len(data)
            if header.packed and seen > _CHUNK + _WIDEST * header.stored:
                raise Malformed(path, f"more text than {header.stored} entries can be: {seen} bytes and no end", line)
            data += file.readline(_LONGEST_LINE)
            text = np.frombuffer(data if data.endswith(b"\n") else data + b"\n", dtype=np.uint8)
            ends = np.flatnonzero(text == 10)
            word = text > 32
            odd = _ODD[text]
            if odd.any():
                at = int(np.flatnonzero(odd)[0])
                raise Malformed(path, f"byte {int(text[at]):#04x} is no text", line + int(np.searchsorted(ends, at)))
            starts = np.flatnonzero(word[1:] & ~word[:-1]) + 1
            counts = np.diff(np.searchsorted(starts, ends), prepend=0)
            counts[0] += int(word[0])
            wrong = np.flatnonzero((counts != wanted) & (counts != 0))
            if len(wrong):
                at = int(wrong[0])
                raise Malformed(path, f"{int(counts[at])} words, where an entry has {wanted}", line + at)
            entries += int(np.count_nonzero(counts))
            line += len(ends)
            if header.packed and entries > header.stored:
                break
    if entries != header.stored:
        raise Malformed(path, f"{entries} entries, but the size line says {header.stored}", header.line)


def write_mtx(matrix: Matrix, path: Path) -> None:
    """Write coordinate real general, row by row; nine digits, so float32 values come back exactly."""
    from scipy.io import mmwrite
    from scipy.sparse import coo_array

    coo = coo_array((matrix.values, (matrix.row_ids(), matrix.indices)), shape=matrix.shape)
    with path.open("wb") as file:  # a path would get ".mtx" appended if it ends otherwise
        mmwrite(file, coo, comment="", field="real", precision=9, symmetry="general")
