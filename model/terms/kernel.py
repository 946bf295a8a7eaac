"""What the model knows of a kernel: its tiles and habits, read from ``kernels.toml``."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import numpy as np

from sparsity_roofline.model.dtype import DTYPES, Unit
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.terms.tiles import Tiling, accumulators_held

STAND_INS = {"dense": "dense.cublas", "csr": "csr.triton", "bsr": "bsr.triton", "nm": "nm.cusparselt"}
"""Whose description stands for a format where no kernel is named, or one that has no description."""


@dataclass(frozen=True, eq=False)
class KernelModel:
    """One kernel as the model sees it; keys as in ``kernels.toml``.

    Attributes:
        name, format: as in the registry of kernels.
        unit: ``own`` or ``cuda``.
        tiles: (BM, BN, BK) by unit.
        split, decodes, resident, alignment, stores, strip, panels, product, tile: see ``kernels.toml``.
    """

    name: str
    format: str
    unit: Literal["own", "cuda"]
    tiles: Mapping[str, tuple[tuple[int, int, int], ...]]
    split: tuple[int, ...] = (1,)
    decodes: bool = False
    resident: int = 0
    alignment: Literal["bytes", "triton"] = "bytes"
    stores: Literal["format", "bitmap"] = "format"
    strip: int = 0
    panels: bool = False
    product: str | None = None
    tile: Mapping[str, str | float] | None = None

    def runs_on(self, dtype: str) -> Unit:
        """The unit of its arithmetic in a dtype."""
        return "cuda" if self.unit == "cuda" else DTYPES[dtype].unit

    def candidates(self, dtype: str) -> Tiling:
        """Its tiles and splits in a dtype, arrays of shape (1, candidates)."""
        own: str = self.runs_on(dtype)
        unit = own if own in self.tiles else next(iter(self.tiles))
        grid = [(m, n, k, s) for m, n, k in self.tiles[unit] for s in self.split]
        BM, BN, BK, split = (np.asarray(column, dtype=np.float64)[None, :] for column in zip(*grid, strict=True))
        held = np.full_like(BM, self.resident) if self.resident else accumulators_held(BM, BN)
        return Tiling(BM, BN, BK, split, held)


@cache
def kernels() -> dict[str, KernelModel]:
    """Every described kernel by name."""
    text = files("sparsity_roofline.model").joinpath("terms/kernels.toml").read_text(encoding="utf-8")
    return {name: _read(name, data) for name, data in tomllib.loads(text).items()}


def describe(name: str | None, format: str) -> KernelModel:
    """The description of a kernel, or that of its format's stand-in.

    Raises:
        UserError: a kernel of another format, or a format that no kernel is described for.
    """
    if name is not None and name in kernels():
        found = kernels()[name]
        if found.format != format:
            raise UserError(f"kernel {name} multiplies {found.format}, not {format}")
        return found
    if format not in STAND_INS:
        raise UserError(f"no kernel is described for {format}: choose a format of {', '.join(STAND_INS)}")
    return kernels()[STAND_INS[format]]


def _read(name: str, data: dict[str, Any]) -> KernelModel:
    by_unit = {unit: data.pop(unit) for unit in ("tensor", "cuda") if unit in data}
    return KernelModel(
        name=name,
        tiles={
            unit: tuple((int(m), int(n), int(*rest or (made["BK"],))) for m, n, *rest in made["tiles"])
            for unit, made in by_unit.items()
        },
        split=tuple(data.pop("split", (1,))),
        **data,
    )
