"""Layer tables: sums that other tools print for the same networks, and the arrays made of them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from sparsity_roofline.model import networks
from sparsity_roofline.model.errors import UserError

# GFLOP (2 x MAC) at batch 1 and 224 x 224, and Linear and Conv modules, as FLOP counters print them for the common
# implementations.
VISION = {
    "resnet50": (8.178, 54),
    "convnext_tiny": (8.911, 59),
    "convnext_base": (30.709, 113),
    "deit_small": (9.198, 50),
    "deit_base": (35.128, 50),
    "vit_base": (35.128, 50),
    "swin_tiny": (8.981, 53),
    "swin_base": (30.862, 101),
    "mixer_b16": (25.204, 50),
}
# The same for one sequence of 128 tokens with attention: GFLOP, modules, hidden size, blocks; and pooler modules that
# see one token of the sequence and are left out of the tables.
LANGUAGE = {
    "llama3_8b": (1929.8, 225, 4096, 32, 0),
    "llama3_70b": (17835.4, 561, 8192, 80, 0),
    "gpt2": (32.23, 49, 768, 12, 0),
    "bert_base": (22.35, 73, 768, 12, 1),
    "bert_large": (78.92, 145, 1024, 24, 1),
}


def test_every_table_is_known_here() -> None:
    assert set(networks.names()) == {*VISION, *LANGUAGE, "transformer"}


@pytest.mark.parametrize(("name", "gflop", "modules"), [(k, *v) for k, v in VISION.items()])
def test_vision_networks_sum_to_their_published_work(name: str, gflop: float, modules: int) -> None:
    layers = networks.load(name)
    assert sum(layer.flops() for layer in layers) / 1e9 == pytest.approx(gflop, abs=0.0006)
    assert sum(layer.count for layer in layers if layer.op != "bmm") == modules
    assert {layer.per for layer in layers} == {"image"}


@pytest.mark.parametrize(("name", "figures"), LANGUAGE.items())
def test_language_models_sum_to_their_published_work(name: str, figures: tuple[float, int, int, int, int]) -> None:
    gflop, modules, hidden, blocks, poolers = figures
    layers = networks.load(name)
    tokens = 128
    linear = sum(layer.flops(tokens) for layer in layers)
    # Scores and values of attention, no causal discount: 2 x 2 tokens^2 hidden in each block.
    attention = blocks * 4 * tokens**2 * hidden
    pooler = poolers * 2 * hidden**2
    assert (linear + attention + pooler) / 1e9 == pytest.approx(gflop, rel=2e-4)
    assert sum(layer.count for layer in layers) + poolers == modules
    assert {layer.op for layer in layers} == {"linear"}


def test_resnet50_has_the_shapes_of_the_matrix_collection() -> None:
    count = Counter((layer.M, layer.K) for layer in networks.load("resnet50"))
    assert count == {
        (64, 64): 1, (64, 147): 1, (64, 256): 2, (64, 576): 3, (128, 256): 1, (128, 512): 3, (128, 1152): 4,
        (256, 64): 4, (256, 512): 1, (256, 1024): 5, (256, 2304): 6, (512, 128): 4, (512, 256): 1, (512, 1024): 1,
        (512, 2048): 2, (512, 4608): 3, (1000, 2048): 1, (1024, 256): 6, (1024, 512): 1, (2048, 512): 3,
        (2048, 1024): 1,
    }  # fmt: skip
    assert networks.load("resnet50")[0].layer == "initial_conv"
    assert networks.load("resnet50")[0].columns == 112 * 112


def test_transformer_has_the_shapes_of_the_matrix_collection() -> None:
    layers = networks.load("transformer")
    count = Counter((layer.M, layer.K) for layer in layers)
    assert count == {(512, 512): 72, (512, 2048): 12, (2048, 512): 12, (33288, 512): 1}
    assert len({layer.layer for layer in layers}) == 97


@pytest.mark.parametrize("name", networks.names())
def test_rows_are_sane(name: str) -> None:
    for layer in networks.load(name):
        assert layer.network == name
        assert min(layer.M, layer.K, layer.columns, layer.groups, layer.count) >= 1
        assert layer.op in ("conv", "depthwise", "linear", "bmm")
        assert (layer.input_elements is not None) == (layer.op in ("conv", "depthwise"))
        assert layer.groups == 1 or layer.op in ("depthwise", "bmm")
        assert len(layer.source) > 10
        assert layer.prunable == (layer.op in ("conv", "linear"))


@pytest.mark.parametrize("name", networks.names())
@pytest.mark.parametrize("batch", [1, 7])
def test_arrays_hold_the_whole_network(name: str, batch: int) -> None:
    layers = networks.load(name)
    s = networks.shapes(layers, batch)
    work = 2.0 * s["M"] * s["K"] * s["N"] * s["times"]
    assert work.tolist() == [float(layer.flops(batch)) for layer in layers]
    convs = [layer.op in ("conv", "depthwise") for layer in layers]
    assert (~np.isnan(s["conv_input"])).tolist() == convs


def test_attention_repeats_instead_of_growing_wider() -> None:
    layers = networks.load("deit_small")
    one, many = networks.shapes(layers, 1), networks.shapes(layers, 10)
    scores = [layer.layer for layer in layers].index("blocks.attn.scores")
    assert many["N"][scores] == one["N"][scores] == 197
    assert many["times"][scores] == 10 * one["times"][scores] == 10 * 12 * 6
    assert many["N"][scores - 1] == 10 * one["N"][scores - 1]
    assert many["times"][scores - 1] == one["times"][scores - 1]


def test_im2col_never_charges_less_than_a_strided_convolution_reads() -> None:
    """K N covers the input tensor except where a stride skips input: 1 x 1 convolutions with stride 2."""
    strided = []
    for layer in networks.load("resnet50"):
        if layer.input_elements is not None and layer.K * layer.columns < layer.input_elements:
            strided.append(layer.layer)
            assert layer.K * layer.columns * 4 == layer.input_elements
    assert strided == [f"bottleneck_projection_block_group_projection_block_group{g}" for g in (2, 3, 4)]


def test_unknown_names_and_batches() -> None:
    assert networks.load("ResNet-50") == networks.load("resnet50")
    assert networks.find("llama-3-8b") == networks.find("Llama 3 8B") == "llama3_8b"
    with pytest.raises(UserError, match="resnet50"):
        networks.load("resnet-51")
    with pytest.raises(UserError, match="unknown network"):
        networks.load("../networks/resnet50")
    with pytest.raises(UserError, match="below 1"):
        networks.shapes(networks.load("gpt2"), 0)
    assert networks.shapes([], 1)["M"].shape == (0,)
