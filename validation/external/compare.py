"""Every model's error on the same rows: latency of each side and speedup, by dtype, size and bound."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from sparsity_roofline.validation.errors import NAN, FloatArray, agreement, shape_clusters
from sparsity_roofline.validation.external.predictors import Positions, Predicted, groups

QUANTITIES = ("dense", "sparse", "speedup")
"""What is predicted and measured: seconds of the dense side, of the sparse side, and their ratio."""

N_EDGE = 1024
"""Columns of X from which a case counts as large."""

CLEAR = (0.95, 1.05)
"""Measured speedups between these are too near 1 to say which side is faster."""

COLUMNS = (
    "device", "dtype", "pattern", "stratum", "value", "quantity", "model", "n", "shapes", "bias", "bias_low",
    "bias_high", "loa_low", "loa_high", "mape", "median_ape", "spearman", "measured_below", "clear", "right",
)  # fmt: skip
"""Columns of ``compare``."""

GROUP = ["device", "dtype", "pattern"]

FEW = 10
"""Rows below which the best constant fits whatever there is, and beating it says nothing."""


def measured_of(rows: pd.DataFrame) -> dict[str, FloatArray]:
    """Quantity -> measured figures, NaN where a row lacks a side."""
    dense, sparse = (rows[f"{side}_s"].to_numpy(np.float64) for side in ("dense", "sparse"))
    return {"dense": dense, "sparse": sparse, "speedup": dense / sparse}


def predicted_of(model: Predicted) -> dict[str, FloatArray]:
    """Quantity -> predicted figures."""
    return {"dense": model.dense_s, "sparse": model.sparse_s, "speedup": model.speedup}


def strata(group: pd.DataFrame) -> Iterator[tuple[str, str, Positions]]:
    """(stratum, value, positions in the group): all, small and large N, and each pair of bounds."""
    everything = np.arange(len(group), dtype=np.int64)
    yield "all", "", everything
    large = (group["N"] >= N_EDGE).to_numpy(bool)
    if large.any() and not large.all():
        yield "N", f"< {N_EDGE}", everything[~large]
        yield "N", f">= {N_EDGE}", everything[large]
    bounds = (group["bound_dense"] + " > " + group["bound_sparse"]).to_numpy(object)
    values = sorted(set(bounds.tolist()))
    if len(values) > 1:
        for value in values:
            yield "bound, dense > sparse", str(value), everything[bounds == value]


def compare(rows: pd.DataFrame, models: Mapping[str, Predicted], *, resamples: int = 2000) -> pd.DataFrame:
    """One line per device, dtype, pattern, stratum, quantity and model.

    ``measured_below`` is the share of rows faster than predicted (for a bound: that beat it), ``clear`` the number of
    rows whose measured speedup is outside ``CLEAR`` and ``right`` the share of those where the model names the faster
    side.

    Args:
        rows: measured rows with ``bound_dense`` and ``bound_sparse`` of the plain model.
        models: predictions of every row, by the model's name.
        resamples: of the bootstrap over layer shapes.
    """
    measured, said = measured_of(rows), {name: predicted_of(model) for name, model in models.items()}
    out = []
    for key, at in groups(rows, GROUP):
        group = rows.iloc[at]
        for stratum, value, inside in strata(group):
            chosen = at[inside]
            for quantity in QUANTITIES:
                for name, figures in said.items():
                    pair = measured[quantity][chosen], figures[quantity][chosen]
                    line = _line(rows.iloc[chosen], quantity, *pair, resamples)
                    if line is not None:
                        out.append((*key, stratum, value, quantity, name, *line))
    return pd.DataFrame(out, columns=list(COLUMNS))


def _line(
    rows: pd.DataFrame, quantity: str, measured: FloatArray, predicted: FloatArray, resamples: int
) -> tuple[float, ...] | None:
    known = np.isfinite(measured) & np.isfinite(predicted)
    if not known.any():
        return None
    m, p = measured[known], predicted[known]
    found = agreement(np.log(m / p), shape_clusters(rows[known]), resamples=resamples)
    clear, right = 0, NAN
    if quantity == "speedup":
        sure = (m < CLEAR[0]) | (m > CLEAR[1])
        clear = int(sure.sum())
        right = float(np.mean((p[sure] > 1) == (m[sure] > 1))) if clear else NAN
    return (
        found.n, found.clusters, found.bias, found.bias_low, found.bias_high, found.loa_low, found.loa_high, found.mape,
        found.median_ape, _spearman(p, m), float(np.mean(m < p)), clear, right,
    )  # fmt: skip


def _spearman(predicted: FloatArray, measured: FloatArray) -> float:
    """Rank correlation; NaN where there is nothing to rank."""
    from scipy import stats

    if len(predicted) < 3 or np.ptp(predicted) <= 1e-9 * predicted.max() or np.ptp(measured) <= 1e-9 * measured.max():
        return NAN
    return float(stats.spearmanr(predicted.tolist(), measured.tolist()).statistic)


def headline(compared: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """The table for people: a line per device, dtype, pattern and stratum, the models' speedup errors side by side."""
    speedup = compared[compared["quantity"] == "speedup"]
    keys = [*GROUP, "stratum", "value"]
    out = []
    for key, part in speedup.groupby(keys, sort=False):
        line: dict[str, object] = dict(zip(keys, key, strict=True))
        line["n"] = int(part["n"].iloc[0])
        for row in part.to_dict("records"):
            line[f"mape {row['model']}"] = row["mape"]
            line[f"bias {row['model']}"] = row["bias"]
            line[f"right {row['model']}"] = row["right"]
        out.append(line)
    table = pd.DataFrame(out)
    names = list(dict.fromkeys(speedup["model"]))
    ordered = [f"{what} {name}" for what in ("mape", "bias", "right") for name in names]
    return table[[*keys, "n", *ordered]] if len(table) else pd.DataFrame(columns=[*keys, "n"])


def beaten(compared: pd.DataFrame, constant: str) -> list[str]:
    """One line per device, dtype and model: does its speedup error beat the best constant's?"""
    whole = compared[(compared["quantity"] == "speedup") & (compared["stratum"] == "all")]
    lines = []
    for (device, dtype, pattern), part in whole.groupby(GROUP, sort=False):
        mape = dict(zip(part["model"], part["mape"], strict=True))
        limit, rows = mape[constant], int(part["n"].max())
        if rows < FEW:
            lines.append(f"{device} {dtype} {pattern}: {rows} rows are too few to judge a model against a constant")
            continue
        for name, value in mape.items():
            if name != constant:
                verdict = "beats" if value < limit else "does not beat"
                lines.append(
                    f"{device} {dtype} {pattern}: {name} {verdict} the best constant speedup "
                    f"({100 * value:.0f} % against {100 * limit:.0f} %)"
                )
    return lines
