"""What a network does beside its weight layers: attention, element-wise work, and how many parameters it has.

Kept as CSV files in ``other/``, made by ``tools/network_tables.py`` together with the layer tables.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

_PACKAGE = "sparsity_roofline.model.networks"


@dataclass(frozen=True)
class Attention:
    """Equal attention layers of a network.

    Attributes:
        network, layer: names.
        heads, kv_heads: of the queries, and of keys and values (fewer where heads share them).
        head_dim: size of one head.
        tokens: of a window or image; None where it is the sequence's length.
        windows: independent windows of one image, else 1.
        causal: each token attends to itself and those before it.
        count: layers like this one.
        source: where it was read.
    """

    network: str
    layer: str
    heads: int
    kv_heads: int
    head_dim: int
    tokens: int | None
    windows: int
    causal: bool
    count: int
    source: str


@dataclass(frozen=True)
class Elementwise:
    """Equal element-wise layers: norms, activations, residual sums, gates, pooling.

    Attributes:
        network: name.
        op: norm, activation, add, mul or pool.
        per: ``image`` or ``token``.
        read, written: elements of one image or token.
        count: layers like this one.
        source: where it was read.
    """

    network: str
    op: str
    per: Literal["image", "token"]
    read: int
    written: int
    count: int
    source: str


@dataclass(frozen=True)
class Parameters:
    """Parameters of a network: all, those of its products, of its embeddings, and the rest (norms, biases, positions).

    An output head that is tied to the embedding counts as embedding.
    """

    network: str
    parameters: int
    products: int
    embeddings: int
    rest: int
    source: str


def _rows(name: str) -> list[dict[str, str]]:
    text = files(_PACKAGE).joinpath(f"other/{name}.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


@cache
def _attention() -> tuple[Attention, ...]:
    return tuple(
        Attention(
            row["network"], row["layer"], int(row["heads"]), int(row["kv_heads"]), int(row["head_dim"]),
            int(row["tokens"]) if row["tokens"] else None, int(row["windows"]), row["causal"] == "1",
            int(row["count"]), row["source"],
        )
        for row in _rows("attention")
    )  # fmt: skip


@cache
def _elementwise() -> tuple[Elementwise, ...]:
    return tuple(
        Elementwise(
            row["network"], row["op"], "image" if row["per"] == "image" else "token", int(row["read"]),
            int(row["written"]), int(row["count"]), row["source"],
        )
        for row in _rows("elementwise")
    )  # fmt: skip


def attention(network: str) -> list[Attention]:
    """The attention layers of a network; none for one without attention or of which no table is kept."""
    return [row for row in _attention() if row.network == network]


def elementwise(network: str) -> list[Elementwise]:
    """The element-wise layers of a network; none where no table is kept."""
    return [row for row in _elementwise() if row.network == network]


@cache
def parameters() -> dict[str, Parameters]:
    """Parameter counts by network."""
    return {
        row["network"]: Parameters(
            row["network"], int(row["parameters"]), int(row["products"]), int(row["embeddings"]), int(row["rest"]),
            row["source"],
        )
        for row in _rows("parameters")
    }  # fmt: skip
