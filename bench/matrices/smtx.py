"""The .smtx format of the Deep Learning Matrix Collection: a CSR pattern as text, without values.

Line 1 is ``rows, cols, nnz``; line 2 holds rows + 1 row offsets and line 3 nnz column indices, each number followed by
a space. A second dialect (read here, never written) has leading ``%`` comment lines and a header separated by spaces
or commas. Column indices start at 0 and rise strictly within a row. The last line is empty when nnz is 0.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sparsity_roofline.bench.matrices.digits import BadNumber, parse_integers
from sparsity_roofline.bench.matrices.structure import Csr, Malformed, check_columns, check_header, check_rows
from sparsity_roofline.model.matrix import Matrix

_HEADER = re.compile(rb"(\d{1,18})[ \t]*[, \t][ \t]*(\d{1,18})[ \t]*[, \t][ \t]*(\d{1,18})\Z")
_LONGEST_HEADER = 1 << 16


def parse_smtx(data: bytes, where: str | Path) -> Csr:
    """Read the content of an .smtx file; ``where`` names it in messages.

    Raises:
        Malformed: file, line and reason, before memory is taken for what the header promises.
    """
    rows, cols, nnz, line, start, comments = _header(data, where, len(data))
    line += 1
    end = data.find(b"\n", start)
    end = len(data) if end < 0 else end
    bytes_of = np.frombuffer(data, dtype=np.uint8)
    indptr = _numbers(bytes_of[start:end], rows + 1, nnz, where, line, "row offsets")
    check_rows(where, indptr, nnz, line)
    line += 1
    start, end = end + 1, data.find(b"\n", end + 1)
    if end < 0:
        end = len(data)
        # Only in the comma dialect is the last newline part of the format; without it the last number may be cut.
        if nnz and not comments and data[-1:].isdigit() and b", " in data[: data.find(b"\n")]:
            raise Malformed(where, "the file ends within a number: truncated", line)
    indices = _numbers(bytes_of[start:end], nnz, max(cols - 1, 0), where, line, "column indices")
    check_columns(where, indptr, indices, cols, line)
    if data[end:].strip():
        raise Malformed(where, "text after the column indices", line + 1)
    return Csr((rows, cols), indptr, indices.astype(np.int32))


def smtx_header(data: bytes, where: str | Path, size: int | None = None) -> tuple[int, int, int]:
    """(rows, cols, nnz) from the first bytes of a file of ``size`` bytes (``data`` is all of it by default).

    Raises:
        Malformed: no valid header, or numbers that the file's size contradicts.
    """
    rows, cols, nnz, *_ = _header(data, where, len(data) if size is None else size)
    return rows, cols, nnz


def format_smtx(matrix: Matrix) -> bytes:
    """The published dialect, byte for byte: comma and space in the header, a space after every number."""
    rows, cols = matrix.shape
    parts = [f"{rows}, {cols}, {matrix.nnz}\n".encode()]
    for numbers in (matrix.indptr, matrix.indices):
        for start in range(0, len(numbers), 1 << 20):
            parts.append((" ".join(map(str, numbers[start : start + (1 << 20)].tolist())) + " ").encode())
        parts.append(b"\n")
    return b"".join(parts)


def _header(data: bytes, where: str | Path, size: int) -> tuple[int, int, int, int, int, bool]:
    """rows, cols, nnz, line number of the header, offset of the next line, whether comments came first."""
    start, line = 0, 1
    while data[start : start + 1] == b"%":
        end = data.find(b"\n", start)
        if end < 0:
            raise Malformed(where, "only comments, no header", line)
        start, line = end + 1, line + 1
    end = data.find(b"\n", start, start + _LONGEST_HEADER)
    text = data[start : end if end >= 0 else start + 80].strip()
    if not text:
        raise Malformed(where, "empty file" if not data.strip() else "an empty line where the header belongs", line)
    match = _HEADER.match(text)
    if not match:
        shown = text[:60].decode("ascii", "backslashreplace")
        reason = "the header is not 'rows, cols, nnz'"
        if re.match(rb"[-\d, \t]+\Z", text):
            reason = "a negative number in the header" if b"-" in text else reason
        raise Malformed(where, f"{reason}: {shown!r}", line)
    rows, cols, nnz = (int(group) for group in match.groups())
    check_header(where, rows, cols, nnz, size, line)
    # Each number takes a digit and, but for the last of a line, a separator.
    if 2 * (rows + 1) - 1 + max(2 * nnz - 1, 0) > size:
        raise Malformed(
            where, f"truncated: {rows} rows and {nnz} elements cannot fit into the file's {size} bytes", line
        )
    return rows, cols, nnz, line, end + 1 if end >= 0 else len(data), start > 0


def _numbers(
    text: npt.NDArray[np.uint8], count: int, limit: int, where: str | Path, line: int, what: str
) -> npt.NDArray[np.int64]:
    if count and 2 * count - 1 > len(text):
        raise Malformed(where, f"{what}: {count} belong here, but the line has {len(text)} bytes: truncated", line)
    try:
        return parse_integers(text, count, limit)
    except BadNumber as error:
        raise Malformed(where, f"{what}: {error}", line) from None
