"""Tables for people: per case, per stratum, what is missing; as CSV, Markdown and console rows.

CSV keeps six significant digits for programs; Markdown and console show three, which is more than any latency here
supports.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sparsity_roofline.model.text import printable
from sparsity_roofline.validation.amortisation import COLUMNS as AMORTISATION
from sparsity_roofline.validation.summary import by_kernel, headline

CASE_COLUMNS = {
    "matrix": "case",
    "shape": "M x K x N",
    "stored": "format",
    "dtype": "dtype",
    "sparsity": "sparsity",
    "kernel": "kernel",
    "predicted_speedup": "predicted speedup",
    "measured_speedup": "measured speedup",
    "interval": "95 % interval",
    "f_dense": "fraction of SoL dense",
    "f_sparse": "fraction of SoL sparse",
    "f_dense_held": "at held clock dense",
    "f_sparse_held": "at held clock sparse",
    "parity": "parity",
    "notes": "notes",
}
"""Columns of the per-case table for people, with their headings."""

SUMMARY_HEADINGS = {
    "stratum": "stratum",
    "value": "value",
    "pairs": "pairs",
    "shapes": "layer shapes",
    "predicted_speedup": "predicted speedup",
    "measured_speedup": "measured speedup",
    "f_dense": "fraction of SoL dense",
    "f_sparse": "fraction of SoL sparse",
    "f_dense_held": "at held clock dense",
    "f_sparse_held": "at held clock sparse",
    "parity": "parity",
    "parity_low": "95 % from",
    "parity_high": "to",
    "loa_low": "limits of agreement from",
    "loa_high": "to",
    "median_ape": "median APE (1 = 100 %)",
    "mape": "MAPE (1 = 100 %)",
    "spearman": "Spearman",
    "kendall": "Kendall",
    "mcc": "MCC",
    "violations": "beat the bound",
    "above_one": "f > 1",
    "below_floor": "below floor",
}
"""Columns of the summaries for people, with their headings."""

CSV_ONLY = (
    "f_sparse_unit", "f_sparse_bound", "f_dense_unit", "f_dense_bound", "log_error", "bound_dense", "bound_sparse",
    "time_dense_ns", "time_sparse_ns", "sol_dense_ns", "sol_sparse_ns", "dense_kernel", "violation",
    "violation_sparse", "violation_dense", "above_one",
    "above_one_cause", "below_floor", "faster", *AMORTISATION,
    "synthetic", "network", "layer", "method", "target_sparsity", "batch",
    "device", "timer", "regime_l2", "regime_clocks", "preset", "ceilings", "ceilings_id", "run_id", "environment",
    "case",
)  # fmt: skip
"""What the CSV carries beside the columns for people."""

REFINED = (
    "refined_speedup", "refined_dense_ns", "refined_sparse_ns", "refined_leading_dense", "refined_leading_sparse",
    "held_out",
)  # fmt: skip
"""And where the pairs have the refined model's predictions (``refined.pairs``)."""


def label(pairs: pd.DataFrame) -> pd.DataFrame:
    """Add the columns that exist for reading only: ``shape``, ``stored``, ``interval``, ``notes``."""
    out = pairs.copy()
    out["shape"] = [f"{m} x {k} x {n}" for m, k, n in zip(out["M"], out["K"], out["N"], strict=True)]
    out["stored"] = [
        f"bsr {r}x{c}" if f == "bsr" else f"nm {n}:{m}" if f == "nm" and m else f
        for f, r, c, n, m in zip(*(out[k] for k in ("format", "block_rows", "block_cols", "n", "m")), strict=True)
    ]
    out["interval"] = [
        f"{number(low)} to {number(high)}" if low == low and high == high else ""
        for low, high in zip(out["measured_speedup_low"], out["measured_speedup_high"], strict=True)
    ]
    flags = ("synthetic", "violation", "above_one", "below_floor", "above_one_cause", "host_bound", "host_us")
    out["notes"] = [
        _notes(*row) for row in zip(*(out[name] for name in flags), strict=True)
    ]  # fmt: skip
    return out


def _notes(
    synthetic: bool, violation: bool, above_one: bool, below_floor: bool, cause: str, host_bound: bool, host_us: float
) -> str:
    said = ["synthetic"] if synthetic else []
    if violation:
        said.append("BEATS BOUND")
    if below_floor:
        said.append("below floor")
    if host_bound:
        said.append(f"host-bound ({host_us:.0f} us a call)")
    if above_one or violation:
        said.append(f"f > 1 ({cause})" if above_one else cause)
    return ", ".join(said)


def case_table(pairs: pd.DataFrame) -> pd.DataFrame:
    """One row per pair in reading order (matrix, N, dtype, kernel), with the columns for people first."""
    table = label(pairs)
    order = ["network", "layer", "M", "K", "N", "dtype", "pattern", "sparsity", "matrix", "kernel"]
    table = table.sort_values(order, kind="stable").reset_index(drop=True)
    more = [c for c in CSV_ONLY if c not in CASE_COLUMNS]
    return table[[*CASE_COLUMNS, *more, *(c for c in REFINED if c in table)]]


def unpaired_table(unpaired: pd.DataFrame) -> pd.DataFrame:
    """Records without a pair, counted by kernel, status and reason, the most frequent first."""
    columns = ["kernel", "status", "why"]
    if unpaired.empty:
        return pd.DataFrame(columns=[*columns, "records", "example"])
    counted = unpaired.groupby(columns, sort=True, dropna=False)["case"].agg(["size", "first"]).reset_index()
    counted = counted.rename(columns={"size": "records", "first": "example"})
    return counted.sort_values(["records", *columns], ascending=[False, True, True, True]).reset_index(drop=True)


