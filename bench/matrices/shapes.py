"""Layers that are nothing but shapes, M x K: what a kernel suite prunes. Seeded weights, all synthetic.

``shapes:4096x4096,14336x4096`` has rows that differ in norm as those of trained layers do, so that pruning leaves rows
(and block rows) of different lengths. ``uniform:4096x4096`` has independent equal normals: every place is as likely to
stay as any other, the usual ground for comparing kernels.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sparsity_roofline.bench.matrices.collection import MatrixInfo
from sparsity_roofline.bench.matrices.values import seeded_weight, uniform_weight
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.matrix import Matrix
from sparsity_roofline.model.pattern import DENSE

_SHAPE = re.compile(r"([1-9]\d*)x([1-9]\d*)")


SCHEMES = {"shapes": seeded_weight, "uniform": uniform_weight}
"""How the weights of each scheme are drawn: (shape, seed, name) -> float32 (M, K)."""


class Shapes:
    """One dense seeded weight for each shape of the address.

    Args:
        text: ``MxK``, several separated by commas.
        seed: of the weights.
        scheme: one of ``SCHEMES``; also the collection's label.

    Raises:
        UserError: an empty list, something that is not a shape, or a shape named twice.
    """

    def __init__(self, text: str, seed: int = 0, scheme: str = "shapes") -> None:
        self.label = scheme
        self.uri = f"{scheme}:{text}"
        self._seed = seed
        self._draw = SCHEMES[scheme]
        self._last: Matrix | None = None  # every pattern and sparsity of a shape prunes the same weight
        self._shapes: dict[str, tuple[int, int]] = {}
        for part in text.split(","):
            name = part.strip()
            match = _SHAPE.fullmatch(name)
            if not match:
                raise UserError(
                    f"{self.uri}: {name!r} is not a shape: write M x K as in {self.label}:4096x4096,512x4608"
                )
            if name in self._shapes:
                raise UserError(f"{self.uri}: {name} is named twice")
            self._shapes[name] = (int(match[1]), int(match[2]))

    def infos(self) -> Sequence[MatrixInfo]:
        """One dense matrix for each shape, in the order of the address."""
        return [
            MatrixInfo(name, rows, cols, rows * cols, pattern=DENSE, layer=name, synthetic=True)
            for name, (rows, cols) in self._shapes.items()
        ]

    def has_weights(self, name: str) -> bool:
        """Yes: the seeded weights are this collection's own."""
        return True

    def load(self, name: str) -> Matrix:
        """The seeded weight of a shape.

        Raises:
            UserError: unknown name.
        """
        if name not in self._shapes:
            raise UserError(f"{self.uri}: no layer {name!r}: there are {', '.join(self._shapes)}")
        if self._last is None or self._last.name != name:
            weight = self._draw(self._shapes[name], self._seed, name)
            self._last = Matrix.dense(name, weight, layer=name, synthetic=True)
        return self._last
