"""Whole networks: parameters and operations against published figures, hand-worked attention, the cap, properties."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsity_roofline.model import hardware, networks
from sparsity_roofline.model.assumed import change
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.networks.others import attention, elementwise, parameters
from sparsity_roofline.model.networks.whole import KEPT_DENSE, Workload, attention_cost, columns, whole
from sparsity_roofline.model.pattern import Pattern

ROOT = Path(__file__).resolve().parents[2]
H100 = hardware.datasheet("h100")
TWO_FOUR = Pattern.parse("2:4")

# Millions, as the model libraries' own counts and the papers print them.
PUBLISHED = {
    "resnet50": 25.56, "convnext_tiny": 28.59, "convnext_base": 88.59, "deit_small": 22.05, "deit_base": 86.57,
    "vit_base": 86.57, "swin_tiny": 28.29, "swin_base": 87.77, "mixer_b16": 59.88, "bert_base": 109.48,
    "bert_large": 335.14, "gpt2": 124.44, "llama3_8b": 8030.26, "llama3_70b": 70553.71,
}  # fmt: skip


def test_parameters_are_the_published_ones() -> None:
    assert {name: round(p.parameters / 1e6, 2) for name, p in parameters().items()} == PUBLISHED


@pytest.mark.parametrize("name", PUBLISHED)
def test_tables_hold_every_weight_of_a_product(name: str) -> None:
    about = parameters()[name]
    assert about.products + about.embeddings + about.rest == about.parameters
    held = sum(layer.M * layer.K * layer.groups * layer.count for layer in networks.load(name) if layer.op != "bmm")
    # The pooler of BERT sees one token of a sequence and is left out; GPT-2's head is its embedding.
    missing = {"bert_base": 768**2, "bert_large": 1024**2, "gpt2": -50257 * 768}.get(name, 0)
    assert held + missing == about.products


@pytest.mark.parametrize(
    ("name", "tokens", "gflop"),
    [("llama3_8b", 128, 1929.8), ("llama3_70b", 128, 17835.4), ("gpt2", 128, 32.23), ("bert_base", 128, 22.35),
     ("bert_large", 128, 78.92)],
)  # fmt: skip
def test_operations_of_a_prefill_are_the_published_ones(name: str, tokens: int, gflop: float) -> None:
    """FLOP counters run the head for every token and give no causal discount."""
    work = Workload("prefill", 1, tokens, all_logits=True)
    found = whole(name, work, TWO_FOUR, 0.5, "bf16", H100)
    discount = 0.0
    for row in attention(name):
        _, kernels = attention_cost(replace(row, causal=False), work, 2)
        runs, own = attention_cost(row, work, 2)
        discount += runs * (kernels[0][0] - own[0][0])
    pooler = {"bert_base": 2 * 768**2, "bert_large": 2 * 1024**2}.get(name, 0)
    total = sum(part.flops for part in found.parts) + discount + pooler
    assert total / 1e9 == pytest.approx(gflop, rel=2e-4)


@pytest.mark.parametrize(
    ("name", "gflop"), [("deit_base", 35.128), ("swin_tiny", 8.981), ("swin_base", 30.862), ("resnet50", 8.178)]
)
def test_operations_of_an_image_are_the_published_ones(name: str, gflop: float) -> None:
    found = whole(name, Workload("image", 3), TWO_FOUR, 0.5, "fp16", H100)
    assert sum(part.flops for part in found.parts) / 3e9 == pytest.approx(gflop, abs=0.0006)


def test_attention_is_hand_worked() -> None:
    """Llama-3-8B: 32 heads, 8 of keys and values, of size 128; 3 sequences of 10 tokens, 2 bytes an element."""
    (row,) = attention("llama3_8b")
    runs, kernels = attention_cost(row, Workload("prefill", 3, 10), 2)
    # causal pairs 10 + 9 + ... = 55; Q and the result are 32 * 10 * 128 each, K and V 8 * 10 * 128 each
    assert runs == 32 * 3
    assert kernels == [(4 * 32 * 128 * 55, 2 * (2 * 40960 + 2 * 10240))]
    # decode: one query sees all 10
    assert attention_cost(row, Workload("decode", 3, 10), 2)[1] == [(4 * 32 * 128 * 10, 2 * (2 * 4096 + 2 * 10240))]
    # three kernels: the 32 * 10 * 10 scores are written and read twice
    _, apart = attention_cost(row, Workload("prefill", 3, 10, "materialised"), 2)
    assert apart == [
        (2 * 32 * 128 * 55, 2 * (40960 + 10240 + 3200)), (0.0, 2 * 2 * 3200), (2 * 32 * 128 * 55, 2 * 54400)
    ]  # fmt: skip
    assert sum(q for _, q in apart) - kernels[0][1] == 2 * 4 * 3200
    # Swin: 64 windows of 49 tokens, whatever the sequence
    first = attention("swin_tiny")[0]
    assert attention_cost(first, Workload("image", 5), 2)[0] == 64 * 5 * 2
    assert attention_cost(first, Workload("image", 5), 2)[1][0][0] == 4 * 3 * 32 * 49**2


def test_a_whole_network_is_hand_worked() -> None:
    """ConvNeXt-T on a machine of one byte a second: everything is traffic, so shares are those of bytes."""
    slow = change(H100, {"dram_bandwidth": 1.0})
    work = Workload("image", 1, separate=True)
    found = whole("convnext_tiny", work, TWO_FOUR, 0.5, "fp16", slow)
    layers = {layer.layer: layer for layer in networks.load("convnext_tiny")}
    stem = layers["stem.0"]
    # real input of the stem: 3 x 224 x 224 elements, not K N of its im2col matrix; and the head
    expected = 2 * (96 * 48 + 150528 + 96 * 3136) + 2 * (1000 * 768 + 768 + 1000)
    assert stem.K * stem.columns == 150528  # a stem whose patches do not overlap: both are equal
    assert found.part("kept dense").dense_s == expected
    moved = 2 * sum((row.read + row.written) * row.count for row in elementwise("convnext_tiny"))
    assert found.part("elementwise").dense_s == moved
    depthwise = [layer for layer in layers.values() if layer.op == "depthwise"]
    assert found.part("depthwise").dense_s == sum(
        2 * (49 + layer.input_elements + layer.columns) * layer.groups * layer.count for layer in depthwise
    )
    total = sum(part.dense_s for part in found.parts)
    assert found.dense_s == pytest.approx(total)
    assert sum(found.share(part.name) for part in found.parts) == pytest.approx(1)
    prunable = found.part("prunable")
    assert found.speedup == pytest.approx(total / (total - prunable.dense_s + prunable.sparse_s))
    assert found.cap == pytest.approx(total / (total - prunable.dense_s))
    assert found.part("attention").launches == 0


def test_convolutions_are_charged_their_real_input() -> None:
    slow = change(H100, {"dram_bandwidth": 1.0})
    found = whole("resnet50", Workload("image", 2), TWO_FOUR, 0.5, "fp16", slow, kept_dense=())
    layers = networks.load("resnet50")
    bytes_ = sum(2 * (x.M * x.K + 2 * (x.input_elements or x.K * x.columns) + 2 * x.M * x.columns) for x in layers)
    assert found.part("prunable").dense_s == bytes_


def test_floors_are_added_once_a_launch() -> None:
    plain = whole("gpt2", Workload("prefill", 1, 64), TWO_FOUR, 0.5, "fp16", H100)
    floored = whole("gpt2", Workload("prefill", 1, 64), TWO_FOUR, 0.5, "fp16", H100, floor_s=1e-5)
    launches = 12 * 4 + 1 + 12  # weight layers, head, one attention kernel a block
    assert sum(part.launches for part in plain.parts) == launches
    assert floored.dense_s == pytest.approx(plain.dense_s + launches * 1e-5)
    assert 1 < floored.speedup < plain.speedup


def test_who_stays_dense() -> None:
    names = {layer.layer for name in networks.names() for layer in networks.load(name)}
    from fnmatch import fnmatchcase

    kept = {name for name in names if any(fnmatchcase(name, glob) for glob in KEPT_DENSE)}
    assert kept == {"initial_conv", "stem.0", "stem.proj", "patch_embed.proj", "head", "head.fc", "final_dense",
                    "lm_head"}  # fmt: skip
    layer = next(x for x in networks.load("gpt2") if x.layer == "lm_head")
    assert columns(layer, Workload("prefill", 3, 100)) == 3
    assert columns(layer, Workload("prefill", 3, 100, all_logits=True)) == 300


@pytest.mark.parametrize(
    ("name", "work", "said"),
    [("gpt2", Workload("image"), "tokens"), ("resnet50", Workload("decode"), "images"),
     ("gpt3", Workload("decode"), "unknown network")],
)  # fmt: skip
def test_phases_that_a_network_does_not_have(name: str, work: Workload, said: str) -> None:
    with pytest.raises(UserError, match=said):
        whole(name, work, TWO_FOUR, 0.5, "fp16", H100)


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"tokens": 0}, {"batch": 2**31}])
def test_workloads_that_are_none(wrong: dict[str, int]) -> None:
    with pytest.raises(UserError, match="between 1"):
        Workload("prefill", **wrong)


language = st.sampled_from(["gpt2", "bert_base", "llama3_8b"])


@settings(max_examples=30)
@given(language, st.integers(1, 64), st.integers(1, 10**5), st.floats(0, 0.98), st.sampled_from(["prefill", "decode"]))
def test_a_network_gains_no_more_than_its_layers_and_its_cap(
    name: str, batch: int, tokens: int, sparsity: float, phase: str
) -> None:
    block = Pattern.parse("block16")
    found = whole(name, Workload(phase, batch, tokens), block, sparsity, "fp16", H100)  # type: ignore[arg-type]
    more = whole(name, Workload(phase, batch, tokens), block, (1 + sparsity) / 2, "fp16", H100)  # type: ignore[arg-type]
    assert found.speedup <= found.cap
    assert min(1.0, found.layer_speedup) * (1 - 1e-9) <= found.speedup <= max(1.0, found.layer_speedup) * (1 + 1e-9)
    assert more.speedup >= found.speedup * (1 - 1e-9)


@settings(max_examples=30)
@given(language, st.integers(1, 16), st.integers(1, 20000), st.floats(1, 8))
def test_longer_sequences_gain_less_and_wider_memory_is_faster(
    name: str, batch: int, tokens: int, times: float
) -> None:
    short, long = (whole(name, Workload("decode", batch, t), TWO_FOUR, 0.5, "fp16", H100) for t in (tokens, 2 * tokens))
    assert long.speedup <= short.speedup * (1 + 1e-12)
    assert long.share("attention") >= short.share("attention")
    wide = change(H100, {"dram_bandwidth": f"x{times}"})
    assert whole(name, Workload("decode", batch, tokens), TWO_FOUR, 0.5, "fp16", wide).dense_s <= short.dense_s
    fused, apart = (
        whole(name, Workload("prefill", batch, tokens, how), TWO_FOUR, 0.5, "fp16", H100)  # type: ignore[arg-type]
        for how in ("fused", "materialised")
    )
    assert fused.dense_s <= apart.dense_s


@pytest.mark.slow
def test_tables_are_what_the_libraries_give() -> None:
    """Regenerates every table on the meta device and compares."""
    for name in ("timm", "transformers", "torchvision"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed: pip install timm transformers torchvision to run this check")
    command = [sys.executable, str(ROOT / "tools" / "network_tables.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
