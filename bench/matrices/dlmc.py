"""The Deep Learning Matrix Collection (Gale et al., arXiv 2006.10901) in its published layout.

``dlmc/{rn50,transformer}/<method>/<sparsity>/<layer>.smtx`` beside ``dlmc.csv``, which lists shape and nnz of every
matrix of the full collection, and ``rn50_batchsizes.txt``, the output pixels of one image for each layer of ResNet-50.
A copy need not be complete: what is listed but not there is reported as absent.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from sparsity_roofline.bench.matrices.collection import MatrixInfo
from sparsity_roofline.bench.matrices.smtx import parse_smtx, smtx_header
from sparsity_roofline.bench.matrices.source import Source, open_source
from sparsity_roofline.bench.matrices.structure import Malformed
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.matrix import Matrix

NETWORKS = ("rn50", "transformer")
_COLUMNS = ("path", "nrows", "ncols", "nnz")


class Dlmc:
    """A directory or tar archive of the collection.

    Attributes:
        label: ``dlmc``.
        uri: ``dlmc:PATH``.
    """

    label = "dlmc"

    def __init__(self, path: Path, seed: int = 0) -> None:
        """Open; unpacks a compressed archive once (see ``source``).

        Raises:
            UserError: nothing there, a broken archive, or no matrix of the collection in it.
        """
        self.uri = f"dlmc:{path.resolve()}"
        self._seed = seed
        self._source: Source = open_source(path)
        self._root, names = _root(self._source.names(), path)
        self._infos = _infos(self._source, self._root, names)
        self._by_name = {info.name: info for info in self._infos}

    def infos(self) -> Sequence[MatrixInfo]:
        """Every matrix that ``dlmc.csv`` names or the disk holds, sorted by name."""
        return self._infos

    def has_weights(self, name: str) -> bool:
        """Never: the files hold patterns without values."""
        return False

    def load(self, name: str) -> Matrix:
        """One matrix with seeded values.

        Raises:
            UserError: unknown or absent, malformed, or not what ``dlmc.csv`` says.
        """
        info = self._by_name.get(name)
        file = f"{self._root}{name}.smtx"
        if info is None:
            raise UserError(f"{self.uri}: no matrix {name!r}; list them to see the names")
        if not info.present:
            raise UserError(f"{self._source.where(file)}: listed in dlmc.csv, but this copy does not have it")
        where = self._source.where(file)
        csr = parse_smtx(self._source.read(file), where)
        if (*csr.shape, len(csr.indices)) != (info.rows, info.cols, info.nnz):
            raise Malformed(
                where,
                f"{csr.shape[0]} x {csr.shape[1]} with {len(csr.indices)} elements, but dlmc.csv says "
                f"{info.rows} x {info.cols} with {info.nnz}",
            )
        return csr.matrix(
            name,
            self._seed,
            network=info.network,
            layer=info.layer,
            method=info.method,
            target_sparsity=info.target_sparsity,
            columns_per_image=info.columns_per_image,
        )


def is_dlmc(names: Sequence[str]) -> bool:
    """Do these relative file names look like the collection?"""
    return any(name == "dlmc.csv" or name.endswith("/dlmc.csv") or _is_matrix(name, "") for name in names)


def layer_name(layer: str) -> str:
    """One name for a layer in all methods: two of them append ``_fully_connected``, and the embedding has two names."""
    layer = layer.removesuffix("_fully_connected")
    if layer.startswith("symbol_modality_"):
        layer = layer.removesuffix("_weights_0_aux").rstrip("_")
    return layer


def _is_matrix(name: str, root: str) -> bool:
    parts = name[len(root) :].split("/")
    return name.startswith(root) and len(parts) == 4 and parts[0] in NETWORKS and name.endswith(".smtx")


def _root(names: list[str], path: Path) -> tuple[str, list[str]]:
    """The prefix of the collection's files ("" or "dlmc/", or deeper) and the names below it."""
    roots = [name.removesuffix("dlmc.csv") for name in names if name == "dlmc.csv" or name.endswith("/dlmc.csv")]
    roots += ["", "dlmc/"]
    for root in sorted(set(roots), key=len):
        if any(_is_matrix(name, root) for name in names) or f"{root}dlmc.csv" in names:
            return root, [name for name in names if name.startswith(root)]
    raise UserError(
        f"{path}: no matrices of DLMC here: expected dlmc.csv or {{rn50,transformer}}/<method>/<sparsity>/<layer>.smtx"
    )


def _infos(source: Source, root: str, names: list[str]) -> list[MatrixInfo]:
    present = {name[len(root) :].removesuffix(".smtx") for name in names if _is_matrix(name, root)}
    columns = _columns(source, f"{root}rn50_batchsizes.txt") if f"{root}rn50_batchsizes.txt" in names else {}
    listed = _listing(source, f"{root}dlmc.csv") if f"{root}dlmc.csv" in names else {}
    infos = []
    for name in sorted(present | listed.keys()):
        file = f"{root}{name}.smtx"
        rows, cols, nnz = listed.get(name) or smtx_header(source.read(file), source.where(file))
        network, method, sparsity, layer = name.split("/")
        infos.append(
            MatrixInfo(
                name,
                rows,
                cols,
                nnz,
                network=network,
                layer=layer_name(layer),
                method=method,
                target_sparsity=_sparsity(sparsity, source.where(file)),
                columns_per_image=columns.get(layer_name(layer)) if network == "rn50" else None,
                present=name in present,
            )
        )
    return infos


def _sparsity(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise UserError(f"{where}: the folder {text!r} is not a sparsity between 0 and 1")
    return value


def _listing(source: Source, file: str) -> dict[str, tuple[int, int, int]]:
    """Name -> rows, cols, nnz from ``dlmc.csv``; the collection prints some nnz as floats."""
    where = source.where(file)
    try:
        reader = csv.DictReader(io.StringIO(source.read(file).decode("utf-8")))
        missing = [column for column in _COLUMNS if column not in (reader.fieldnames or ())]
        if missing:
            raise Malformed(where, f"no column {missing[0]!r}", 1)
        result = {}
        for row in reader:
            line = reader.line_num
            name = (row["path"] or "").removeprefix("dlmc/").removesuffix(".smtx")
            if name.count("/") != 3 or ".." in name.split("/"):
                raise Malformed(where, f"{row['path']!r} is not network/method/sparsity/layer.smtx", line)
            result[name] = tuple(_whole(row[column], where, line) for column in _COLUMNS[1:])
    except (UnicodeDecodeError, csv.Error) as error:
        raise Malformed(where, f"not a CSV file: {error}") from None
    return result  # type: ignore[return-value]


def _columns(source: Source, file: str) -> dict[str, int]:
    """Layer -> output pixels of one image."""
    where, result = source.where(file), {}
    for number, line in enumerate(source.read(file).decode("utf-8", "replace").splitlines(), 1):
        if line.strip():
            layer, comma, pixels = line.partition(",")
            if not comma:
                raise Malformed(where, f"not 'layer,pixels': {line[:60]!r}", number)
            result[layer_name(layer.strip())] = _whole(pixels, where, number)
    return result


def _whole(text: str | None, where: str, line: int) -> int:
    try:
        value = float(text or "")
        if value < 0 or value != int(value):
            raise ValueError
    except (ValueError, OverflowError):
        raise Malformed(where, f"{text!r} is not a whole number of 0 or more", line) from None
    return int(value)
