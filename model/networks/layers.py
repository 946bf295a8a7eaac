"""Layer tables of real networks, kept as CSV files beside this module, and the arrays a prediction needs of them."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sparsity_roofline.model.errors import UserError

Op = Literal["conv", "depthwise", "linear", "bmm"]

_PACKAGE = "sparsity_roofline.model.networks"


@dataclass(frozen=True)
class Layer:
    """One layer shape of a network, as Y = W @ X with W: M x K and X: K x columns.

    Attributes:
        network, layer: names; ``layer`` as the source or the common implementation spells it.
        op: ``conv`` (explicit or implicit GEMM, K = C_in R S), ``depthwise``, ``linear``, or ``bmm`` (two activations,
            as in attention: there is no weight to prune).
        M, K: shape of W; of one group where ``groups`` > 1.
        columns: columns of X for one image or one token.
        per: what ``columns`` counts by: ``image`` or ``token``.
        groups: independent products of this shape (channels of a depthwise conv, heads and windows of attention).
        count: layers of this shape in the network.
        input_elements: elements of one image's real input tensor (of one group) of a convolution, else None.
        source: where the shape was read.
    """

    network: str
    layer: str
    op: Op
    M: int
    K: int
    columns: int
    per: Literal["image", "token"]
    groups: int
    count: int
    input_elements: int | None
    source: str

    @property
    def prunable(self) -> bool:
        """True if it multiplies by a weight that is pruned in practice: not attention products, not depthwise."""
        return self.op in ("conv", "linear")

    def flops(self, batch: int = 1) -> int:
        """Operations of all ``count`` layers for ``batch`` images or tokens; multiply and add counted as two."""
        return 2 * self.M * self.K * self.columns * self.groups * self.count * batch


def names() -> list[str]:
    """Networks that have a table, sorted."""
    entries = files(_PACKAGE).iterdir()
    return sorted(entry.name.removesuffix(".csv") for entry in entries if entry.name.endswith(".csv"))


def find(name: str) -> str:
    """The table's name for what a user typed: any case, any separators (``llama-3-8b`` is ``llama3_8b``).

    Raises:
        UserError: a name that is not in ``names()``.
    """
    plain = {re.sub(r"[^a-z0-9]", "", known): known for known in names()}
    found = plain.get(re.sub(r"[^a-z0-9]", "", name.lower())) if re.fullmatch(r"[\w .:-]+", name) else None
    if found is None:
        raise UserError(f"unknown network {name!r}: choose one of {', '.join(names())}")
    return found


@cache
def _load(name: str) -> tuple[Layer, ...]:
    text = files(_PACKAGE).joinpath(f"{name}.csv").read_text(encoding="utf-8")
    layers = []
    for row in csv.DictReader(text.splitlines()):
        numbers: dict[str, Any] = {key: int(row.pop(key)) for key in ("M", "K", "columns", "groups", "count")}
        elements = row.pop("input_elements")
        rest: dict[str, Any] = dict(row)
        layers.append(Layer(**numbers, input_elements=int(elements) if elements else None, **rest))
    return tuple(layers)


def load(name: str) -> list[Layer]:
    """The layers of a network, in the order of its forward pass where the source gives one.

    Raises:
        UserError: see ``find``.
    """
    return list(_load(find(name)))


def shapes(layers: Sequence[Layer], batch: int = 1) -> dict[str, npt.NDArray[Any]]:
    """The layers as arrays, one row each, for ``CaseTable.from_columns`` and ``roofline``.

    A weight layer sees ``batch`` times its columns; a bmm happens ``batch`` times, since its operands differ for
    every image.

    Returns:
        ``M``, ``K``, ``N`` (int64); ``times``, how often each product runs (float64: the weights of
        ``roofline.totals``); ``prunable`` (bool); ``conv_input``, elements of the real input tensor of the whole
        batch (float64, NaN where the layer is no convolution).

    Raises:
        UserError: a batch below 1 or beyond 2^31 - 1.
    """
    if batch < 1:
        raise UserError(f"batch {batch} is below 1")
    if batch >= 2**31:
        raise UserError(f"batch {batch} is above 2^31 - 1")
    bmm = np.array([layer.op == "bmm" for layer in layers], dtype=bool)
    columns = np.array([layer.columns for layer in layers], dtype=np.int64)
    products = np.array([layer.groups * layer.count for layer in layers], dtype=np.float64)
    real = np.array([np.nan if x.input_elements is None else x.input_elements for x in layers], dtype=np.float64)
    return {
        "M": np.array([layer.M for layer in layers], dtype=np.int64),
        "K": np.array([layer.K for layer in layers], dtype=np.int64),
        "N": np.where(bmm, columns, columns * batch),
        "times": np.where(bmm, products * batch, products),
        "prunable": np.array([layer.prunable for layer in layers], dtype=bool),
        "conv_input": real * batch,
    }
