"""Read a table of latencies in the schema of docs/measurements.md: a row per case with both sides, or one per time."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from sparsity_roofline.model import hardware
from sparsity_roofline.model.ceilings import Ceilings
from sparsity_roofline.model.dtype import DTYPES
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.pattern import Pattern
from sparsity_roofline.validation.external.mapping import TIMES, UNITS, ColumnMap, load, recognise

COLUMNS = ("line", "gpu", "device", "dtype", "M", "K", "N", "pattern", "sparsity", "label", "l2", "dense_s", "sparse_s")
"""Columns of ``Measurements.rows``: the file's line, its own words, and numbers in base units (NaN: not measured)."""

_L2 = {"": "unknown", "unknown": "unknown", "hot": "hot", "warm": "hot", "cold": "cold", "cold-clean": "cold",
       "cold-dirty": "cold"}  # fmt: skip

_ALIASES = {
    "float32": "fp32", "float": "fp32", "float16": "fp16", "half": "fp16", "bfloat16": "bf16", "float8": "fp8",
    "fp8e4m3": "fp8", "float8_e4m3": "fp8", "float8_e4m3fn": "fp8", "e4m3": "fp8", "i8": "int8", "s8": "int8",
    "float64": "fp64", "double": "fp64",
}  # fmt: skip


@dataclass(frozen=True)
class Measurements:
    """A file as it was understood.

    Attributes:
        rows: one case a row (``COLUMNS``), both sides' times where the file has them.
        skipped: rows that cannot be predicted or paired: ``line``, ``why``.
        mapping: how its columns were read; ``recognised`` says that nobody asked for it.
        ceilings: data-sheet or given ceilings by device.
    """

    rows: pd.DataFrame
    skipped: pd.DataFrame
    mapping: ColumnMap
    recognised: bool
    ceilings: dict[str, Ceilings]


class _Unusable(Exception):
    """Why one row cannot be used."""


def read(path: Path, mapping: ColumnMap | str | None = None, device: Ceilings | None = None) -> Measurements:
    """Read a CSV file of measurements.

    Args:
        path: the file; a header line, then one row per case (``dense_us`` and ``sparse_us``) or per time (``time_us``).
        mapping: which column is which field; by name of a shipped one or of a TOML file. Without one a shipped mapping
            is taken if its columns are there, else columns of the schema's own names.
        device: ceilings for every row, whatever its ``gpu`` says.

    Raises:
        UserError: the file cannot be read, a field is missing, or no row can be used.
    """
    header, lines = _lines(path)
    chosen = load(mapping) if isinstance(mapping, str) else mapping
    found = recognise(header) if chosen is None or not (chosen.columns or chosen.name) else None
    if found is not None:
        chosen = found if chosen is None else found.with_items({}, chosen.values)
    chosen = chosen or ColumnMap()
    position = _positions(path, header, chosen)
    _require(path, header, position, chosen, device)
    rows: list[dict[str, object]] = []
    skipped: list[dict[str, object]] = []
    ceilings: dict[str, Ceilings] = {}
    for number, cells in lines:
        try:
            rows.append({"line": number, **_row(cells, position, chosen.values, device, ceilings)})
        except _Unusable as why:
            skipped.append({"line": number, "why": str(why)})
    frame = pd.DataFrame(rows)
    if len(frame) and "time_s" in frame:
        frame = _pair(frame)
    left = pd.DataFrame(skipped, columns=["line", "why"])
    if frame.empty:
        reason = f": line {left['line'].iloc[0]}: {left['why'].iloc[0]}" if len(left) else ""
        raise UserError(f"{path.name}: no row can be used{reason}")
    return Measurements(frame[list(COLUMNS)].reset_index(drop=True), left, chosen, found is not None, ceilings)


def _lines(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from error
    reader = csv.reader(text.splitlines())
    try:
        header = [cell.strip() for cell in next(reader)]
        lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if any(cells)]
    except StopIteration:
        raise UserError(f"{path} is empty: the first line must name the columns") from None
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: {error}") from error
    if len(set(header)) < len(header):
        raise UserError(f"{path}: two columns have the same name")
    for number, cells in lines:
        if len(cells) != len(header):
            raise UserError(f"{path}, line {number}: {len(cells)} cells under {len(header)} columns")
    return header, lines


def _positions(path: Path, header: list[str], mapping: ColumnMap) -> dict[str, int]:
    """Field -> position of its column."""
    from sparsity_roofline.validation.external.mapping import FIELDS

    position = {}
    for name in FIELDS:
        column = mapping.columns.get(name, name)
        if column in header and name not in mapping.values:
            position[name] = header.index(column)
        elif name in mapping.columns:
            raise UserError(f"{path}: no column {column!r} for {name}; columns are {', '.join(header)}")
    return position


def _require(
    path: Path, header: list[str], position: dict[str, int], mapping: ColumnMap, device: Ceilings | None
) -> None:
    have = {*position, *mapping.values}
    needed = [name for name in ("gpu", "dtype", "M", "K", "N", "pattern") if name not in have]
    if device is not None and "gpu" in needed:
        needed.remove("gpu")
    stems = {name.partition("_")[0] for name in have if "_" in name}
    if "time" in stems and stems & {"dense", "sparse"}:
        raise UserError(f"{path}: give time_us (one time a row) or dense_us and sparse_us (both sides), not all three")
    if not stems & set(TIMES):
        needed.append("dense_us and sparse_us, or time_us")
    if needed:
        raise UserError(
            f"{path}: nothing for {', '.join(needed)}; columns are {', '.join(header)}: name them with --map "
            "FIELD=COLUMN or give one value with --value FIELD=VALUE"
        )


