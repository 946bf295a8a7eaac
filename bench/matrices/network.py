"""The layers of real networks as seeded weights to prune: ``network:deit_base`` or ``network:llama3_8b,gpt2``.

One dense matrix for each distinct shape and number of columns among a network's prunable layers (``model/networks``),
named ``network/layer`` after the first such layer; all synthetic. What is read from a checkpoint has real values;
shapes, N and pattern, which a kernel's time depends on, are the same.
"""

from __future__ import annotations

from sparsity_roofline.bench.matrices.collection import MatrixInfo
from sparsity_roofline.bench.matrices.seeded import SeededLayers
from sparsity_roofline.model import networks
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


def network_layers(text: str, seed: int = 0) -> SeededLayers:
    """The collection of some networks' layers.

    Args:
        text: names of networks, separated by commas.
        seed: of the weights.

    Raises:
        UserError: an unknown or repeated network.
    """
    infos = [info for name in text.split(",") for info in distinct_layers(name.strip())]
    return SeededLayers("network", f"network:{text}", infos, seed)
