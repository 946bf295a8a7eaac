"""The roofs that records were judged against, recovered from the records themselves.

A record carries operations, bytes, speed of light and bound, so peak = operations / SoL where compute bounds it and
bandwidth = bytes / SoL where memory does: a plot needs no table of hardware and cannot disagree with the records.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from sparsity_roofline.model.record import CEILINGS
from sparsity_roofline.validation.errors import FloatArray


@dataclass
class Roofs:
    """Ceilings of one kind for one dtype.

    Attributes:
        kind: "datasheet" or "measured".
        dtype: of the peaks.
        bandwidth: bytes per second, NaN if no record of the kind is memory-bound.
        peaks: operations per second by unit; a unit is absent if no record on it is compute-bound.
    """

    kind: str
    dtype: str
    bandwidth: float = float("nan")
    peaks: dict[str, float] = field(default_factory=dict)

    def attainable(self, intensity: FloatArray, unit: str) -> FloatArray:
        """min(peak, bandwidth x intensity) in operations per second, of what is known."""
        slope = self.bandwidth * intensity
        return np.fmin(self.peaks.get(unit, float("nan")), slope)


def roofs(records: pd.DataFrame) -> list[Roofs]:
    """Roofs of every kind and dtype in normalised records with the status ok, data sheet first."""
    ok = records[records["status"] == "ok"]
    found = []
    for kind in CEILINGS:
        bandwidth = _bandwidth(ok, kind)
        for name, rows in ok.groupby("dtype", sort=True):
            roof = Roofs(kind, str(name), bandwidth, dict(_peaks(rows, kind)))
            if roof.peaks or bandwidth == bandwidth:
                found.append(roof)
    return found


def _bandwidth(ok: pd.DataFrame, kind: str) -> float:
    rates: list[float] = []
    for preset in ("paper", "unit", "bound"):
        rows = ok[ok[f"bound_{preset}_{kind}"] == "memory"]
        rates += (rows[f"bytes_{preset}"] / rows[f"sol_{preset}_{kind}_ns"] * 1e9).tolist()
    return _typical(rates)


def _peaks(rows: pd.DataFrame, kind: str) -> Iterator[tuple[str, float]]:
    for unit, mine in rows[rows[f"bound_unit_{kind}"] == "compute"].groupby("kernel_unit", sort=True):
        rate = _typical((mine["flops_unit"] / mine[f"sol_unit_{kind}_ns"] * 1e9).tolist())
        if rate == rate:
            yield str(unit), rate


def _typical(rates: list[float]) -> float:
    """The median of the rates: they differ only by rounding when the records share their ceilings."""
    kept = [rate for rate in rates if np.isfinite(rate) and rate > 0]
    return float(np.median(kept)) if kept else float("nan")