def _row(
    cells: list[str],
    position: dict[str, int],
    values: object,
    device: Ceilings | None,
    ceilings: dict[str, Ceilings],
) -> dict[str, object]:
    given = dict(values) if isinstance(values, dict) else {}
    cell = {**given, **{name: cells[at] for name, at in position.items()}}
    pattern, sparsity = _pattern(cell["pattern"], cell.get("sparsity", ""))
    name = _device(cell.get("gpu", ""), device, ceilings)
    dtype = _ALIASES.get(cell["dtype"].lower(), cell["dtype"].lower())
    if dtype not in DTYPES:
        raise _Unusable(f"unknown dtype {cell['dtype']!r}")
    if ceilings[name].peak_or_none(dtype, ceilings[name].own_unit(dtype)) is None:
        raise _Unusable(f"no {dtype} peak for {name}")
    l2 = cell.get("l2", "").lower()
    if l2 not in _L2:
        raise _Unusable(f"unknown L2 state {l2!r}")
    out: dict[str, object] = {
        "gpu": cell.get("gpu", name) or name, "device": name, "dtype": dtype, "pattern": pattern, "sparsity": sparsity,
        "label": cell.get("label", ""), "l2": _L2[l2],
        **{axis: _whole(axis, cell[axis]) for axis in ("M", "K", "N")},
    }  # fmt: skip
    for stem in TIMES:
        for unit, scale in UNITS.items():
            if f"{stem}_{unit}" in cell:
                out[f"{stem}_s"] = _time(cell[f"{stem}_{unit}"]) * scale
    if "time_s" in out:
        if math.isnan(float(str(out["time_s"]))):
            raise _Unusable("no time")
        return out
    out.setdefault("dense_s", math.nan)
    out.setdefault("sparse_s", math.nan)
    if math.isnan(float(str(out["dense_s"]))) and math.isnan(float(str(out["sparse_s"]))):
        raise _Unusable("no time of either side")
    return out


def _pattern(text: str, sparsity: str) -> tuple[str, float]:
    try:
        pattern = Pattern.parse(text)
    except UserError as error:
        raise _Unusable(str(error)) from None
    if pattern.kind == "dense":
        return "dense", 0.0
    if pattern.kind == "nm":
        return str(pattern), 1.0 - pattern.n / pattern.m
    try:
        level = float(sparsity)
    except ValueError:
        raise _Unusable(f"pattern {pattern} needs a sparsity between 0 and 1, not {sparsity!r}") from None
    if not 0.0 <= level <= 1.0:
        raise _Unusable(f"sparsity {sparsity} is not between 0 and 1")
    return str(pattern), level


def _device(gpu: str, device: Ceilings | None, ceilings: dict[str, Ceilings]) -> str:
    if device is not None:
        ceilings[device.device] = device
        return device.device
    name = hardware.match(gpu)
    if name is None:
        try:
            name = hardware.resolve(gpu)
        except UserError:
            raise _Unusable(f"no ceilings for {gpu!r}: name the device with --device") from None
    if name not in ceilings:
        ceilings[name] = hardware.datasheet(name)
    return name


def _whole(axis: str, text: str) -> int:
    try:
        value = float(text)
    except ValueError:
        raise _Unusable(f"{axis} is {text!r}, not a whole number") from None
    if not (math.isfinite(value) and value == int(value) and 1 <= value < 2**31):
        raise _Unusable(f"{axis} is {text!r}, not a whole number from 1 to 2^31 - 1")
    return int(value)


def _time(text: str) -> float:
    """The number in a cell; NaN for an empty one."""
    if not text or text.lower() in ("nan", "na", "null", "none", "-"):
        return math.nan
    try:
        value = float(text)
    except ValueError:
        raise _Unusable(f"time {text!r} is not a number") from None
    if not (math.isfinite(value) and value > 0):
        raise _Unusable(f"time {text!r} is not positive")
    return value


def _pair(frame: pd.DataFrame) -> pd.DataFrame:
    """Give every sparse time the dense time of its shape: that of the same label, else the median of all."""
    keys = ["device", "dtype", "M", "K", "N", "l2"]
    is_dense = frame["pattern"] == "dense"
    dense, sparse = frame[is_dense], frame[~is_dense].copy()
    same = dense.groupby([*keys, "label"])["time_s"].median()
    every = dense.groupby(keys)["time_s"].median()
    rows = [tuple(row) for row in sparse[keys].itertuples(index=False)]
    labels = sparse["label"].tolist()
    exact, wide = same.to_dict(), every.to_dict()
    times = [exact.get((*row, label), wide.get(row, np.nan)) for row, label in zip(rows, labels, strict=True)]
    sparse["dense_s"], sparse["sparse_s"] = times, sparse["time_s"]
    used = set(rows)
    alone = dense[[tuple(row) not in used for row in dense[keys].itertuples(index=False)]].copy()
    alone["dense_s"], alone["sparse_s"] = alone["time_s"], np.nan
    return pd.concat([sparse, alone], ignore_index=True).sort_values("line", kind="stable")
