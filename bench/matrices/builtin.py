"""A small collection that needs no download: real layer shapes, seeded weights, pruned by magnitude; all synthetic.

Every distinct shape of ResNet-50 and of a base transformer (``model/networks``), pruned to unstructured, block and 2:4
patterns. Names: ``<network>/<layer>@<pattern>@<sparsity>``.
"""

from __future__ import annotations

from collections.abc import Sequence

from sparsity_roofline.bench.matrices.collection import MatrixInfo
from sparsity_roofline.bench.matrices.derived import Pruned
from sparsity_roofline.bench.matrices.seeded import SeededLayers
from sparsity_roofline.model.networks import Layer, load
from sparsity_roofline.model.pattern import DENSE

TRANSFORMER = {
    "body_encoder_layer_0_self_attention_multihead_attention_q": "self_attention_q",
    "body_encoder_layer_0_ffn_conv1": "ffn_conv1",
    "body_encoder_layer_0_ffn_conv2": "ffn_conv2",
}
"""One layer for each shape of the transformer, under a short name. The shared embedding, 33288 x 512, is left out: it
would take longer than all the rest."""

PATTERNS = ("unstructured", "block16x16", "block32x32", "block64x64", "2:4")
SPARSITIES = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98)


def shapes() -> list[MatrixInfo]:
    """The unpruned layers: ResNet-50's first of each distinct M x K x columns, and those of ``TRANSFORMER``."""
    chosen: dict[tuple[str, int, int, int], tuple[str, Layer]] = {}
    for layer in load("resnet50"):
        chosen.setdefault(("resnet50", layer.M, layer.K, layer.columns), (layer.layer, layer))
    for layer in load("transformer"):
        if layer.layer in TRANSFORMER:
            chosen["transformer", layer.M, layer.K, layer.columns] = (TRANSFORMER[layer.layer], layer)
    return [
        MatrixInfo(
            f"{layer.network}/{name}",
            layer.M,
            layer.K,
            layer.M * layer.K,
            pattern=DENSE,
            network=layer.network,
            layer=name,
            columns_per_image=layer.columns if layer.per == "image" else None,
            synthetic=True,
        )
        for name, layer in chosen.values()
    ]


def builtin(patterns: Sequence[str] = (), sparsities: Sequence[float] = (), seed: int = 0) -> Pruned:
    """The built-in collection, by default with all its patterns and sparsities."""
    return Pruned(
        SeededLayers("builtin", "builtin", shapes(), seed), patterns or PATTERNS, sparsities or SPARSITIES, seed
    )
