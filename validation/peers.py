"""How good are our kernels? Each against the best peer of its format, and against the dense product, cell by cell.

A cell is one (matrix, format, dtype, N) of one run. *Ours* is device code of this repository; everything else is a
peer, also where ``auto`` picks it. ``best of ours`` is the fastest of ours in each cell.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from sparsity_roofline.model.errors import UserError
from sparsity_roofline.validation.frame import add_ceilings, normalise
from sparsity_roofline.validation.summary import block_of

BEST = "best of ours"
DENSE = "dense.cublas"
CELL = ("run_id", "case")
SHAPE = ("run_id", "M", "K", "N", "dtype", "layout")
GROUP = ("format", "dtype", "block", "N", "kernel")
WIDER = ("format", "dtype", "block", "kernel")
COLUMNS = (
    "ours", "cells", "best_peer_geomean", "best_peer_min", "worst_cell", "cublas_geomean", "cublas_min",
    "fraction_of_sol", "parity",
)  # fmt: skip

NOTES = (
    "Ratios are T_other / T: above 1 the kernel is faster. The best peer is the fastest kernel of the format that is "
    "not ours, cell by cell; of a dense kernel, the fastest other dense kernel. Fraction of SoL: preset paper, "
    "data-sheet ceilings; parity: that fraction over the dense product's."
)
_HEADINGS = {
    "format": "format", "dtype": "dtype", "block": "block", "N": "N", "kernel": "kernel", "cells": "cells",
    "best_peer_geomean": "over best peer, geomean", "best_peer_min": "least", "worst_cell": "where",
    "cublas_geomean": "over dense, geomean", "cublas_min": "least ", "fraction_of_sol": "fraction of SoL, median",
    "parity": "parity, median",
}  # fmt: skip


def headings(table: pd.DataFrame) -> dict[str, str]:
    """Columns of a summary for people, with their headings."""
    return {name: text for name, text in _HEADINGS.items() if name in table.columns}


def cells(records: pd.DataFrame, dense_kernel: str = DENSE) -> pd.DataFrame:
    """One row per timed record, and one per cell for the best of ours, with what it is compared to.

    Columns: those of the record, ``block`` (``64x64``, ``2:4`` or ""), ``peer`` and ``against_peer`` (T_peer / T of the
    fastest peer in the cell, not a number without one), ``against_dense`` (T_dense / T), ``f`` (fraction of SoL, preset
    ``paper``) and ``parity`` (f / f_dense). For a dense kernel the peers are the other dense kernels.

    Raises:
        UserError: not records, or no record of ``dense_kernel``.
    """
    rows = add_ceilings(normalise(records), None)
    rows = rows[(rows["status"] == "ok") & (rows["time_ns"] > 0)].reset_index(drop=True)
    dense = rows[rows["kernel"] == dense_kernel]
    if dense.empty:
        raise UserError(f"no time of {dense_kernel} in these records: run it beside the others, or name another kernel")
    rows["block"] = [block_of(*row) for row in zip(*(rows[c] for c in _BLOCK), strict=True)]
    rows["f"] = rows["sol_paper_ns"] / rows["time_ns"]
    partner = dense.groupby(list(SHAPE))["time_ns"].median()
    fraction = dense.assign(f=dense["sol_paper_ns"] / dense["time_ns"]).groupby(list(SHAPE))["f"].median()
    keys = pd.MultiIndex.from_frame(rows[list(SHAPE)])
    rows["against_dense"] = partner.reindex(keys).to_numpy() / rows["time_ns"].to_numpy()
    rows["parity"] = rows["f"].to_numpy() / fraction.reindex(keys).to_numpy()

    peers = rows[~rows["kernel_ours"] & ~rows["kernel"].str.endswith(".auto")]
    fastest = peers.loc[peers.groupby(list(CELL))["time_ns"].idxmin()].set_index(list(CELL))
    cell = pd.MultiIndex.from_frame(rows[list(CELL)])
    rows["peer"] = fastest["kernel"].reindex(cell).to_numpy()
    rows["against_peer"] = fastest["time_ns"].reindex(cell).to_numpy() / rows["time_ns"].to_numpy()
    ours = rows[rows["kernel_ours"]]
    best = ours.loc[ours.groupby(list(CELL))["time_ns"].idxmin()].assign(kernel=BEST)
    return pd.concat([rows, best], ignore_index=True)


def summarise(table: pd.DataFrame, by: tuple[str, ...] = GROUP) -> pd.DataFrame:
    """One row per group of ``cells``: count, geometric mean and minimum of both ratios, medians of f and parity."""
    out = []
    for key, group in table.groupby(list(by), sort=True, dropna=False):
        against = group["against_peer"].to_numpy(np.float64)
        known = group[~np.isnan(against)]
        worst = known.loc[known["against_peer"].idxmin()] if len(known) else None
        out.append(
            {
                **dict(zip(by, key, strict=True)),
                "ours": bool(group["kernel_ours"].all()),
                "cells": len(group),
                "best_peer_geomean": _geomean(against),
                "best_peer_min": float(np.nanmin(against)) if len(known) else np.nan,
                "worst_cell": ""
                if worst is None
                else f"{_shape(worst)} s {1 - worst['density']:.4g} by {worst['peer']}",
                "cublas_geomean": _geomean(group["against_dense"].to_numpy(np.float64)),
                "cublas_min": float(group["against_dense"].min()),
                "fraction_of_sol": float(group["f"].median()),
                "parity": float(group["parity"].median()),
            }
        )
    return pd.DataFrame(out, columns=[*by, *COLUMNS])


_BLOCK = ("format", "block_rows", "block_cols", "n", "m")


def _shape(row: pd.Series[float]) -> str:
    return f"{row['M']:.0f} x {row['K']:.0f} x {row['N']:.0f}"


def _geomean(ratios: np.ndarray) -> float:
    known = ratios[~np.isnan(ratios)]
    return float(np.exp(np.log(known).mean())) if len(known) else float("nan")
