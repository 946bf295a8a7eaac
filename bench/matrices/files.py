"""Single files: told apart by content, read into a ``Matrix``, written by suffix."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sparsity_roofline.bench.matrices import mtx, numpy_files, smtx
from sparsity_roofline.bench.matrices.checkpoint import Checkpoint
from sparsity_roofline.bench.matrices.recognise import find_pattern, violation
from sparsity_roofline.bench.matrices.structure import Csr, Malformed
from sparsity_roofline.bench.matrices.tensors import SAFETENSORS, TORCH
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.matrix import Matrix
from sparsity_roofline.model.pattern import Pattern

Kind = Literal["smtx", "mtx", "npz", "npy", "tensors"]

SUFFIXES = (".smtx", ".mtx", ".mtx.gz", ".npz", ".npy", *SAFETENSORS, *TORCH)
WRITABLE = (".smtx", ".mtx", ".npz", ".safetensors")


@dataclass(frozen=True)
class Peek:
    """What a file says of its matrix before it is read.

    Attributes:
        nnz: as the header states it; an upper bound where the format does not (symmetric .mtx, dense files).
        has_values: False for a pattern.
    """

    rows: int
    cols: int
    nnz: int
    has_values: bool


def suffix_of(path: Path) -> str:
    """What says the format: the last suffix, and of a packed file the one before it too."""
    return "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix


def without_suffix(path: Path) -> Path:
    """The path without ``suffix_of``."""
    suffix = suffix_of(path)
    return path.with_name(path.name.removesuffix(suffix)) if suffix and path.name != suffix else path


def kind_of(path: Path) -> Kind:
    """The file's format, from its first bytes.

    Raises:
        UserError: no such file, or none of the formats.
    """
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    if head.lower().startswith(b"%%matrixmarket") or suffix_of(path) in (".mtx", ".mtx.gz"):
        return "mtx"
    if head.startswith(b"\x93NUMPY") or path.suffix == ".npy":
        return "npy"
    if path.suffix == ".npz":
        return "npz"
    if path.suffix == ".smtx":
        return "smtx"
    if path.suffix in SAFETENSORS + TORCH or head[8:9] == b"{" or head.startswith((b"PK\x03\x04", b"\x80\x02")):
        return "tensors"
    if head[:1] in b"%0123456789" and head and all(byte < 128 for byte in head):
        return "smtx"
    raise UserError(f"{path}: no known matrix format: {', '.join(SUFFIXES)} are read")


def read_matrix(
    path: str | Path,
    *,
    name: str | None = None,
    tensor: str | None = None,
    transpose: bool = False,
    pattern: Pattern | None = None,
    seed: int = 0,
    **info: Any,
) -> Matrix:
    """Read one weight from an .smtx, .mtx, .npz, .npy, .safetensors or torch file.

    Args:
        name: of the matrix; the file's name without suffix by default. Seeds the values of a pattern, with ``seed``.
        tensor: which weight of a checkpoint that holds several.
        transpose: the file holds (K, M).
        pattern: what the mask is claimed to obey (checked); by default the tightest of dense, 2:4 and square blocks
            that it does obey, else unstructured.
        info: further attributes of the ``Matrix``.

    Raises:
        UserError: no such file, a malformed one (file, line and reason), or a mask that does not obey ``pattern``.
    """
    path = Path(path)
    csr = _read(path, tensor)
    matrix = (_transposed(csr) if transpose else csr).matrix(name or without_suffix(path).name, seed, **info)
    if pattern is not None and (why := violation(matrix, pattern)):
        raise Malformed(path, f"not {pattern}: {why}")
    matrix.pattern = pattern or find_pattern(matrix)
    return matrix


def peek(path: Path, tensor: str | None = None, transpose: bool = False) -> Peek:
    """Shape and nnz of a file without reading it whole.

    Raises:
        UserError: as ``read_matrix``, as far as the header shows it.
    """
    kind = kind_of(path)
    if kind == "smtx":
        with path.open("rb") as file:
            rows, cols, nnz = smtx.smtx_header(file.read(1 << 16), path, path.stat().st_size)
        found = Peek(rows, cols, nnz, False)
    elif kind == "mtx":
        header = mtx.mtx_header(path)
        found = Peek(header.rows, header.cols, header.nnz, header.field != "pattern")
    elif kind == "npz":
        found = Peek(*numpy_files.npz_shape(path))
    elif kind == "npy":
        shape, _ = numpy_files.npy_header(path)
        rows, cols = shape[0] if shape else 0, int(np.prod(shape[1:]))
        found = Peek(rows, cols, rows * cols, True)
    else:
        checkpoint = Checkpoint(path)
        rows, cols = checkpoint.shape(_only(checkpoint, path, tensor))
        found = Peek(rows, cols, rows * cols, True)
    return Peek(found.cols, found.rows, found.nnz, found.has_values) if transpose else found


def write_matrix(matrix: Matrix, path: str | Path) -> None:
    """Write a matrix in the format of the suffix: .smtx (pattern only), .mtx, .npz or .safetensors.

    A .safetensors file holds the dense ``weight``, and ``weight_mask`` too where a stored value is zero.

    Raises:
        UserError: another suffix, or the disk says no.
    """
    path = Path(path)
    if path.suffix not in WRITABLE:
        raise UserError(f"{path}: write a matrix as {', '.join(WRITABLE)}")
    temporary = path.with_name(f".{path.name}.partial")
    try:
        try:
            if path.suffix == ".smtx":
                temporary.write_bytes(smtx.format_smtx(matrix))
            elif path.suffix == ".mtx":
                mtx.write_mtx(matrix, temporary)
            elif path.suffix == ".npz":
                numpy_files.write_npz(matrix, temporary)
            else:
                _write_safetensors(matrix, temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from None


def sha256_of(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path, tensor: str | None) -> Csr:
    kind = kind_of(path)
    try:
        if kind == "smtx":
            return smtx.parse_smtx(path.read_bytes(), path)
        if kind == "mtx":
            return mtx.read_mtx(path)
        if kind == "npz":
            return numpy_files.read_npz(path)
        if kind == "npy":
            return numpy_files.read_npy(path)
        checkpoint = Checkpoint(path)
        return checkpoint.read(_only(checkpoint, path, tensor))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None


def _only(checkpoint: Checkpoint, path: Path, tensor: str | None) -> str:
    """The weight that is meant."""
    names = checkpoint.names()
    if tensor is None and len(names) == 1:
        return names[0]
    wanted = (tensor or "").removesuffix(".weight")
    if wanted in names:
        return wanted
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    what = f"no weight {tensor!r}" if tensor else "which weight is meant?"
    raise UserError(f"{path}: {what} It holds {len(names)}: {shown}; open it as checkpoint:FILE for all")


def _transposed(csr: Csr) -> Csr:
    rows, cols = csr.shape
    order = np.argsort(csr.indices, kind="stable")
    row_ids = np.repeat(np.arange(rows, dtype=np.int32), np.diff(csr.indptr))
    indptr = np.zeros(cols + 1, dtype=np.int64)
    np.cumsum(np.bincount(csr.indices, minlength=cols), out=indptr[1:])
    values = None if csr.values is None else csr.values[order]
    unpruned = None if csr.unpruned is None else np.ascontiguousarray(csr.unpruned.T)
    return Csr((cols, rows), indptr, row_ids[order], values, unpruned)


def _write_safetensors(matrix: Matrix, path: Path) -> None:
    from safetensors.numpy import save_file

    full = matrix.pattern.kind == "dense" and not matrix.nnz
    tensors: dict[str, np.ndarray[Any, Any]] = {
        "weight": np.ascontiguousarray(matrix.dense_operand() if full else matrix.to_dense())
    }
    if not full and not matrix.values.all():
        mask = np.zeros(matrix.shape, dtype=np.uint8)
        mask[matrix.row_ids(), matrix.indices] = 1
        tensors["weight_mask"] = mask
    save_file(tensors, path, metadata={"name": matrix.name, "pattern": str(matrix.pattern)})
