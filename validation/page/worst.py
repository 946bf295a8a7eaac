"""The cases that went wrong the most, each with the reason that the refined model gives for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from sparsity_roofline.model.errors import UserError
from sparsity_roofline.validation.refined.explain import Explanation, explain_record
from sparsity_roofline.validation.summary import headline
from sparsity_roofline.validation.tables import label, number

EACH = 2
"""Cases of each device, kernel and dtype: a list of the worst alone would be one kernel's."""

MOST = 60
"""Cases in all."""

HEADINGS = {
    "matrix": "matrix", "shape": "M x K x N", "stored": "format", "dtype": "dtype",
    "sparsity": "sparsity", "kernel": "kernel", "predicted_speedup": "predicted speedup",
    "refined_speedup": "refined prediction", "measured_speedup": "measured speedup", "parity": "parity",
    "f_dense": "fraction of SoL dense", "f_sparse": "fraction of SoL sparse", "notes": "notes", "why": "explain",
    "device": "device", "run": "run",
}  # fmt: skip


def worst(
    pairs: pd.DataFrame, by: Sequence[str] = ("device", "run", "kernel", "dtype"), each: int = EACH, most: int = MOST
) -> pd.DataFrame:
    """Of every group the pairs above the launch floor whose prediction is furthest off, worst first; a shape once."""
    kept = headline(pairs)
    far = kept.assign(distance=kept["log_error"].abs()).sort_values("distance", ascending=False, kind="stable")
    far = far.drop_duplicates([*by, "M", "K", "N"])
    return label(far.groupby(list(by), sort=False, dropna=False).head(each).head(most)).drop(columns="distance")


def explanations(chosen: pd.DataFrame, records: pd.DataFrame) -> list[Explanation | None]:
    """What ``explain`` says of each pair; None where the refined model does not describe the kernel or the device.

    Args:
        chosen: pairs. records: normalised, those that the pairs were joined from.
    """
    out: list[Explanation | None] = []
    for sparse, dense in zip(chosen["sparse_record"], chosen["dense_record"], strict=True):
        both = records.loc[[sparse, dense]]
        try:
            out.append(explain_record(both, both.loc[sparse]))
        except UserError:
            out.append(None)
    return out


def in_words(row: dict[Any, Any], found: Explanation | None) -> str:
    """One or two sentences: what was promised, what came, and which steps of the model lie between."""
    said = (
        f"The plain limit promises {number(float(row['predicted_speedup']))}x ({row['bound_dense']} to "
        f"{row['bound_sparse']}-bound), measured is {number(float(row['measured_speedup']))}x: the sparse side runs at "
        f"{number(float(row['f_sparse']))} of its limit, the dense one at {number(float(row['f_dense']))}."
    )
    if found is None:
        return f"{said} The refined model does not describe this kernel here."
    said += f" The refined model says {number(float(found.rows[-1]['speedup']))}x"
    steps = _steps(found)
    return f"{said}. The largest steps to it: {'; '.join(steps)}." if steps else f"{said}."


def _steps(found: Explanation, most: int = 3) -> list[str]:
    """The steps that change the speedup most, in words."""
    changes = []
    for before, after in zip(found.rows, found.rows[1:], strict=False):
        factor = after["speedup"] / before["speedup"] if before["speedup"] > 0 else np.nan
        if factor > 0 and abs(np.log(factor)) > 0.05:
            changes.append((abs(float(np.log(factor))), f"{number(float(factor), 2)}x, {after['meaning']}"))
    return [text for _, text in sorted(changes, reverse=True)[:most]]
