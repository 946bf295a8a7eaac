"""The Sparsity Roofline itself: accuracy against predicted and measured speedup, the Pareto front marked.

Accuracies come from a table of (network, pattern, sparsity, accuracy): a user's CSV, or those published with the Deep
Learning Matrix Collection (``accuracies/dlmc.csv``). Speedups are those of the network's prunable layers (``sums``).
"""

from __future__ import annotations

import os
from importlib.resources import files
from typing import IO

import numpy as np
import pandas as pd

from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.text import printable
from sparsity_roofline.validation.errors import FloatArray
from sparsity_roofline.validation.sums import BEST

REQUIRED = ("network", "pattern", "sparsity", "accuracy")
TEXT = ("network", "method", "pattern", "metric")
KEYS = ("network", "pattern", "method", "level")

HEADINGS = {
    "network": "network", "method": "method", "pattern": "pattern", "dtype": "dtype",
    "size": "N", "kernel": "kernel", "level": "sparsity", "accuracy": "accuracy",
    "metric": "metric", "predicted_speedup": "predicted speedup", "refined_speedup": "refined prediction",
    "measured_speedup": "measured speedup", "predicted_front": "on the predicted front",
    "measured_front": "on the measured front", "coverage": "share of dense work",
    "device": "device", "run": "run",
}  # fmt: skip


def published() -> pd.DataFrame:
    """The accuracies published with the Deep Learning Matrix Collection; the file's head names the source."""
    with files("sparsity_roofline.validation").joinpath("accuracies/dlmc.csv").open("r", encoding="utf-8") as file:
        return _read(file, "accuracies/dlmc.csv")


def read_accuracies(path: str | os.PathLike[str]) -> pd.DataFrame:
    """A user's table: ``network``, ``pattern``, ``sparsity`` (0 to 1), ``accuracy``; ``method`` and ``metric`` if any.

    Lines that begin with ``#`` are comments. A row at sparsity 0 is the dense network.

    Raises:
        UserError: no such file, a column missing, or a figure that is none.
    """
    try:
        with open(path, encoding="utf-8") as file:
            return _read(file, os.fspath(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {os.fspath(path)}: {getattr(error, 'strerror', None) or error}") from error


def _read(file: IO[str], name: str) -> pd.DataFrame:
    try:
        table = pd.read_csv(file, comment="#", skipinitialspace=True)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise UserError(f"{name}: not a table of comma-separated values ({error})") from error
    absent = [column for column in REQUIRED if column not in table]
    if absent:
        raise UserError(f"{name}: no column {', '.join(absent)}; accuracies need {', '.join(REQUIRED)}")
    for column in ("sparsity", "accuracy"):
        figures = pd.to_numeric(table[column], errors="coerce")
        bad = figures.isna() | ~np.isfinite(figures)
        if column == "sparsity":
            bad |= (figures < 0) | (figures >= 1)
        if bad.any():
            at = int(np.flatnonzero(bad)[0])
            raise UserError(f"{name}: row {at + 1}: {column} {table[column].iloc[at]!r} is not a number in its range")
        table[column] = figures.astype(float)
    for column in TEXT:
        given = table[column] if column in table else pd.Series("", table.index)
        table[column] = given.fillna("").astype(str).str.strip().map(printable)
    table["level"] = table["sparsity"].round(4)
    return table[[*TEXT, "sparsity", "level", "accuracy"]]


def accuracy_speedup(sums: pd.DataFrame, accuracies: pd.DataFrame) -> pd.DataFrame:
    """Network sums with an accuracy: one row each, ``predicted_front`` and ``measured_front`` marked.

    A table without methods fits any method, so that masks made by magnitude find a user's accuracy. Fronts are within
    one device, run, network, pattern, dtype, batch or tokens and kernel.

    Args:
        sums: of ``sums.network_sums``. accuracies: of ``read_accuracies`` or ``published``.
    """
    if sums.empty:  # its columns have no types to join by
        return pd.DataFrame(columns=[*sums.columns, "accuracy", "metric", "predicted_front", "measured_front"])
    named = accuracies[accuracies["method"] != ""]
    free = accuracies[accuracies["method"] == ""].drop(columns="method")
    parts = [sums.merge(named, on=list(KEYS), how="inner")]
    parts.append(sums.merge(free, on=[key for key in KEYS if key != "method"], how="inner"))
    out = pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
    for which in ("predicted", "measured"):
        out[f"{which}_front"] = False
    line = ["device", "run_id", "network", "pattern", "dtype", "batch", "tokens", "kernel"]
    for _, rows in out.groupby(line, dropna=False, sort=False):
        for which in ("predicted", "measured"):
            front = pareto(rows[f"{which}_speedup"].to_numpy(np.float64), rows["accuracy"].to_numpy(np.float64))
            out.loc[rows.index, f"{which}_front"] = front
    return out.sort_values([*line, "level"], kind="stable", ignore_index=True)


def pareto(speedup: FloatArray, accuracy: FloatArray) -> np.ndarray:
    """True where no other point is at least as fast and as accurate and better in one of the two.

    Points that are equal in both stand or fall together; a point that is not a number is on no front.
    """
    known = np.isfinite(speedup) & np.isfinite(accuracy)
    at_least = (speedup[None, :] >= speedup[:, None]) & (accuracy[None, :] >= accuracy[:, None])
    better = (speedup[None, :] > speedup[:, None]) | (accuracy[None, :] > accuracy[:, None])
    return np.asarray(known & ~(at_least & better & known[None, :]).any(axis=1))


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that plots show: the fastest kernel of each layer."""
    return table[table["kernel"] == BEST]
