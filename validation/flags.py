"""What must be said about a pair beside its numbers: beaten bounds, fractions above one, the launch floor.

A fraction above one is shown with its cause and never clipped. Under the paper's costs it can be honest; under the
pattern-aware bound it is a fault of the bytes, the clock, the peak or the cache state until explained.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from sparsity_roofline.model.dtype import DTYPES

GPU_FLOOR_NS = 5000.0
"""No cold kernel of the H100 baseline finished under 3 to 4.4 us; below about 5 us of speed of light the launch
decides."""

NOISE_NS = 64.0
"""Two steps of the device clock's 32 ns grid: no smaller excess over a bound is one."""

_SIDES = ("sparse", "dense")


def add_flags(pairs: pd.DataFrame, preset: str, floor_ns: float | None) -> pd.DataFrame:
    """Add ``violation`` and ``violation_<side>``, ``above_one`` and its cause, ``below_floor`` and ``faster``."""
    out = pairs.copy()
    hot = (out["regime_l2"] == "hot").to_numpy()
    beaten = {side: beats(out, side, "bound") for side in _SIDES}
    above = {side: beats(out, side, preset) for side in _SIDES}
    # The bound charges DRAM traffic; what runs from a warm cache may pass it without any fault.
    for side in _SIDES:
        out[f"violation_{side}"] = beaten[side] & ~hot
    out["violation"] = out["violation_sparse"] | out["violation_dense"]
    out["above_one"] = above["sparse"] | above["dense"]
    out["above_one_cause"] = ""
    for position in np.flatnonzero(out["above_one"].to_numpy() | out["violation"].to_numpy()):
        row = out.iloc[position]
        sides = [s for s in _SIDES if above[s][position] or beaten[s][position]]
        out.loc[position, "above_one_cause"] = "; ".join(f"{s}: {cause(row, s, preset)}" for s in sides)
    if floor_ns is None:
        floor = np.where(out["kernel_unit"] == "cpu", 0.0, GPU_FLOOR_NS)
    else:
        floor = np.full(len(out), floor_ns)
    out["floor_ns"] = floor
    out["below_floor"] = np.minimum(out["sol_sparse_ns"], out["sol_dense_ns"]) < floor
    low, high = out["measured_speedup_low"], out["measured_speedup_high"]
    out["faster"] = np.select([low > 1, high < 1], ["sparse", "dense"], "unclear")
    return out


def beats(pairs: pd.DataFrame, side: str, preset: str) -> np.ndarray:
    """Where a side ran faster than its speed of light, beyond the interval of its median and the clock's grid."""
    high = pairs[f"time_ci_high_{side}_ns"].fillna(pairs[f"time_{side}_ns"])
    return np.asarray(pairs[f"sol_{preset}_{side}_ns"] > high + NOISE_NS, dtype=bool)


def cause(row: pd.Series, side: str, preset: str) -> str:
    """Why one side of a pair passes its speed of light under ``preset``, as far as the record can tell."""
    if row["regime_l2"] == "hot":
        return "operands stay in cache (hot regime), the DRAM bound does not apply"
    time = row[f"time_ci_high_{side}_ns"] if row[f"time_ci_high_{side}_ns"] > 0 else row[f"time_{side}_ns"]
    causes = []
    if row[f"sol_{preset}_{side}_ns"] > time + NOISE_NS:
        causes += _other_unit(row, side, preset)
        causes += _bytes_not_moved(row, side, preset)
    if row[f"sol_bound_{side}_ns"] > time + NOISE_NS:
        if row["ceilings"] == "measured":
            causes.append("the measured ceilings are below what the device can do: calibrate again")
        else:
            causes.append("beats the pattern-aware bound: check bytes, clock, peak and cache state")
    return ", ".join(causes) or "no cause in the record: check bytes, clock, peak and cache state"


def _other_unit(row: pd.Series, side: str, preset: str) -> list[str]:
    """A kernel on a faster unit than the one whose peak the preset charges (fp32 run in tensor cores, say)."""
    if not row[f"sol_unit_{side}_ns"] < row[f"sol_{preset}_{side}_ns"] * (1 - 1e-9):
        return []
    unit = row["kernel_unit"] if side == "sparse" else row["dense_unit"]
    charged = DTYPES[row["dtype"]].unit if row["dtype"] in DTYPES else "other"
    return [f"unit mismatch: runs on {unit} cores, the {preset} peak is that of {charged} cores"]


def _bytes_not_moved(row: pd.Series, side: str, preset: str) -> list[str]:
    """The two honest reasons for fewer DRAM bytes than charged, the larger first."""
    saved = row[f"bytes_{preset}_{side}"] - row[f"bytes_bound_{side}"]
    if row[f"bound_{preset}_{side}"] != "memory" or not saved > 0:
        return []
    element = DTYPES[row["dtype"]].element_bytes if row["dtype"] in DTYPES else 0
    unused = (row["K"] - row["used_columns"]) * row["N"] * element if side == "sparse" else 0
    share = min(unused / saved, 1.0)
    found = [
        (share, f"unused X rows are charged ({row['K'] - row['used_columns']} of {row['K']})"),
        (1.0 - share, "output stays in L2 but is charged"),
    ]
    return [text for weight, text in sorted(found, reverse=True) if weight > 0.01]
