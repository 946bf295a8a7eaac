"""How a file's columns are named: the fields of the schema, where each comes from, and mappings kept as TOML."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from sparsity_roofline.model.cost import CostOptions
from sparsity_roofline.model.dtype import dtype as lookup_dtype
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.terms.kernel import kernels

TIMES = ("time", "dense", "sparse")
"""Stems of the latency fields; each takes a unit as suffix."""

UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
"""Suffixes of latency fields, in seconds."""

FIELDS = (
    "gpu", "dtype", "M", "K", "N", "pattern", "sparsity", "label", "l2",
    *(f"{stem}_{unit}" for stem in TIMES for unit in UNITS),
)  # fmt: skip
"""Every field a file can have; docs/measurements.md says what each means."""

_PACKAGE = "sparsity_roofline.validation.external"
_SIDES = ("dense", "sparse")


@dataclass(frozen=True)
class ColumnMap:
    """Where the fields of the schema come from.

    Attributes:
        columns: field -> the file's column; a field that is left out is the column of its own name, if there is one.
        values: field -> one value for all rows.
        costs: dtype -> side (``dense``, ``sparse``) -> cost options that differ from the preset's.
        kernels: side -> kernel of ``model/terms/kernels.toml`` that stands for what was measured.
        description: what the file is, in a line.
        name: of a mapping that is shipped, or the file it was read from.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, str] = field(default_factory=dict)
    costs: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    kernels: Mapping[str, str] = field(default_factory=dict)
    description: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        for name in (*self.columns, *self.values):
            if name not in FIELDS:
                raise UserError(f"no field {name!r} in the schema of measurements; fields are {', '.join(FIELDS)}")
        for side, kernel in self.kernels.items():
            if side not in _SIDES:
                raise UserError(f"kernels.{side}: a side is dense or sparse")
            if kernel not in kernels():
                raise UserError(
                    f"kernels.{side}: no kernel {kernel!r} is described; choose from {', '.join(kernels())}"
                )
        options = {f.name for f in fields(CostOptions)}
        for dtype, sides in self.costs.items():
            lookup_dtype(dtype)
            for side, given in sides.items():
                if side not in _SIDES:
                    raise UserError(f"costs.{dtype}.{side}: a side is dense or sparse")
                for option in given:
                    if option not in options:
                        raise UserError(
                            f"costs.{dtype}.{side}: no cost option {option!r}; choose from {', '.join(sorted(options))}"
                        )

    def options(self, preset: CostOptions, dtype: str, side: str) -> CostOptions:
        """The preset's cost options with what this mapping says of a dtype and side."""
        given = self.costs.get(dtype, {}).get(side, {})
        return replace(preset, **given) if given else preset

    def with_items(self, columns: Mapping[str, str], values: Mapping[str, str]) -> ColumnMap:
        """This mapping with further columns and values; what is given here wins."""
        kept = {k: v for k, v in self.columns.items() if k not in values}
        constant = {k: v for k, v in self.values.items() if k not in columns}
        return replace(self, columns={**kept, **columns}, values={**constant, **values})


def shipped() -> list[str]:
    """Names of the mappings that come with the program."""
    entries = files(_PACKAGE).iterdir()
    return sorted(entry.name.removesuffix(".toml") for entry in entries if entry.name.endswith(".toml"))


def load(name: str) -> ColumnMap:
    """A mapping by the name of a shipped one, or from a TOML file.

    Raises:
        UserError: no such mapping or file, no TOML, or a table that the schema does not have.
    """
    if name in shipped():
        return _parse(files(_PACKAGE).joinpath(f"{name}.toml").read_text(encoding="utf-8"), name)
    path = Path(name)
    if path.suffix != ".toml":
        raise UserError(f"no mapping {name!r}: name a .toml file or one of {', '.join(shipped())}")
    try:
        return _parse(path.read_text(encoding="utf-8"), name)
    except OSError as error:
        raise UserError(f"cannot read {name}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is not UTF-8 text: {error.reason} at byte {error.start}") from error


def recognise(header: Sequence[str]) -> ColumnMap | None:
    """The shipped mapping whose columns are all in a file's header, where the header is not in the schema's own words.

    The one with the most columns, if several fit.
    """
    present = set(header)
    if {"M", "K", "N"} <= present:
        return None
    fitting = [m for name in shipped() if set((m := load(name)).columns.values()) <= present]
    return max(fitting, key=lambda m: len(m.columns)) if fitting else None


def _parse(text: str, name: str) -> ColumnMap:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{name}: {error}") from error
    unknown = set(data) - {"description", "columns", "values", "costs", "kernels"}
    if unknown:
        raise UserError(f"{name}: unknown key {sorted(unknown)[0]!r}; use columns, values, costs, kernels, description")
    tables = {key: data.get(key, {}) for key in ("columns", "values", "costs", "kernels")}
    for key, table in tables.items():
        if not isinstance(table, dict):
            raise UserError(f"{name}: {key} must be a table")
    for dtype, sides in tables["costs"].items():
        if not isinstance(sides, dict) or not all(isinstance(given, dict) for given in sides.values()):
            raise UserError(f"{name}: costs.{dtype} must hold the tables dense and sparse")
    columns = {key: str(value) for key, value in tables["columns"].items()}
    values = {key: str(value) for key, value in tables["values"].items()}
    named = {key: str(value) for key, value in tables["kernels"].items()}
    try:
        return ColumnMap(columns, values, tables["costs"], named, str(data.get("description", "")), name)
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
