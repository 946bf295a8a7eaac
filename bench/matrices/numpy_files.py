"""SciPy's sparse .npz and dense .npy files: every header is held against the file before an array is made."""

from __future__ import annotations

import io
import lzma
import math
import struct
import tokenize
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from sparsity_roofline.bench.matrices.structure import (
    Csr,
    Malformed,
    check_columns,
    check_header,
    check_rows,
    csr_from_coordinates,
    csr_from_dense,
    finite_float32,
)
from sparsity_roofline.model.matrix import Matrix

_PARTS = {
    "csr": ("indptr", "indices", "data"),
    "csc": ("indptr", "indices", "data"),
    "bsr": ("indptr", "indices", "data"),
    "coo": ("row", "col", "data"),
    "dia": ("offsets", "data"),
}
_LONGEST_HEADER = 1 << 16
_DEFLATE_RATIO = 1100
"""Deflate cannot shrink below 1 : 1032; a member that claims more lies."""

_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    tokenize.TokenError,
    EOFError,
    KeyError,
    NotImplementedError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)
"""What zipfile and NumPy's header parser raise on damaged files."""

Header = tuple[tuple[int, ...], np.dtype[Any]]


def read_npy(path: Path) -> Csr:
    """A dense weight; its zeros are the mask.

    Raises:
        Malformed: not a .npy file, truncated, objects (which would need a pickle), or no real numbers.
    """
    shape, _ = npy_header(path)
    try:
        with path.open("rb") as file:
            dense = _array(file)
    except _BROKEN as error:
        raise Malformed(path, f"{error} (shape {shape})") from None
    return csr_from_dense(path, dense)


def npy_header(path: Path) -> Header:
    """Shape and type of a .npy file, checked against its size. Raises ``Malformed``."""
    with path.open("rb") as file:
        return _header(file, path, path.stat().st_size)


def npz_shape(path: Path) -> tuple[int, int, int, bool]:
    """(rows, cols, nnz, has values) of a SciPy sparse .npz from its headers; nnz is an upper bound for the dia format.

    Raises:
        Malformed: as ``read_npz``.
    """
    with _archive(path) as archive:
        _, shape, headers = _contents(archive, path)
    size, kind = headers["data"]
    return shape[0], shape[1], min(math.prod(size), shape[0] * shape[1]), kind.kind != "b"


