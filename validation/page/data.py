"""What the plots of the page draw: compact columns as JSON that cannot end the script it stands in."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from sparsity_roofline.validation.equality import LEVELS
from sparsity_roofline.validation.roofs import roofs
from sparsity_roofline.validation.summary import add_strata
from sparsity_roofline.validation.sums import BEST
from sparsity_roofline.validation.tables import label

MOST = 12_000
"""Pairs that the page carries: about 150 bytes each, so that it stays below 5 MB. The tables are of all of them."""

TEXT = ("device", "run", "network", "matrix", "format", "block", "dtype", "kernel", "dense_kernel", "bounds",
        "optimisation", "notes")  # fmt: skip
"""Columns whose values repeat: a list of values and an index into it."""

FIGURES = {
    "M": "M", "K": "K", "N": "N", "level": "level", "predicted": "predicted_speedup", "measured": "measured_speedup",
    "refined": "refined_speedup", "low": "measured_speedup_low", "high": "measured_speedup_high", "f": "f_sparse",
    "fd": "f_dense", "ts": "time_sparse_us", "td": "time_dense_us", "ws": "gflop_sparse", "wd": "gflop_dense",
    "bs": "mb_sparse", "bd": "mb_dense", "below": "below", "s": "record", "d": "dense_row",
}  # fmt: skip
"""Name in the page -> column. Times in us, work in GFLOP, bytes in MB, both of the preset."""


def payload(
    pairs: pd.DataFrame, records: pd.DataFrame, networks: pd.DataFrame, accuracies: pd.DataFrame, equality: pd.DataFrame
) -> dict[str, Any]:
    """Plain types for ``to_json``.

    Args:
        pairs: with ``run`` and ``optimisation``. records: normalised, with ceilings.
        networks, accuracies, equality: the sheets' frames.
    """
    table = _prepared(pairs)
    shown = thin(table, MOST)
    return {
        "pairs": {
            "count": len(shown),
            "of": len(table),
            "text": {name: _coded(shown[name]) for name in TEXT},
            "figures": {name: _figures(shown[column]) for name, column in FIGURES.items()},
        },
        "roofs": _roofs(records),
        "networks": _rows(networks[networks["kernel"] == BEST], (
            "device", "run", "network", "method", "pattern", "format", "dtype", "level", "batch", "tokens", "coverage",
            "predicted_speedup", "refined_speedup", "measured_speedup",
        )),
        "accuracy": _rows(accuracies[accuracies["kernel"] == BEST], (
            "device", "run", "network", "method", "pattern", "format", "dtype", "level", "batch", "tokens", "accuracy",
            "metric", "predicted_speedup", "measured_speedup", "predicted_front", "measured_front",
        )),
        "equality": _rows(equality, (
            "device", "run", "format", "level", "pairs", "parity", "parity_low", "parity_high", "parity_p10",
            "parity_p50", "parity_p90", "mape",
        )),
        "levels": list(LEVELS),
    }  # fmt: skip


def thin(table: pd.DataFrame, most: int) -> pd.DataFrame:
    """At most so many rows: those below the launch floor are thinned first, evenly, then the others."""
    if len(table) <= most:
        return table
    above, below = table[table["below"] == 0], table[table["below"] == 1]
    kept = _every(above, min(len(above), most))
    return pd.concat([kept, _every(below, most - len(kept))]).sort_index()


def _every(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    return rows.iloc[np.unique(np.linspace(0, len(rows) - 1, count).round().astype(int))] if count else rows.iloc[:0]


def to_json(data: Any) -> str:
    r"""Compact JSON for a ``<script type="application/json">``: no byte of it can be read as markup.

    >>> to_json({"name": "</script>"})
    '{"name":"\\u003c/script\\u003e"}'
    """
    text = json.dumps(data, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _prepared(pairs: pd.DataFrame) -> pd.DataFrame:
    table = add_strata(label(pairs))
    for side in ("sparse", "dense"):
        preset = table["preset"].iloc[0] if len(table) else "paper"
        table[f"time_{side}_us"] = table[f"time_{side}_ns"] / 1e3
        table[f"gflop_{side}"] = table[f"flops_{preset}_{side}"] / 1e9
        table[f"mb_{side}"] = table[f"bytes_{preset}_{side}"] / 1e6
    table["below"] = table["below_floor"].astype(int)
    if "refined_speedup" not in table:
        table["refined_speedup"] = np.nan
    return table


def _roofs(records: pd.DataFrame) -> list[dict[str, Any]]:
    out = []
    for device, rows in records[records["status"] == "ok"].groupby("device", sort=True):
        for roof in roofs(rows):
            peaks = {unit: short(peak / 1e9) for unit, peak in roof.peaks.items()}
            out.append({
                "device": str(device), "kind": roof.kind, "dtype": roof.dtype, "peaks": peaks,
                "bandwidth": short(roof.bandwidth / 1e9),
            })  # fmt: skip
    return out


def _coded(values: pd.Series[Any]) -> dict[str, Any]:
    codes, names = pd.factorize(values.fillna("").astype(str), sort=True)
    return {"names": [str(name) for name in names], "codes": codes.tolist()}


def _figures(values: pd.Series[Any]) -> list[float | int | None]:
    return [short(float(v)) for v in pd.to_numeric(values, errors="coerce")]


def _rows(frame: pd.DataFrame, names: Iterable[str]) -> list[dict[str, Any]]:
    kept = [name for name in names if name in frame]
    return [{str(k): _plain(v) for k, v in row.items()} for row in frame[kept].to_dict("records")]


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, bool) or value is None:
        return value
    return short(value) if isinstance(value, int | float) else str(value)


def short(value: float, digits: int = 4) -> float | int | None:
    """A figure with four digits, whole numbers whole, null for what is none: the page shows three.

    >>> short(0.123456), short(262144.0), short(float("nan"))
    (0.1235, 262144, None)
    """
    if not math.isfinite(value):
        return None
    if value == int(value) and abs(value) < 2**53:
        return int(value)
    rounded = float(f"{value:.{digits - 1}e}")
    return int(rounded) if rounded == int(rounded) else rounded
