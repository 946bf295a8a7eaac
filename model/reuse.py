"""After how many calls with one pattern a sparse format has paid for its conversion.

With setup S and time T of each side, n calls cost S + n T; sparse pays from the smallest n with
S_sparse + n T_sparse <= S_dense + n T_dense. The setup is measured (``validation.amortisation``) or, where nothing
was run, at least what a conversion must move: read the dense weight ``passes`` times, b M K bytes each, and write the
stored form once, at DRAM bandwidth.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sparsity_roofline.model.cost import Floats
from sparsity_roofline.model.errors import UserError


def reuses(extra_setup: npt.ArrayLike, gain: npt.ArrayLike) -> Floats:
    """Smallest number of calls, elementwise, after which the dearer setup is earned back.

    Args:
        extra_setup: S_sparse - S_dense, any sign; any unit of time.
        gain: T_dense - T_sparse, any sign; the same unit.

    Returns:
        Whole numbers >= 0; infinite where ``gain`` <= 0; NaN where either is not known. Exact for whole or half
        nanoseconds below 2**50: a quotient of such numbers cannot round across an integer.
    """
    extra, per_call = np.asarray(extra_setup, np.float64), np.asarray(gain, np.float64)
    with np.errstate(all="ignore"):  # what divides by zero or overflows is replaced below
        calls = np.maximum(np.ceil(extra / np.where(per_call > 0, per_call, np.nan)), 0.0) + 0.0  # no minus zero
    calls = np.where(per_call <= 0, np.inf, calls)
    return np.where(np.isnan(extra) | np.isnan(per_call), np.nan, calls)


def conversion_s(
    dense_bytes: npt.ArrayLike, stored_bytes: npt.ArrayLike, bandwidth: float, passes: float = 1.0
) -> Floats:
    """Least time to convert a weight that lies in memory: (passes x dense bytes + stored bytes) / bandwidth, seconds.

    One pass suffices where a row's or group's share of the output is known beforehand (n:m, or counts kept from
    pruning); a format that must count before it writes (CSR, BSR from scratch) reads twice.

    Raises:
        UserError: fewer than one pass.
    """
    if not passes >= 1:
        raise UserError(f"conversion passes {passes}: a weight is read at least once")
    return (passes * np.asarray(dense_bytes, np.float64) + np.asarray(stored_bytes, np.float64)) / bandwidth