def number(value: Any, digits: int = 3) -> str:
    """A figure for people: three significant digits, no exponent between 0.001 and 10,000, "" for NaN."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else ""
    if not isinstance(value, float):
        return str(value)
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    shown = f"{value:.{digits - 1}e}"
    exponent = int(shown.partition("e")[2])  # after rounding: 0.9999 is 1.00, not 1.000
    return f"{value:.{max(digits - 1 - exponent, 0)}f}" if -3 <= exponent < 4 else shown


def to_markdown(table: pd.DataFrame, headings: dict[str, str] | None = None) -> str:
    """A GitHub table; ``headings`` chooses and names columns. Figures are aligned right, cells escaped."""
    headings = headings or {str(c): str(c) for c in table.columns}
    columns = [table[name] for name in headings]
    right = [c.dtype.kind in "if" for c in columns]
    cells = [[_escape(number(v)) for v in c.tolist()] for c in columns]
    lines = [
        "| " + " | ".join(_escape(h) for h in headings.values()) + " |",
        "|" + "|".join("---:" if r else "---" for r in right) + "|",
        *("| " + " | ".join(row) + " |" for row in zip(*cells, strict=True)),
    ]
    return "\n".join(lines) + "\n"


_MARKDOWN = str.maketrans({
    **{c: f"\\{c}" for c in "\\|`*[~"}, "<": "&lt;", "&": "&amp;", "\n": " ",
})  # fmt: skip


def _escape(text: str) -> str:
    """Names come from files: no cell may end its row, hold HTML or a link, or change how the rest reads."""
    return printable(text.translate(_MARKDOWN))


def _no_formula(value: Any) -> Any:
    """A spreadsheet takes a text cell that begins like this for a formula, and runs it; an apostrophe makes it text."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def write_csv(table: pd.DataFrame, path: Path) -> Path:
    """Write with six significant digits and a header, also when there is no row."""
    text = [name for name in table.columns if table[name].dtype.kind not in "biufc"]
    table = table.assign(**{name: table[name].map(_no_formula) for name in text})
    table.to_csv(path, index=False, float_format="%.6g", lineterminator="\n")
    return path


def write_markdown(
    table: pd.DataFrame, path: Path, title: str, notes: str = "", headings: dict[str, str] | None = None
) -> Path:
    """Write a titled table; an empty one says so in words."""
    body = to_markdown(table, headings) if len(table) else "No rows.\n"
    path.write_text("\n".join([f"# {title}", "", *([notes.strip(), ""] if notes.strip() else []), body]), "utf-8")
    return path


def console_rows(pairs: pd.DataFrame, limit: int = 24) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of the compact table the command line prints.

    At most ``limit`` rows, shared among the kernels: of each the best, the worst and evenly spaced ones between by
    parity, so that no kernel hides behind another; printed in reading order.
    """
    keys = [k for k in CASE_COLUMNS if k not in ("interval", "f_dense_held", "f_sparse_held")]
    headings = [CASE_COLUMNS[k] for k in keys]
    table = label(pairs).reset_index(drop=True)
    table["notes"] = [_short_notes(*row) for row in zip(table["synthetic"], table["violation"], table["above_one"],
                                                        table["below_floor"], strict=True)]  # fmt: skip
    chosen: set[int] = set(table.index) if len(table) <= limit else set()
    if not chosen and len(table):
        groups = [group for _, group in table.groupby("kernel", sort=True)]
        for i, group in enumerate(groups):
            ranked = group.sort_values("parity", kind="stable").index
            share = min(len(ranked), limit // len(groups) + (i < limit % len(groups)))
            chosen |= {int(ranked[round(j * (len(ranked) - 1) / max(share - 1, 1))]) for j in range(share)}
    order = ["kernel", "dtype", "M", "K", "N", "sparsity"]
    shown = table.loc[sorted(chosen)].sort_values(order, kind="stable")
    return headings, [[number(v) for v in row] for row in zip(*(shown[k].tolist() for k in keys), strict=True)]


def _short_notes(synthetic: bool, violation: bool, above_one: bool, below_floor: bool) -> str:
    said = (("synthetic", synthetic), ("BEATS BOUND", violation), ("f > 1", above_one), ("below floor", below_floor))
    return ", ".join(text for text, flag in said if flag)


def console_summary(pairs: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of the summary by kernel and dtype, with the best and the worst case of each."""
    headings = ["kernel and dtype", "pairs", "predicted speedup", "measured speedup", "fraction of SoL dense",
                "fraction of SoL sparse", "parity", "parity 95 % interval", "best speedup", "worst speedup",
                "below floor"]  # fmt: skip
    rows = []
    for row in by_kernel(pairs).to_dict("records"):
        mine = pairs[pairs["kernel"].astype(str) + " " + pairs["dtype"].astype(str) == row["value"]]
        kept = headline(mine) if row["pairs"] else mine
        interval = [number(row["parity_low"]), number(row["parity_high"])]
        rows.append([
            str(row["value"]), str(row["pairs"]),
            *(number(row[k]) for k in ("predicted_speedup", "measured_speedup", "f_dense", "f_sparse", "parity")),
            " to ".join(interval) if all(interval) else "",
            number(float(kept["measured_speedup"].max())), number(float(kept["measured_speedup"].min())),
            str(row["below_floor"]),
        ])  # fmt: skip
    return headings, rows
