"""Records on disk: append-only lines while a run goes on, Parquet after. Read either, from wherever it lies."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from sparsity_roofline.bench import folder as _folder
from sparsity_roofline.bench.folder import RunFolder
from sparsity_roofline.bench.frames import (
    COLUMNS,
    RAW,
    read_parquet_records,
    read_sample_rows,
    records_frame,
    records_table,
    samples_table,
    write_parquet,
)
from sparsity_roofline.model.errors import UserError

__all__ = ["COLUMNS", "RunFolder", "read_records", "read_samples", "write_records"]


def read_records(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Records of a run folder, a ``.parquet`` or a ``.jsonl`` as a typed DataFrame in schema order.

    A torn last line (a run that was killed) is left out, and ``frame.attrs["torn"]`` is then True. Text columns are
    object (None where missing), whole numbers int64 or Int64, figures float64, flags bool.

    Raises:
        UserError: nothing there, or not records.
    """
    source = _find(Path(path), _folder.RECORDS, _folder.PARQUET)
    if source.suffix == ".parquet":
        return read_parquet_records(source)
    data = source.read_bytes()
    records, good = _folder.parse_lines(data, source)
    frame = records_frame(records)
    frame.attrs["torn"] = bool(data[good:].strip())
    return frame


def read_samples(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Raw samples of a run, one row per sample: case, kernel, index (order of execution), time_ns.

    Raises:
        UserError: nothing there, or not samples.
    """
    source = _find(Path(path), _folder.RECORDS, _folder.SAMPLES)
    if source.suffix == ".parquet":
        found = read_sample_rows(source)
    else:
        found = samples_table(_folder.parse_lines(source.read_bytes(), source)[0]).to_pylist()
    rows = [(row["case"], row["kernel"], i, value) for row in found for i, value in enumerate(row["time_ns"])]
    frame = pd.DataFrame(rows, columns=["case", "kernel", "index", "time_ns"])
    return frame.astype({"case": object, "kernel": object, "index": "int64", "time_ns": "float64"})


def write_records(df: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write records as Parquet (zstd), in schema order, whole or not at all.

    Raises:
        UserError: the table lacks a column every record has, or the file cannot be written.
    """
    absent = [c for c in ("status", "case", "kernel") if c not in df.columns]
    if absent:
        raise UserError(f"not a table of records: column {', '.join(absent)} is missing")
    target = Path(path)
    with _folder.disk_errors(target):
        write_parquet(records_table(df.drop(columns=[RAW], errors="ignore")), target)


def _find(path: Path, log: str, table: str) -> Path:
    if path.is_dir():
        for name in (log, table):
            if (path / name).exists():
                return path / name
        raise UserError(f"{path} holds no run: neither {log} nor {table} is there")
    if not path.exists():
        raise UserError(f"no such file or folder: {path}; give a run folder, a .parquet or a .jsonl")
    if path.suffix not in (".parquet", ".jsonl"):
        raise UserError(f"cannot tell what {path} is: give a run folder, a .parquet or a .jsonl")
    return path
