"""Layers without weights of their own: a listing, and seeded dense weights to prune."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from sparsity_roofline.bench.matrices.collection import MatrixInfo
from sparsity_roofline.bench.matrices.values import seeded_weight
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.matrix import FloatArray, Matrix

Draw = Callable[[tuple[int, int], int, str], FloatArray]
"""(shape, seed, name) -> float32 (M, K), no entry zero."""


class SeededLayers:
    """A collection of dense synthetic matrices.

    Args:
        label, uri: as in ``Collection``.
        infos: the layers, with distinct names.
        seed: of the weights.
        draw: how a weight is drawn.

    Raises:
        UserError: a name that stands twice.
    """

    def __init__(
        self, label: str, uri: str, infos: Iterable[MatrixInfo], seed: int = 0, draw: Draw = seeded_weight
    ) -> None:
        self.label, self.uri = label, uri
        self._seed, self._draw = seed, draw
        self._infos: dict[str, MatrixInfo] = {}
        self._last: Matrix | None = None  # every pattern and sparsity of a layer prunes the same weight
        for info in infos:
            if info.name in self._infos:
                raise UserError(f"{uri}: {info.name} stands there twice: name it once")
            self._infos[info.name] = info

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
            raise UserError(f"{self.uri}: no layer {name!r}; list them to see the names")
        if self._last is None or self._last.name != name:
            self._last = Matrix.dense(
                name,
                self._draw((info.rows, info.cols), self._seed, name),
                network=info.network,
                layer=info.layer,
                columns_per_image=info.columns_per_image,
                synthetic=True,
            )
        return self._last
