"""The rule: among the measured cells nearest to a case, the kernel that lost least.

``table.csv`` holds one row per (cell, kernel) of a run: how many times slower the kernel was than the fastest of all.
``python -m sparsity_roofline.validation.auto RUN...`` makes it from records and tells how well the rule does on shapes
that are left out.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

from sparsity_roofline.model.case import Case

NEIGHBOURS = 5
SOFTENING = 0.5
"""Added to distances, in doublings: two cells that are equally far but for a hair count the same."""

UNSEEN = math.log(1.5)
"""Loss assumed of a kernel in a cell where it was not measured."""

WEIGHTS = (0.5, 0.5, 1.0, 1.0, 1.0)
"""Of a doubling of M, K, N, density and block rows in the distance: N and density move the choice most."""

STAND_IN = {"bf16": "fp16", "fp16": "bf16", "tf32": "fp32", "fp32": "tf32", "fp64": "fp32"}
"""Whose cells are asked where a dtype has none."""

COLUMNS = ("format", "dtype", "M", "K", "N", "density", "block", "kernel", "slowdown")
Features = tuple[float, float, float, float, float]


@dataclass(frozen=True)
class Cell:
    """A measured cell.

    Attributes:
        features: of the case, see ``features``.
        loss: by kernel, ln(time / fastest time), 0 for the fastest.
        shape: (M, K), by which cells are left out together.
    """

    features: Features
    loss: Mapping[str, float] = field(default_factory=dict)
    shape: tuple[int, int] = (0, 0)


def features(M: int, K: int, N: int, density: float, block: int) -> Features:
    """log2 of M, K, N, the stored density and the rows of a block (1 without blocks)."""
    return (math.log2(max(M, 1)), math.log2(max(K, 1)), math.log2(max(N, 1)), math.log2(max(density, 1e-6)),
            math.log2(max(block, 1)))  # fmt: skip


def of_case(case: Case) -> Features:
    """Features of a case: what its format stores counts as density."""
    size = max(case.M * case.K, 1)
    return features(case.M, case.K, case.N, case.stored_elements / size, case.block_rows)


def choose(case: Case, candidates: Sequence[str], cells: Sequence[Cell] | None = None) -> str:
    """The candidate with the least expected loss; the first of them where nothing was measured of its format.

    Args:
        case: what is multiplied.
        candidates: names of kernels that take it, in order of preference among equals.
        cells: measured cells of its format and dtype; by default those of ``table.csv``.
    """
    known = measured(case.format, case.dtype) if cells is None else cells
    near = nearest(of_case(case), known)
    if not near:
        return candidates[0]
    return min(candidates, key=lambda name: _expected(name, near))


def nearest(wanted: Features, cells: Sequence[Cell]) -> list[tuple[float, Cell]]:
    """The ``NEIGHBOURS`` nearest cells, each with its weight."""
    ranked = sorted(((_distance(wanted, cell.features), i) for i, cell in enumerate(cells)))[:NEIGHBOURS]
    return [(1.0 / (distance + SOFTENING) ** 2, cells[i]) for distance, i in ranked]


def measured(format: str, dtype: str) -> Sequence[Cell]:
    """Cells of ``table.csv`` for a format and dtype, or for the dtype's stand-in."""
    table = _table()
    return table.get((format, dtype)) or table.get((format, STAND_IN.get(dtype, "")), [])


def read(lines: Iterable[str]) -> dict[tuple[str, str], list[Cell]]:
    """Cells by (format, dtype) from the text of a table."""
    losses: dict[tuple[str, str, int, int, int, float, int], dict[str, float]] = {}
    for row in csv.DictReader(lines):
        M, K, N, block = (int(row[name]) for name in ("M", "K", "N", "block"))
        key = (row["format"], row["dtype"], M, K, N, float(row["density"]), block)
        losses.setdefault(key, {})[row["kernel"]] = math.log(float(row["slowdown"]))
    found: dict[tuple[str, str], list[Cell]] = {}
    for (format, dtype, M, K, N, density, block), loss in losses.items():
        found.setdefault((format, dtype), []).append(Cell(features(M, K, N, density, block), loss, (M, K)))
    return found


@cache
def _table() -> dict[tuple[str, str], list[Cell]]:
    text = files("sparsity_roofline.kernels").joinpath("auto/table.csv").read_text(encoding="utf-8")
    return read(text.splitlines())


def _expected(name: str, near: Sequence[tuple[float, Cell]]) -> float:
    total = sum(weight for weight, _ in near)
    return sum(weight * cell.loss.get(name, UNSEEN) for weight, cell in near) / total


def _distance(a: Features, b: Features) -> float:
    return math.sqrt(sum((w * (x - y)) ** 2 for w, x, y in zip(WEIGHTS, a, b, strict=True)))
