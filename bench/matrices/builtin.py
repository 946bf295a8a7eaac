"""A small collection that needs no download: real layer shapes, seeded weights, pruned by magnitude; all synthetic.

Every distinct shape of ResNet-50 and of the base transformer of the Deep Learning Matrix Collection, pruned to
unstructured, block and 2:4 patterns. Names: ``<network>/<layer>@<pattern>@<sparsity>``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sparsity_roofline.bench.matrices.collection import MatrixInfo
from sparsity_roofline.bench.matrices.derived import Pruned
from sparsity_roofline.bench.matrices.values import seeded_weight
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.matrix import Matrix
from sparsity_roofline.model.pattern import DENSE

PATTERNS = ("unstructured", "block16x16", "block32x32", "block64x64", "2:4")
SPARSITIES = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98)


def shapes() -> list[MatrixInfo]:
    """The unpruned layers, from ``builtin_layers.csv``: the first layer of each distinct M x K x columns."""
    text = (Path(__file__).parent / "builtin_layers.csv").read_text(encoding="utf-8")
    infos = []
    for line in text.splitlines()[1:]:
        network, layer, rows, cols, columns = line.split(",")
        M, K = int(rows), int(cols)
        per_image = int(columns) if columns else None
        infos.append(
            MatrixInfo(
                f"{network}/{layer}",
                M,
                K,
                M * K,
                pattern=DENSE,
                network=network,
                layer=layer,
                columns_per_image=per_image,
                synthetic=True,
            )
        )
    return infos


class Layers:
    """The unpruned layers as a collection; what ``Pruned`` prunes."""

    label = uri = "builtin"

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._infos = {info.name: info for info in shapes()}

    def infos(self) -> Sequence[MatrixInfo]:
        """One dense matrix for each layer."""
        return list(self._infos.values())

    def has_weights(self, name: str) -> bool:
        """Yes: the seeded weights are this collection's own."""
        return True

    def load(self, name: str) -> Matrix:
        """The seeded weight of a layer.

        Raises:
            UserError: unknown name.
        """
        info = self._infos.get(name)
        if info is None:
            raise UserError(f"builtin: no layer {name!r}; list them to see the names")
        weight = seeded_weight((info.rows, info.cols), self._seed, name)
        return Matrix.dense(
            name,
            weight,
            network=info.network,
            layer=info.layer,
            columns_per_image=info.columns_per_image,
            synthetic=True,
        )


def builtin(patterns: Sequence[str] = (), sparsities: Sequence[float] = (), seed: int = 0) -> Pruned:
    """The built-in collection, by default with all its patterns and sparsities."""
    return Pruned(Layers(seed), patterns or PATTERNS, sparsities or SPARSITIES, seed)
