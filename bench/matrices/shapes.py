"""Layers that are nothing but shapes, M x K: what a kernel suite prunes. Seeded weights, all synthetic.

``shapes:4096x4096,14336x4096`` has rows that differ in norm as those of trained layers do, so that pruning leaves rows
(and block rows) of different lengths. ``uniform:4096x4096`` has independent equal normals: every place is as likely to
stay as any other, the usual ground for comparing kernels.
"""

from __future__ import annotations

import re

from sparsity_roofline.bench.matrices.collection import MatrixInfo
from sparsity_roofline.bench.matrices.seeded import SeededLayers
from sparsity_roofline.bench.matrices.values import seeded_weight, uniform_weight
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.pattern import DENSE

_SHAPE = re.compile(r"([1-9]\d*)x([1-9]\d*)")


SCHEMES = {"shapes": seeded_weight, "uniform": uniform_weight}
"""How the weights of each scheme are drawn: (shape, seed, name) -> float32 (M, K)."""


def shape_layers(text: str, seed: int = 0, scheme: str = "shapes") -> SeededLayers:
    """The collection of the shapes that an address lists.

    Args:
        text: ``MxK``, several separated by commas.
        seed: of the weights.
        scheme: one of ``SCHEMES``; also the collection's label.

    Raises:
        UserError: an empty list, something that is not a shape, or a shape named twice.
    """
    uri = f"{scheme}:{text}"
    infos = []
    for part in text.split(","):
        name = part.strip()
        match = _SHAPE.fullmatch(name)
        if not match:
            raise UserError(f"{uri}: {name!r} is not a shape: write M x K as in {scheme}:4096x4096,512x4608")
        rows, cols = int(match[1]), int(match[2])
        infos.append(MatrixInfo(name, rows, cols, rows * cols, pattern=DENSE, layer=name, synthetic=True))
    return SeededLayers(scheme, uri, infos, seed, SCHEMES[scheme])
