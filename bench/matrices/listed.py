"""A collection of single files with what is known about each: a directory, one file, or the rows of a manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sparsity_roofline.bench.matrices.collection import MatrixInfo
from sparsity_roofline.bench.matrices.files import kind_of, peek, read_matrix, sha256_of, suffix_of, without_suffix
from sparsity_roofline.bench.matrices.prune import implied_nnz
from sparsity_roofline.bench.matrices.structure import Malformed
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.matrix import Matrix
from sparsity_roofline.model.pattern import UNSTRUCTURED, Pattern

FOLDER_SUFFIXES = (".smtx", ".mtx", ".mtx.gz", ".npz", ".npy")


@dataclass(frozen=True)
class Entry:
    """One matrix: its file and what the source says of it. None where it says nothing."""

    name: str
    path: Path
    tensor: str | None = None
    transpose: bool = False
    sha256: str | None = None
    rows: int | None = None
    cols: int | None = None
    nnz: int | None = None
    pattern: Pattern | None = None
    network: str | None = None
    layer: str | None = None
    method: str | None = None
    sparsity: float | None = None
    columns_per_image: int | None = None
    synthetic: bool = False


class Listed:
    """Files by name.

    Attributes:
        label, uri: as the opener chose them.
    """

    def __init__(
        self, label: str, uri: str, entries: Sequence[Entry], seed: int = 0, *, recognise: bool = False
    ) -> None:
        """Keep the list; nothing is read.

        Args:
            recognise: find the pattern of an entry that states none by reading it; else it is unstructured.

        Raises:
            UserError: two entries of one name.
        """
        self.label, self.uri, self._seed, self._recognise = label, uri, seed, recognise
        self._entries = {entry.name: entry for entry in entries}
        if len(self._entries) != len(entries):
            name, _ = Counter(entry.name for entry in entries).most_common(1)[0]
            raise UserError(f"{uri}: two matrices are called {name!r}: give one of them another name")

    @cached_property
    def _infos(self) -> list[MatrixInfo]:
        return [_info(entry, self._recognise) for entry in self._entries.values()]

    def infos(self) -> Sequence[MatrixInfo]:
        """Every entry; headers are read where the source does not state the shape.

        Raises:
            UserError: a header that is malformed.
        """
        return self._infos

    def has_weights(self, name: str) -> bool:
        """False for a file that holds a pattern without values."""
        entry = self._entry(name)
        return entry.path.suffix != ".smtx" and entry.path.exists() and peek(entry.path, entry.tensor).has_values

    def load(self, name: str) -> Matrix:
        """One matrix, held against what the source says of it.

        Raises:
            UserError: unknown name, missing or malformed file, or a statement that the file contradicts.
        """
        entry = self._entry(name)
        if entry.sha256 and entry.path.is_file() and (found := sha256_of(entry.path)) != entry.sha256.lower():
            raise Malformed(entry.path, f"sha256 {found[:16]}..., but the manifest says {entry.sha256[:16]}...")
        find = self._recognise or _holds_dense(entry)
        matrix = read_matrix(
            entry.path,
            name=name,
            tensor=entry.tensor,
            transpose=entry.transpose,
            pattern=entry.pattern or (None if find else UNSTRUCTURED),
            seed=self._seed,
            network=entry.network,
            layer=entry.layer,
            method=entry.method,
            target_sparsity=entry.sparsity,
            columns_per_image=entry.columns_per_image,
            synthetic=entry.synthetic,
        )
        stated = {"rows": entry.rows, "columns": entry.cols, "elements": entry.nnz}
        for (what, claim), found_number in zip(stated.items(), (*matrix.shape, matrix.nnz), strict=True):
            if claim is not None and claim != found_number:
                raise Malformed(entry.path, f"{found_number} {what}, but the manifest says {claim}")
        return matrix

    def _entry(self, name: str) -> Entry:
        try:
            return self._entries[name]
        except KeyError:
            raise UserError(f"{self.uri}: no matrix {name!r}; list them to see the names") from None


def folder(path: Path, seed: int = 0) -> Listed:
    """Every matrix file below a directory, named by its path without suffix (with it, where that is not unique).

    Raises:
        UserError: there is none.
    """
    files = sorted(file for file in path.rglob("*") if suffix_of(file) in FOLDER_SUFFIXES and file.is_file())
    if not files:
        raise UserError(f"{path}: no matrices below it ({', '.join(FOLDER_SUFFIXES)})")
    short = Counter(without_suffix(file.relative_to(path)).as_posix() for file in files)
    entries = []
    for file in files:
        name = without_suffix(file.relative_to(path)).as_posix()
        entries.append(Entry(name if short[name] == 1 else file.relative_to(path).as_posix(), file))
    return Listed(path.resolve().name, str(path.resolve()), entries, seed)


def single(path: Path, seed: int = 0) -> Listed:
    """One matrix file as a collection.

    Raises:
        UserError: not a matrix file.
    """
    kind_of(path)
    name = without_suffix(path).name
    return Listed(name, str(path.resolve()), [Entry(name, path)], seed, recognise=True)


def _holds_dense(entry: Entry) -> bool:
    """Files whose mask shows only when they are read: the zeros of a dense array."""
    return suffix_of(entry.path) not in (".smtx", ".mtx", ".mtx.gz", ".npz")


def _shape(entry: Entry, recognise: bool) -> tuple[int, int, int, Pattern]:
    """rows, cols, nnz and pattern as stated, else from the header, else by reading."""
    rows, cols, nnz, pattern = entry.rows, entry.cols, entry.nnz, entry.pattern
    if entry.path.is_file():
        if pattern is None and (recognise or _holds_dense(entry)):
            matrix = read_matrix(entry.path, tensor=entry.tensor, transpose=entry.transpose)
            return *matrix.shape, matrix.nnz, matrix.pattern
        if rows is None or cols is None or (nnz is None and not _holds_dense(entry)):
            found = peek(entry.path, entry.tensor, entry.transpose)
            rows, cols = found.rows if rows is None else rows, found.cols if cols is None else cols
            if nnz is None and not _holds_dense(entry):
                nnz = found.nnz
    pattern = pattern or UNSTRUCTURED
    if rows is None or cols is None:
        rows = cols = 0
    if nnz is None:
        nnz = implied_nnz((rows, cols), pattern, entry.sparsity)
    return rows, cols, nnz, pattern


def _info(entry: Entry, recognise: bool) -> MatrixInfo:
    rows, cols, nnz, pattern = _shape(entry, recognise)
    return MatrixInfo(
        entry.name,
        rows,
        cols,
        nnz,
        pattern=pattern,
        network=entry.network,
        layer=entry.layer,
        method=entry.method,
        target_sparsity=entry.sparsity,
        columns_per_image=entry.columns_per_image,
        synthetic=entry.synthetic,
        present=entry.path.is_file(),
    )
