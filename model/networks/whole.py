"""A whole network's time when only its prunable layers are sparse: how far attention and other dense work cap the gain.

Every part runs at the speed of light of its own traffic and work (plain model, one after the other):

- weight layers: ``roofline.predict``; a convolution is charged its real input (implicit GEMM);
- attention of one sequence, T queries on L keys, h heads of size d, g heads of keys and values, b bytes an element:
  operations 4 h d p with p = T L pairs (causal: T L - T (T - 1) / 2). ``fused`` moves b (2 h T d + 2 g L d): Q, K, V
  and the result, once, as FlashAttention does (Dao et al., arXiv 2205.14135). ``materialised`` is three kernels,
  scores, softmax and values, that also write and read the h T L scores: b (h T d + g L d + h T L), b 2 h T L and
  b (h T L + g L d + h T d);
- element-wise layers: b (read + written), each a kernel of its own (``separate``), or nothing (``fused`` into the
  products' epilogues): the truth is between the two.

The gain is capped at all / (all - sparse part's dense time) however sparse the weights are (Amdahl).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, get_args

import numpy as np

from sparsity_roofline.model import roofline
from sparsity_roofline.model.ceilings import Ceilings
from sparsity_roofline.model.cost import CostOptions
from sparsity_roofline.model.dtype import dtype as lookup_dtype
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.expect import expected_case
from sparsity_roofline.model.networks.layers import Layer, load
from sparsity_roofline.model.networks.others import Attention, Elementwise, attention, elementwise
from sparsity_roofline.model.pattern import DENSE, Pattern
from sparsity_roofline.model.table import CaseTable

Phase = Literal["image", "prefill", "decode"]
Fusion = Literal["fused", "materialised"]

KEPT_DENSE = ("initial_conv", "stem*", "patch_embed*", "head*", "final_dense", "lm_head")
"""Layers that pruning leaves dense by custom: the first one and the output head. Globs of layer names."""

PLAIN = CostOptions(conv_input="real")
"""The paper's charges, with a convolution's real input."""


@dataclass(frozen=True)
class Workload:
    """What a network is asked to do.

    Attributes:
        phase: ``image`` (image networks); ``prefill``: ``batch`` sequences of ``tokens`` tokens at once; ``decode``:
            one further token of each, after ``tokens`` tokens.
        batch: images or sequences.
        tokens: length of a sequence; not used by images.
        fusion: how attention runs, see the module's text.
        separate: charge element-wise layers as kernels of their own.
        all_logits: in a prefill, the output head runs for every token, as FLOP counters have it; else for the last one.
    """

    phase: Phase
    batch: int = 1
    tokens: int = 1
    fusion: Fusion = "fused"
    separate: bool = False
    all_logits: bool = False

    def __post_init__(self) -> None:
        for name, choice in (("phase", Phase), ("fusion", Fusion)):
            if getattr(self, name) not in get_args(choice):
                raise UserError(f"{name} {getattr(self, name)!r}: choose one of {', '.join(get_args(choice))}")
        for name in ("batch", "tokens"):
            value = getattr(self, name)
            if not 1 <= value < 2**31:
                raise UserError(f"{name} {value} is not between 1 and 2^31 - 1")


@dataclass(frozen=True)
class Part:
    """One kind of work: seconds with dense and sparse weights, operations and bytes with dense ones, launches.

    ``name`` is prunable, kept dense, depthwise, attention or elementwise.
    """

    name: str
    dense_s: float
    sparse_s: float
    flops: float
    bytes: float
    launches: float


@dataclass(frozen=True)
class Whole:
    """A network's parts and what they add up to.

    Attributes:
        parts: by kind of work, those that take time.
        floor_s: launch floor added once a launch on both sides.
    """

    parts: tuple[Part, ...]
    floor_s: float = 0.0

    def _sum(self, what: Callable[[Part], float]) -> float:
        return float(sum(what(part) for part in self.parts))

    @property
    def dense_s(self) -> float:
        """All parts with dense weights, floors included."""
        return self._sum(lambda part: part.dense_s + part.launches * self.floor_s)

    @property
    def sparse_s(self) -> float:
        """All parts with sparse prunable weights, floors included."""
        return self._sum(lambda part: part.sparse_s + part.launches * self.floor_s)

    @property
    def speedup(self) -> float:
        """Of the whole network."""
        return self.dense_s / self.sparse_s

    def part(self, name: str) -> Part:
        """A part by name, empty where the network has none."""
        empty = Part(name, 0.0, 0.0, 0.0, 0.0, 0.0)
        return next((part for part in self.parts if part.name == name), empty)

    def share(self, name: str) -> float:
        """A part's share of the dense time."""
        part = self.part(name)
        return (part.dense_s + part.launches * self.floor_s) / self.dense_s

    @property
    def layer_speedup(self) -> float:
        """Of the prunable layers alone: what a prediction of layers promises."""
        part = self.part("prunable")
        sparse = part.sparse_s + part.launches * self.floor_s
        return (part.dense_s + part.launches * self.floor_s) / sparse if sparse else float("nan")

    @property
    def cap(self) -> float:
        """The gain if prunable layers took no time at all."""
        rest = self.dense_s - self.part("prunable").dense_s
        return self.dense_s / rest if rest > 0 else float("inf")


