"""Records as Parquet and as DataFrames: one schema, taken from the fields of ``Record``."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.record import Record
from sparsity_roofline.model.text import encodable

RAW = "raw_samples_ns"
COLUMNS: tuple[str, ...] = tuple(f.name for f in fields(Record) if f.name != RAW)
"""Columns of a table of records, in the order of the schema."""

REQUIRED = ("status", "case", "kernel")

_ANNOTATION = {f.name: str(f.type) for f in fields(Record)}
_DEFAULT = {f.name: None if f.default is MISSING else f.default for f in fields(Record) if f.name != RAW}
_ARROW = {"str": pa.string(), "Status": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}


def _base(column: str) -> str:
    return _ANNOTATION[column].removesuffix(" | None")


def _optional(column: str) -> bool:
    return _ANNOTATION[column].endswith("| None")


RECORD_SCHEMA = pa.schema([pa.field(c, _ARROW[_base(c)], nullable=_optional(c)) for c in COLUMNS])
SAMPLE_SCHEMA = pa.schema(
    [
        pa.field("case", pa.string(), nullable=False),
        pa.field("kernel", pa.string(), nullable=False),
        pa.field("time_ns", pa.list_(pa.float64()), nullable=False),
    ]
)


_INT64 = 2**63


def misfit(record: dict[str, Any]) -> str:
    """Why a dictionary is no record, '' if it is one: every known field holds what ``Record`` says it holds."""
    if absent := [name for name in REQUIRED if name not in record]:
        return f"{absent[0]} is missing"
    for name, value in record.items():
        if name == RAW:
            if not isinstance(value, list) or not all(_is(v, "float") for v in value):
                return f"{RAW} is not a list of numbers"
        elif name in _ANNOTATION and not (value is None and _optional(name)) and not _is(value, _base(name)):
            return f"{name} is {str(value)[:40]!r}"
    return ""


def _is(value: Any, base: str) -> bool:
    if isinstance(value, bool) or base == "bool":
        return isinstance(value, bool) and base == "bool"
    if base == "int":
        return isinstance(value, int) and -_INT64 <= value < _INT64
    if base == "float":
        return isinstance(value, float) or (isinstance(value, int) and abs(value) < _INT64)
    return isinstance(value, str) and encodable(value)


def typed_frame(columns: dict[str, list[Any]], rows: int) -> pd.DataFrame:
    """A DataFrame in schema order: text as object (None where missing), whole numbers int64 (Int64 where they may be
    missing), figures float64 (NaN where missing), flags bool. Absent columns get the field's default."""
    out: dict[str, Any] = {}
    for name in COLUMNS:
        values = columns.get(name)
        if values is None:
            values = [_DEFAULT[name]] * rows
        base = _base(name)
        if base == "float":
            out[name] = pd.Series([float("nan") if v is None else float(v) for v in values], dtype="float64")
        elif base == "int":
            out[name] = pd.Series(values, dtype="Int64" if _optional(name) else "int64")
        elif base == "bool":
            out[name] = pd.Series(values, dtype="bool")
        else:
            out[name] = pd.Series(values, dtype=object)
    return pd.DataFrame(out, columns=list(COLUMNS))


def records_frame(records: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Records (as dictionaries) as a typed DataFrame, raw samples left out."""
    rows = list(records)
    return typed_frame({c: [row.get(c, _DEFAULT[c]) for row in rows] for c in COLUMNS}, len(rows))


def read_parquet_records(path: Path) -> pd.DataFrame:
    """A Parquet file of records as a typed DataFrame.

    Raises:
        UserError: not Parquet, or a table that holds no records.
    """
    table = read_table(path)
    absent = [c for c in REQUIRED if c not in table.column_names]
    if absent:
        raise UserError(f"{path} holds no records: column {', '.join(absent)} is missing; give a run's records.parquet")
    columns = {f.name: _column(table, f, path) for f in RECORD_SCHEMA if f.name in table.column_names}
    return typed_frame(columns, table.num_rows)


def read_table(path: Path) -> pa.Table:
    """A Parquet file as it is.

    Raises:
        UserError: not Parquet, or a damaged one.
    """
    try:
        table = pq.ParquetFile(path).read()
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise UserError(f"cannot read {path} as Parquet: {lines[0]}") from None
    twice = {name for name in table.column_names if table.column_names.count(name) > 1}
    if twice:
        raise UserError(f"cannot read {path}: two columns are called {min(twice)}")
    return table


def read_sample_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a Parquet file of raw samples.

    Raises:
        UserError: not Parquet, or a table of something else.
    """
    table = read_table(path)
    if not set(SAMPLE_SCHEMA.names) <= set(table.column_names):
        raise UserError(f"{path} holds no samples: give a run folder or its samples.parquet")
    try:
        rows: list[dict[str, Any]] = table.select(SAMPLE_SCHEMA.names).cast(SAMPLE_SCHEMA).to_pylist()
    except (pa.ArrowException, ValueError, OverflowError):
        raise UserError(f"{path} holds no samples: its columns have other types") from None
    if any(None in row["time_ns"] for row in rows):
        raise UserError(f"{path}: a sample is empty")
    return rows


def _column(table: pa.Table, field: pa.Field, path: Path) -> list[Any]:
    """One column as plain values, held against the schema: another writer's types are taken where they fit."""
    column = table[field.name]
    try:
        if pa.types.is_string(field.type) and not _textual(column.type):
            raise ValueError
        values: list[Any] = column.cast(field.type).to_pylist()
    except (pa.ArrowException, ValueError, OverflowError):
        raise UserError(f"{path}: column {field.name} holds {column.type}, not {field.type}") from None
    if field.nullable or None not in values:
        return values
    if _DEFAULT[field.name] is None or field.name in REQUIRED:
        raise UserError(f"{path}: column {field.name} is empty in row {values.index(None) + 1}")
    return [_DEFAULT[field.name] if v is None else v for v in values]


def _textual(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    return any(test(kind) for test in tests)


def records_table(frame: pd.DataFrame) -> pa.Table:
    """The inverse of ``read_parquet_records``: a typed Arrow table in schema order."""
    arrays = []
    for field in RECORD_SCHEMA:
        if field.name in frame.columns:
            values = [None if pd.isna(v) else v for v in frame[field.name].tolist()]
        else:
            values = [_DEFAULT[field.name]] * len(frame)
        arrays.append(pa.array(values, type=field.type))
    return pa.Table.from_arrays(arrays, schema=RECORD_SCHEMA)


def samples_table(records: Iterable[dict[str, Any]]) -> pa.Table:
    """Raw samples, one row per timed (case, kernel), samples as a list in order of execution."""
    timed = [r for r in records if r.get(RAW)]
    data = {
        "case": [r["case"] for r in timed],
        "kernel": [r["kernel"] for r in timed],
        "time_ns": [r[RAW] for r in timed],
    }
    return pa.table(data, schema=SAMPLE_SCHEMA)


def write_parquet(table: pa.Table, path: Path) -> None:
    """Write whole or not at all: a temporary file beside ``path``, then a rename."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        pq.write_table(table, temporary, compression="zstd", compression_level=9)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
