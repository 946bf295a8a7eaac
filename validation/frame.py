"""Records as a table with every column there and typed, whoever wrote it."""

from __future__ import annotations

from dataclasses import MISSING, fields

import numpy as np
import pandas as pd

from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.record import CEILINGS, PRESETS, STATUSES, Record
from sparsity_roofline.model.text import printable

REQUIRED = ("status", "kernel", "format", "dtype", "M", "K", "N")
"""Columns without which a table is not a table of records."""

_UNKEPT = "raw_samples_ns"


def normalise(records: pd.DataFrame) -> pd.DataFrame:
    """A copy with one column per field of ``Record`` (absent ones empty), a fresh index, and floats where figures are.

    Raises:
        UserError: the table lacks a column every record has, or holds a status that no record has.
    """
    absent = [name for name in REQUIRED if name not in records.columns]
    if absent:
        raise UserError(f"not a table of records: no column {', '.join(absent)}; give a run folder or its records file")
    strange = sorted({str(s) for s in records["status"].unique()} - set(STATUSES))
    if strange:
        raise UserError(f"unknown status {', '.join(map(repr, strange))} in the records: was a newer version used?")
    out = records.reset_index(drop=True)
    typed: dict[str, object] = {str(name): out[name] for name in out.columns if name != _UNKEPT}
    for field in fields(Record):
        if field.name == _UNKEPT:
            continue
        kind = str(field.type)
        default = None if field.default in (MISSING, None) else field.default
        empty = pd.Series([default] * len(out), index=out.index, dtype=object)
        column = out[field.name] if field.name in out.columns else empty
        if "float" in kind or kind == "int | None":
            typed[field.name] = pd.to_numeric(column, errors="coerce").astype(np.float64)
        elif kind == "int":
            typed[field.name] = pd.to_numeric(column, errors="coerce").fillna(0).astype(np.int64)
        elif kind == "bool":
            typed[field.name] = np.array([not pd.isna(v) and bool(v) for v in column], dtype=bool)
        else:
            text = column.astype(object)
            # Names come from files: from here on, every text of a record can be shown as it is.
            typed[field.name] = text.where(text.notna(), "").astype(str).map(printable).astype(object)
    return pd.DataFrame(typed, index=out.index)


def add_ceilings(records: pd.DataFrame, ceilings: str | None) -> pd.DataFrame:
    """Add ``ceilings`` (datasheet | measured), ``ceilings_id`` and, for those ceilings, ``sol_<preset>_ns``,
    ``bound_<preset>``.

    ``None`` chooses by row: the data sheet where the record names a GPU of the table, else the measured ceilings.

    Raises:
        UserError: for a word that is not a kind of ceilings.
    """
    if ceilings is not None and ceilings not in CEILINGS:
        raise UserError(f"unknown ceilings {ceilings!r}: choose {' or '.join(CEILINGS)}")
    out = records.copy()
    sheet = (out["ceilings_datasheet"] != "") if ceilings is None else pd.Series(ceilings == "datasheet", out.index)
    out["ceilings"] = np.where(sheet, "datasheet", "measured")
    out["ceilings_id"] = np.where(sheet, out["ceilings_datasheet"], out["ceilings_measured"])
    for preset in PRESETS:
        for quantity, tail in (("sol", "_ns"), ("bound", "")):
            both = [out[f"{quantity}_{preset}_{kind}{tail}"] for kind in CEILINGS]
            out[f"{quantity}_{preset}{tail}"] = both[0].where(sheet, both[1])
    return out


def check_preset(preset: str) -> None:
    """Refuse a word that is not a cost preset.

    Raises:
        UserError: naming the ones there are.
    """
    if preset not in PRESETS:
        raise UserError(f"unknown preset {preset!r}: choose one of {', '.join(PRESETS)}")
