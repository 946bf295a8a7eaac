"""Errors of the plain and of the refined model: latency of each side, speedup, and the decision; by kernel and split.

MAPE with the measured value in the denominator. "fitted" are shapes the constants may have been fitted to, "held out"
those that no fit sees, on any device (``split``). Beside both models of a speedup stands the best constant: the one
number that, put in place of every prediction of a kernel and dtype, has the smallest MAPE on the fitted shapes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from sparsity_roofline.validation.refined.pairs import ape, best_constant, decided, right

SPLITS = ("fitted", "held out")

LATENCY_HEADINGS = {
    "group": "kernels",
    "dtype": "dtype",
    "split": "shapes",
    "cases": "cases",
    "shapes": "M x K",
    "plain": "plain SoL MAPE %",
    "refined": "refined MAPE %",
    "median": "median APE %",
    "p90": "90 % below %",
    "bias": "geomean measured / predicted",
}
SPEEDUP_HEADINGS = {
    "group": "kernels",
    "dtype": "dtype",
    "split": "shapes",
    "pairs": "pairs",
    "plain": "plain MAPE %",
    "own_unit": "plain at the kernel's unit MAPE %",
    "constant": "best constant MAPE %",
    "refined": "refined MAPE %",
    "median": "median APE %",
    "dense": "refined dense latency MAPE %",
    "sparse": "refined sparse latency MAPE %",
    "decided": "decided",
    "plain_right": "plain right %",
    "constant_right": "constant right %",
    "refined_right": "refined right %",
}


def latency_table(records: pd.DataFrame) -> pd.DataFrame:
    """One row per group of kernels, dtype and split.

    Args:
        records: with a time, ``refined_ns``, ``held_out`` and the plain SoL ``sol_paper_datasheet_ns``.
    """
    rows = []
    for group, dtype, split, mine in _groups(records):
        error = ape(mine["refined_ns"], mine["time_ns"])
        rows.append({
            "group": group, "dtype": dtype, "split": split, "cases": len(mine),
            "shapes": len(mine[["M", "K"]].drop_duplicates()),
            "plain": 100 * ape(mine["sol_paper_datasheet_ns"], mine["time_ns"]).mean(),
            "refined": 100 * error.mean(), "median": 100 * error.median(), "p90": 100 * error.quantile(0.9),
            "bias": float(np.exp(np.log(mine["time_ns"] / mine["refined_ns"]).mean())),
        })  # fmt: skip
    return pd.DataFrame(rows, columns=list(LATENCY_HEADINGS))


def speedup_table(pairs: pd.DataFrame) -> pd.DataFrame:
    """One row per group of sparse kernels, dtype and split; ``pairs`` as ``pairs.add_refined`` returns them."""
    known = pairs[pairs["refined_speedup"].notna()].copy()
    known["constant_speedup"] = np.nan
    for _, rows in known.groupby(["kernel", "dtype"], sort=False):
        seen = rows[~rows["held_out"]]
        known.loc[rows.index, "constant_speedup"] = best_constant((seen if len(seen) else rows)["measured_speedup"])
    rows_out = []
    for group, dtype, split, mine in _groups(known):
        measured, once = mine["measured_speedup"], mine.drop_duplicates("dense_record")
        error = ape(mine["refined_speedup"], measured)
        rows_out.append({
            "group": group, "dtype": dtype, "split": split, "pairs": len(mine),
            "plain": 100 * ape(mine["predicted_speedup"], measured).mean(),
            "own_unit": 100 * ape(mine["sol_unit_dense_ns"] / mine["sol_unit_sparse_ns"], measured).mean(),
            "constant": 100 * ape(mine["constant_speedup"], measured).mean(),
            "refined": 100 * error.mean(), "median": 100 * error.median(),
            "dense": 100 * ape(once["refined_dense_ns"], once["time_dense_ns"]).mean(),
            "sparse": 100 * ape(mine["refined_sparse_ns"], mine["time_sparse_ns"]).mean(),
            "decided": int(decided(measured).sum()),
            "plain_right": 100 * right(mine["predicted_speedup"], measured),
            "constant_right": 100 * right(mine["constant_speedup"], measured),
            "refined_right": 100 * right(mine["refined_speedup"], measured),
        })  # fmt: skip
    return pd.DataFrame(rows_out, columns=list(SPEEDUP_HEADINGS))


def _groups(frame: pd.DataFrame) -> Iterator[tuple[str, str, str, pd.DataFrame]]:
    """(group, dtype, split, rows): all dense, all of ours and all peers first, then kernel by kernel and dtype."""
    dense = frame["format"] == "dense" if "format" in frame else pd.Series(False, frame.index)
    vendor = frame["kernel"] == "dense.cublas"
    ours = frame["kernel_ours"].astype(bool) & ~dense
    wholes = (("cuBLAS", vendor), ("our sparse kernels", ours), ("peers, sparse", ~ours & ~dense))
    for split, part in zip(SPLITS, (~frame["held_out"], frame["held_out"]), strict=True):
        for name, chosen in wholes:
            if (chosen & part).any():
                yield name, "all", split, frame[chosen & part]
    for (kernel, dtype), rows in frame.groupby(["kernel", "dtype"], sort=True):
        for split, part in zip(SPLITS, (~rows["held_out"], rows["held_out"]), strict=True):
            if part.any():
                yield str(kernel), str(dtype), split, rows[part]