def whole(
    network: str,
    work: Workload,
    pattern: Pattern,
    sparsity: float,
    dtype: str,
    ceilings: Ceilings,
    *,
    options: CostOptions = PLAIN,
    kept_dense: Sequence[str] = KEPT_DENSE,
    floor_s: float = 0.0,
) -> Whole:
    """Times of a network's parts, dense and with ``pattern`` in its prunable layers.

    Args:
        network: a name of ``networks.names()``.
        work: what it does.
        pattern, sparsity: of the prunable layers.
        dtype: of all arithmetic.
        ceilings: of the device.
        options: cost options of the weight layers.
        kept_dense: globs of weight layers that stay dense.
        floor_s: launch floor, once a launch.

    Raises:
        UserError: an unknown network, a phase that it does not have, or a dtype without a peak.
    """
    layers = load(network)
    network = layers[0].network
    images = layers[0].per == "image"
    if images != (work.phase == "image"):
        raise UserError(f"{network} has {'images' if images else 'tokens'}: phase {work.phase} does not go with it")
    parts = _weights(layers, work, pattern, sparsity, dtype, ceilings, options, kept_dense)
    b = float(lookup_dtype(dtype).element_bytes)
    peak = ceilings.peak(dtype, ceilings.own_unit(dtype))
    parts.append(_attention(attention(network), work, b, peak, ceilings.dram_bandwidth))
    if work.separate:
        parts.append(_elementwise(elementwise(network), work, b, ceilings.dram_bandwidth))
    return Whole(tuple(part for part in parts if part.dense_s > 0), floor_s)


def columns(layer: Layer, work: Workload) -> int:
    """N of a weight layer: columns of X for the whole workload."""
    if work.phase == "prefill":
        every = work.all_logits or not fnmatchcase(layer.layer, "lm_head")
        return layer.columns * work.batch * (work.tokens if every else 1)
    return layer.columns * work.batch


def _weights(
    layers: Sequence[Layer], work: Workload, pattern: Pattern, sparsity: float, dtype: str, ceilings: Ceilings,
    options: CostOptions, kept_dense: Sequence[str],
) -> list[Part]:  # fmt: skip
    chosen = [layer for layer in layers if layer.op != "bmm"]
    kinds = [_kind(layer, kept_dense) for layer in chosen]
    masks = {True: (pattern, sparsity), False: (DENSE, 0.0)}
    cases = [
        expected_case(layer.M, layer.K, columns(layer, work), *masks[kind == "prunable"], dtype)
        for layer, kind in zip(chosen, kinds, strict=True)
    ]  # fmt: skip
    real = np.array([np.nan if x.input_elements is None else x.input_elements for x in chosen]) * work.batch
    found = roofline.predict(CaseTable.of(cases), ceilings, options=options, conv_input=real)
    out = []
    for name in ("prunable", "kept dense", "depthwise"):
        at = np.array([kind == name for kind in kinds])
        times = np.array([layer.count * layer.groups for layer in chosen], dtype=np.float64) * at
        launches = float(sum(layer.count for layer, here in zip(chosen, at, strict=True) if here))
        dense, sparse, flops, moved = (
            float(np.dot(v, times)) for v in (found.sol_dense_s, found.sol_s, found.flops_dense, found.bytes_dense)
        )
        out.append(Part(name, dense, sparse, flops, moved, launches))
    return out


def _kind(layer: Layer, kept_dense: Sequence[str]) -> str:
    if layer.op == "depthwise":
        return "depthwise"
    return "kept dense" if any(fnmatchcase(layer.layer, glob) for glob in kept_dense) else "prunable"


def attention_cost(row: Attention, work: Workload, element_bytes: float) -> tuple[float, list[tuple[float, float]]]:
    """(how often it runs, [(operations, bytes) of each of its kernels]) of equal attention layers; see the module."""
    L = row.tokens or work.tokens
    T = 1 if work.phase == "decode" else L
    h, g, d, b = row.heads, row.kv_heads, row.head_dim, element_bytes
    pairs = T * L - (T * (T - 1) / 2 if row.causal else 0)
    sides, keys, scores = float(h * T * d), float(g * L * d), float(h * T * L)
    runs = float(row.count * row.windows * work.batch)
    product = 2.0 * h * d * pairs
    if work.fusion == "fused":
        return runs, [(2 * product, b * (2 * sides + 2 * keys))]
    through = b * (sides + keys + scores)
    return runs, [(product, through), (0.0, 2 * b * scores), (product, through)]


def _attention(rows: Sequence[Attention], work: Workload, b: float, peak: float, bandwidth: float) -> Part:
    seconds = flops = moved = launches = 0.0
    for row in rows:
        runs, kernels = attention_cost(row, work, b)
        seconds += runs * sum(max(F / peak, Q / bandwidth) for F, Q in kernels)
        flops += runs * sum(F for F, _ in kernels)
        moved += runs * sum(Q for _, Q in kernels)
        launches += row.count * len(kernels)
    return Part("attention", seconds, seconds, flops, moved, launches)


def _elementwise(rows: Sequence[Elementwise], work: Workload, b: float, bandwidth: float) -> Part:
    units = work.batch * (work.tokens if work.phase == "prefill" else 1)
    moved = sum(b * (row.read + row.written) * row.count * units for row in rows)
    launches = float(sum(row.count for row in rows))
    return Part("elementwise", moved / bandwidth, moved / bandwidth, 0.0, moved, launches)
