"""Fit a kernel's constants to measured latencies: least squares on log time, on the shapes that a fit may see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.optimize import least_squares

from sparsity_roofline.model import hardware
from sparsity_roofline.model.refined import side
from sparsity_roofline.model.terms.constants import KernelConstants
from sparsity_roofline.model.terms.kernel import kernels
from sparsity_roofline.validation.refined.predict import predictable, table_of, tiling_of
from sparsity_roofline.validation.refined.split import held_out_rows

BOUNDS = {
    "unit_fraction": (0.02, 1.0),
    "l2_factor": (0.1, 4.0),
    "step_s": (1e-9, 1e-4),
    "tile_s": (1e-8, 1e-4),
    "split_s": (1e-8, 1e-4),
    "narrow_s": (1e-12, 1e-8),
}
SOFT = 0.15
"""Residual of log time from which a case counts linearly (soft L1), so that a few odd ones do not steer a fit."""
LEAST_CASES = 12
LARGEST_FIT = 1500
GATHERING = ("csr", "bsr")
"""Formats whose tiles reach L2 by index, where some bytes come from L1 or are fetched in part. ``l2_factor`` is fitted
for them, and for libraries, whose tiles may share what they fetch in clusters."""


@dataclass(frozen=True)
class Fitted:
    """A kernel's constants in a dtype on a device.

    Attributes:
        gpu, kernel, dtype: whose.
        constants: fitted ones, and the defaults of those that were held.
        free: names of the fitted ones.
        cases, shapes: fitted to.
        rms: of the residuals of log time.
    """

    gpu: str
    kernel: str
    dtype: str
    constants: KernelConstants
    free: tuple[str, ...]
    cases: int
    shapes: int
    rms: float


def free_constants(kernel: str, records: pd.DataFrame) -> tuple[str, ...]:
    """The constants that a kernel's records can tell: no split where it never splits K, and so on."""
    known = kernels()[kernel]
    if known.product:
        return ("tile_s", "l2_factor")  # the rest is the other kernel's
    free = ["unit_fraction", "step_s", "tile_s"]
    splits = len(known.split) > 1 or "split" in (known.tile or {})
    if known.format in GATHERING or splits:
        free.append("l2_factor")
    if splits:
        free.append("split_s")
    if (records["N"] % 16 != 0).any() or (known.format in ("dense", "nm") and (records["K"] % 16 != 0).any()):
        free.append("narrow_s")
    return tuple(free)


def fit(records: pd.DataFrame, gpu: str, kernel: str, dtype: str) -> Fitted:
    """Fit to every record given; the caller leaves out what the fit must not see."""
    rows = records if len(records) <= LARGEST_FIT else records.sample(LARGEST_FIT, random_state=0)
    table, tiling = table_of(rows), tiling_of(rows)
    longest, ceilings = rows["max_row_nnz"].to_numpy(np.float64), hardware.datasheet(gpu)
    measured = np.log(rows["time_ns"].to_numpy(np.float64) * 1e-9)
    free, start = free_constants(kernel, rows), KernelConstants()

    def at(x: np.ndarray) -> KernelConstants:
        return replace(start, **dict(zip(free, map(float, np.exp(x)), strict=True)))

    def residuals(x: np.ndarray) -> np.ndarray:
        one = side(table, ceilings, kernel, tiling=tiling, max_row_nnz=longest, constants=at(x))
        return np.asarray(np.log(one.seconds) - measured)

    low, high = (np.log([BOUNDS[name][i] for name in free]) for i in (0, 1))
    first = np.clip(np.log([getattr(start, name) for name in free]), low + 1e-6, high - 1e-6)
    found = least_squares(
        residuals, first, bounds=(low, high), loss="soft_l1", f_scale=SOFT, diff_step=[1e-3] * len(free), max_nfev=80
    )
    rms = float(np.sqrt(np.mean(residuals(found.x) ** 2)))
    shapes = len(rows[["M", "K"]].drop_duplicates())
    return Fitted(gpu, kernel, dtype, at(found.x), free, len(rows), shapes, rms)


def fit_all(records: pd.DataFrame, only: Sequence[str] = ()) -> list[Fitted]:
    """Fit every kernel and dtype of normalised records that has enough cases of shapes a fit may see.

    Args:
        records: of any runs; several times of one case and kernel count once, as their median.
        only: names of kernels; all by default.
    """
    rows = one_per_case(records[predictable(records)])
    rows = rows[~held_out_rows(rows)]
    out = []
    for (gpu, kernel, dtype), mine in rows.groupby(["ceilings_datasheet", "kernel", "dtype"], sort=True):
        if len(mine) >= LEAST_CASES and (not only or kernel in only):
            out.append(fit(mine, str(gpu), str(kernel), str(dtype)))
    return out


def one_per_case(records: pd.DataFrame) -> pd.DataFrame:
    """Records with the median time of those that repeat a case, kernel and configuration on a device."""
    keys = ["ceilings_datasheet", "kernel", "case", "kernel_config", "regime_l2"]
    times = records.groupby(keys, sort=False, dropna=False)["time_ns"].transform("median")
    return records.assign(time_ns=times).drop_duplicates(keys)
