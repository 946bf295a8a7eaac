"""The layers of real networks as seeded weights to prune: ``network:deit_base`` or ``network:llama3_8b,gpt2``.

One dense matrix for each distinct shape and number of columns among a network's prunable layers (``model/networks``),
named ``network/layer`` after the first such layer; all synthetic. What is read from a checkpoint has real values;
shapes, N and pattern, which a kernel's time depends on, are the same.
"""

from __future__ import annotations

from collections.abc import Sequence

from sparsity_roofline.bench.matrices.collection import MatrixInfo
from sparsity_roofline.bench.matrices.values import seeded_weight
from sparsity_roofline.model import networks
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.matrix import Matrix
from sparsity_roofline.model.pattern import DENSE


def distinct_layers(name: str) -> list[MatrixInfo]:
    """The first prunable layer of each (M, K, columns) of a network.

    Raises:
        UserError: an unknown network.
    """
    found: dict[tuple[int, int, int], MatrixInfo] = {}
    for layer in networks.load(name):
        if not layer.prunable or layer.groups != 1:
            continue
        found.setdefault(
            (layer.M, layer.K, layer.columns),
            MatrixInfo(
                f"{layer.network}/{layer.layer}",
                layer.M,
                layer.K,
                layer.M * layer.K,
                pattern=DENSE,
                network=layer.network,
                layer=layer.layer,
                columns_per_image=layer.columns if layer.per == "image" else None,
                synthetic=True,
            ),
        )
    return list(found.values())


class NetworkLayers:
    """The collection.

    Args:
        text: names of networks, separated by commas.
        seed: of the weights.

    Raises:
        UserError: an unknown or repeated network.
    """

    label = "network"

    def __init__(self, text: str, seed: int = 0) -> None:
        self.uri = f"network:{text}"
        self._seed = seed
        self._infos: dict[str, MatrixInfo] = {}
        self._last: Matrix | None = None  # every pattern and sparsity of a layer prunes the same weight
        for name in (part.strip() for part in text.split(",")):
            for info in distinct_layers(name):
                if info.name in self._infos:
                    raise UserError(f"{self.uri}: {name} is named twice")
                self._infos[info.name] = info

    def infos(self) -> Sequence[MatrixInfo]:
        """One dense matrix for each distinct layer, network by network."""
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
                seeded_weight((info.rows, info.cols), self._seed, name),
                network=info.network,
                layer=info.layer,
                columns_per_image=info.columns_per_image,
                synthetic=True,
            )
        return self._last
