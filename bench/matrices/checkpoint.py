"""The weights of a checkpoint as a collection.

Every floating-point tensor with two axes is a weight (M, K) as it stands, and every convolution kernel (three axes or
more, named ``...weight``) one of [C_out, C_in * R * S]. Zeros define the mask, or the mask of ``torch.nn.utils.prune``
where it was saved (``P_orig`` and ``P_mask``). A tensor without zeros is dense: a base for pruning. A checkpoint does
not tell grouped convolutions from others: the matrix of one has the K of a single group.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sparsity_roofline.bench.matrices.cache import identity, write_atomic
from sparsity_roofline.bench.matrices.collection import MatrixInfo
from sparsity_roofline.bench.matrices.recognise import find_pattern
from sparsity_roofline.bench.matrices.structure import Csr, Malformed, csr_from_dense
from sparsity_roofline.bench.matrices.tensors import SAFETENSORS, TORCH, TensorFile, open_tensors
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.home import cache_home
from sparsity_roofline.model.matrix import Matrix
from sparsity_roofline.model.pattern import Pattern


@dataclass(frozen=True)
class _Weight:
    file: Path
    tensor: str
    mask: str | None

    @property
    def keeps_unpruned(self) -> bool:
        """Beside its mask the file holds the weight as it was, not the product of the two."""
        return self.mask is not None and self.tensor.endswith("_orig")


class Checkpoint:
    """One file, or a directory of shards.

    Attributes:
        label: the file's name without suffix.
        uri: ``checkpoint:PATH``.
    """

    def __init__(self, path: Path, seed: int = 0) -> None:
        """Open; reads names and shapes only.

        Raises:
            UserError: nothing there, not a checkpoint, one that needs more than weights-only loading, or no weights.
        """
        files = _shards(path)
        self.label = path.name if path.is_dir() else path.stem
        self.uri = f"checkpoint:{path.resolve()}"
        self._files: dict[Path, TensorFile] = {file: open_tensors(file) for file in files}
        self._weights: dict[str, _Weight] = {}
        for file, tensors in self._files.items():
            for name, weight in _weights(file, tensors.shapes).items():
                if name in self._weights:
                    raise UserError(f"{file}: {name} is also in {self._weights[name].file.name}: not one checkpoint")
                self._weights[name] = weight
        if not self._weights:
            raise UserError(f"{path}: no weight matrix in it (floating point, two axes or more)")

    @cached_property
    def _infos(self) -> dict[str, MatrixInfo]:
        infos = {}
        for name, (rows, cols, nnz, pattern) in self._counts().items():
            infos[name] = MatrixInfo(
                name,
                rows,
                cols,
                nnz,
                pattern=Pattern.parse(pattern),
                network=self.label,
                layer=name,
                unpruned=self._weights[name].keeps_unpruned,
            )
        return infos

    def infos(self) -> Sequence[MatrixInfo]:
        """Every weight, in the file's order. The first call reads all of them once, to count zeros."""
        return list(self._infos.values())

    def has_weights(self, name: str) -> bool:
        """Always."""
        return True

    def load(self, name: str) -> Matrix:
        """One weight with its trained values; by its layer's name, or that of the tensor, ``layer.weight``.

        Raises:
            UserError: unknown name, NaN or infinity.
        """
        name = name if name in self._weights else name.removesuffix(".weight")
        if name not in self._weights:
            raise UserError(f"{self.uri}: no weight {name!r}; list them to see the names")
        matrix = self.read(name).matrix(name, 0, network=self.label, layer=name)
        matrix.pattern = find_pattern(matrix)
        return matrix

    def names(self) -> list[str]:
        """The weights' names, without reading any."""
        return list(self._weights)

    def shape(self, name: str) -> tuple[int, int]:
        """(M, K), without reading."""
        weight = self._weights[name]
        rows, *rest = self._files[weight.file].shapes[weight.tensor]
        return rows, math.prod(rest)

    def read(self, name: str) -> Csr:
        """The arrays of one weight. Raises ``Malformed``."""
        weight = self._weights[name]
        tensors = self._files[weight.file]
        where = f"{weight.file}:{weight.tensor}"
        values = tensors.get(weight.tensor)
        if weight.mask is None:
            return csr_from_dense(where, values)
        mask = tensors.get(weight.mask) != 0
        if mask.shape != values.shape:
            raise Malformed(where, f"its mask has shape {mask.shape}, the weight {values.shape}")
        return csr_from_dense(where, values, mask, values if weight.keeps_unpruned else None)

    def _counts(self) -> dict[str, tuple[int, int, int, str]]:
        """rows, cols, nnz and pattern of every weight, kept in the cache folder, where that can be written."""
        key = hashlib.sha256("".join(identity(file) for file in self._files).encode()).hexdigest()[:32]
        file = cache_home() / "checkpoints" / f"{key}.json"
        with suppress(OSError, ValueError, TypeError):
            kept = {name: tuple(row) for name, row in json.loads(file.read_bytes()).items()}
            if kept.keys() == self._weights.keys():
                return kept
        counts = {}
        for name in self._weights:
            matrix = self.load(name)
            counts[name] = (*matrix.shape, matrix.nnz, str(matrix.pattern))
        with suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(file, json.dumps(counts).encode())
        return counts


def _shards(path: Path) -> list[Path]:
    if not path.exists():
        raise UserError(f"{path}: no such file or directory")
    if path.is_file():
        return [path]
    for suffixes in (SAFETENSORS, TORCH):
        if files := sorted(file for file in path.iterdir() if file.suffix in suffixes):
            return files
    raise UserError(f"{path}: no checkpoint in this directory ({', '.join(SAFETENSORS + TORCH)})")


def _weights(file: Path, shapes: dict[str, tuple[int, ...]]) -> dict[str, _Weight]:
    """The tensors that are weights, under their layer's name."""
    found = {}
    for tensor, shape in shapes.items():
        base = tensor.removesuffix("_orig")
        mask = f"{base}_mask" if f"{base}_mask" in shapes else None
        if tensor.endswith("_mask") or len(shape) < 2 or not math.prod(shape):
            continue
        if len(shape) > 2 and base.rpartition(".")[2] != "weight":
            continue
        found[base.removesuffix(".weight")] = _Weight(file, tensor, mask)
    return found
