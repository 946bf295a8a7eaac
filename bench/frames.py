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
    try:
        table = pq.ParquetFile(path).read()
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"cannot read {path} as Parquet: {str(error).splitlines()[0]}") from None
    absent = [c for c in REQUIRED if c not in table.column_names]
    if absent:
        raise UserError(f"{path} holds no records: column {', '.join(absent)} is missing; give a run's records.parquet")
    return typed_frame({c: table[c].to_pylist() for c in COLUMNS if c in table.column_names}, table.num_rows)


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