def read_npz(path: Path) -> Csr:
    """A SciPy sparse matrix of any of its formats. Unsorted columns, which SciPy allows, are sorted.

    Raises:
        Malformed: no SciPy sparse file, truncated, objects, inconsistent sizes, indices out of range, duplicates.
    """
    with _archive(path) as archive:
        layout, shape, headers = _contents(archive, path)
        parts = {name: _member(archive, path, name) for name in headers}
    data = parts["data"]
    if layout == "coo":
        _same_length(path, parts["row"], parts["col"], data)
        return csr_from_coordinates(path, shape, parts["row"], parts["col"], _values(data))
    if layout == "dia":
        return _from_dia(path, shape, parts["offsets"], data)
    block = data.shape[1:] if layout == "bsr" else (1, 1)
    if data.ndim != (3 if layout == "bsr" else 1) or 0 in block or shape[0] % block[0] or shape[1] % block[1]:
        raise Malformed(path, f"data of shape {data.shape} do not fit a {layout} matrix of {shape[0]} x {shape[1]}")
    grid = (shape[0] // block[0], shape[1] // block[1])
    major, minor = grid if layout != "csc" else (grid[1], grid[0])
    indptr, indices = parts["indptr"], parts["indices"]
    if indptr.shape != (major + 1,):
        raise Malformed(path, f"{indptr.size} offsets where {major + 1} belong")
    _same_length(path, indices, data)
    check_rows(path, indptr, len(indices), name="offset")
    outer = np.repeat(np.arange(major), np.diff(indptr))
    if layout == "csr":
        return _from_csr(path, shape, indptr.astype(np.int64), indices, data)
    if layout == "csc":
        return csr_from_coordinates(path, shape, indices, outer, _values(data))
    if not len(indices):
        return csr_from_coordinates(path, shape, outer, outer, _values(data.ravel()))
    # Every element of a stored block is stored, zeros included.
    r, c = np.indices(block).reshape(2, 1, -1)
    if int(indices.min()) < 0 or int(indices.max()) >= minor:
        raise Malformed(path, f"a block column index is outside 0..{minor - 1}")
    rows = (outer[:, None] * block[0] + r).ravel()
    cols = (indices.astype(np.int64)[:, None] * block[1] + c).ravel()
    return csr_from_coordinates(path, shape, rows, cols, _values(data.ravel()))


def write_npz(matrix: Matrix, path: Path) -> None:
    """Write as ``scipy.sparse.save_npz`` does, in CSR."""
    from scipy.sparse import csr_array, save_npz

    csr = csr_array((matrix.values, matrix.indices, matrix.indptr), shape=matrix.shape)
    with path.open("wb") as file:
        save_npz(file, csr)


def _from_csr(
    path: Path, shape: tuple[int, int], indptr: npt.NDArray[np.int64], indices: npt.NDArray[Any], data: Any
) -> Csr:
    try:
        check_columns(path, indptr, indices, shape[1])
    except Malformed:
        # SciPy allows unsorted rows; whatever else is wrong is found again there, with its place.
        rows = np.repeat(np.arange(shape[0]), np.diff(indptr))
        return csr_from_coordinates(path, shape, rows, indices, _values(data))
    values = _values(data)
    return Csr(shape, indptr, indices.astype(np.int32), None if values is None else finite_float32(path, values))


def _from_dia(path: Path, shape: tuple[int, int], offsets: npt.NDArray[Any], data: npt.NDArray[Any]) -> Csr:
    if data.ndim != 2 or offsets.shape != data.shape[:1]:
        raise Malformed(path, f"{offsets.size} diagonals, but data of shape {data.shape}")
    # data[i, j] belongs to row j - offsets[i], column j; what falls outside is padding by SciPy's definition.
    cols = np.broadcast_to(np.arange(data.shape[1]), data.shape)
    rows = cols - offsets.astype(np.int64)[:, None]
    inside = (rows >= 0) & (rows < shape[0]) & (cols < shape[1]) & (data != 0)
    return csr_from_coordinates(path, shape, rows[inside], cols[inside], _values(data[inside]))


def _values(data: npt.NDArray[Any]) -> npt.NDArray[Any] | None:
    """Booleans are a pattern without values."""
    return None if data.dtype.kind == "b" else data


def _same_length(path: Path, *parts: npt.NDArray[Any]) -> None:
    if len({len(part) for part in parts}) > 1:
        raise Malformed(path, f"arrays of different lengths: {', '.join(str(len(part)) for part in parts)}")


def _archive(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except _BROKEN as error:
        raise Malformed(path, f"not a readable .npz archive: {error}") from None


def _contents(archive: zipfile.ZipFile, path: Path) -> tuple[str, tuple[int, int], dict[str, Header]]:
    """Format, shape and checked headers of a SciPy sparse file."""
    names = {name.removesuffix(".npy") for name in archive.namelist()}
    if not {"format", "shape"} <= names:
        raise Malformed(path, "not a SciPy sparse matrix: no 'format' and 'shape' in it (made by save_npz?)")
    word = _member(archive, path, "format")
    layout = bytes(word.item()).decode("ascii", "replace") if word.dtype.kind == "S" and word.size == 1 else str(word)
    if layout not in _PARTS:
        raise Malformed(path, f"sparse format {layout!r}: expected one of {', '.join(_PARTS)}")
    if missing := [part for part in _PARTS[layout] if part not in names]:
        raise Malformed(path, f"no {missing[0]!r} in a {layout} file: truncated")
    headers = {part: _member_header(archive, path, part) for part in _PARTS[layout]}
    for part, (_, kind) in headers.items():
        if part != "data" and kind.kind not in "iu":
            raise Malformed(path, f"{part!r} holds {kind}, not whole numbers")
        if part not in ("data", "offsets") and len(headers[part][0]) != 1:
            raise Malformed(path, f"{part!r} has shape {headers[part][0]}, not one axis")
    if not headers["data"][0]:
        raise Malformed(path, "'data' is a single number, not an array")
    shape = _member(archive, path, "shape")
    if shape.shape != (2,) or shape.dtype.kind not in "iu":
        raise Malformed(path, f"the shape is not two whole numbers: {shape.tolist()}")
    rows, cols = (int(x) for x in shape)
    check_header(path, rows, cols, 0, sum(info.file_size for info in archive.infolist()))
    return layout, (rows, cols), headers


def _member_header(archive: zipfile.ZipFile, path: Path, name: str) -> Header:
    try:
        info = archive.getinfo(f"{name}.npy")
        if info.file_size > info.compress_size * _DEFLATE_RATIO + 1024:
            raise Malformed(path, f"{name!r} claims {info.file_size} bytes from {info.compress_size}: impossible")
        with archive.open(info) as file:
            return _header(file, f"{path}:{name}", info.file_size)
    except _BROKEN as error:
        raise Malformed(path, f"{name!r} cannot be read: {error}") from None


def _member(archive: zipfile.ZipFile, path: Path, name: str) -> npt.NDArray[Any]:
    """One array of the archive, its header checked first."""
    _member_header(archive, path, name)
    try:
        with archive.open(f"{name}.npy") as file:
            return _array(file)
    except _BROKEN as error:
        raise Malformed(path, f"{name!r} cannot be read: {error}") from None


def _array(file: IO[bytes]) -> npt.NDArray[Any]:
    """The array of .npy content, never by a pickle."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.lib.format.read_array(file, allow_pickle=False)


def _header(file: IO[bytes], where: str | Path, size: int) -> Header:
    """Shape and type of .npy content of ``size`` bytes."""
    try:
        # From a copy: a header that claims to be long would have its buffer before the file shows to be short.
        file = io.BytesIO(file.read(_LONGEST_HEADER))
        version = np.lib.format.read_magic(file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Python 2 spellings, which are read all the same
            if version == (1, 0):
                shape, _, kind = np.lib.format.read_array_header_1_0(file)
            else:
                shape, _, kind = np.lib.format.read_array_header_2_0(file)
    except _BROKEN as error:
        raise Malformed(where, f"not a .npy array: {error}") from None
    if kind.hasobject:
        raise Malformed(where, "an array of Python objects: reading it would execute a pickle; refused")
    if any(extent < 0 for extent in shape):
        raise Malformed(where, f"negative extent in shape {shape}")
    needed = math.prod(shape) * kind.itemsize
    if needed > size:
        raise Malformed(where, f"truncated: shape {shape} of {kind} needs {needed} bytes, the file has {size}")
    return shape, kind
