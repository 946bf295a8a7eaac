"""From which block size and density on L2 can feed the tensor cores: where a block pattern can keep its promise.

The plain model promises that 1 / d of the work is left. A kernel that multiplies r x c blocks with tiles of r x BN
fetches (r + BN) elements per step along K for 2 r BN operations, whatever the density: L2 must deliver

    rate / (2 r BN / ((r + BN) b)) of the tensor cores' operations,

and its rate depends on whether neighbouring multiprocessors ask for the same rows of X at the same time, which random
block columns do with probability d (``terms.l2``). A pattern below the density where that suffices is bound by L2 and
keeps ``share`` of its promise at most, however good the kernel. It is a bound for kernels whose tile is one block row:
several block rows in one tile, clusters that share fetches, or rows reordered for overlap raise it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparsity_roofline.model.ceilings import Ceilings
from sparsity_roofline.model.cost import Floats
from sparsity_roofline.model.dtype import DTYPES
from sparsity_roofline.model.dtype import dtype as dtype_of
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.terms import l2
from sparsity_roofline.model.terms.constants import device_constants

COLUMNS = 256
"""BN: the widest tile of Y whose sums fit the registers beside 128 rows."""


@dataclass(frozen=True)
class Promise:
    """One block size on one device.

    Attributes:
        device, dtype, rows, columns: whose; r and BN.
        unshared, shared: share of the achievable peak that L2 feeds when neighbours never and always share; at most 1.
        of_printed: ``unshared`` as a share of the printed peak.
        density: from which density on L2 feeds the achievable peak; 0: at any; NaN: at none.
        measured: the device's L2 rates were measured, not derived from its clock.
    """

    device: str
    dtype: str
    rows: int
    columns: int
    unshared: float
    shared: float
    of_printed: float
    density: float
    measured: bool


def promise(ceilings: Ceilings, rows: int, *, columns: int = COLUMNS, dtype: str = "fp16") -> Promise:
    """What L2 allows blocks of ``rows`` rows under tiles of ``columns`` columns.

    Raises:
        UserError: a CPU, an unknown dtype or one without a peak, or a size below 1.
    """
    if not ceilings.is_gpu:
        raise UserError(f"{ceilings.device}: L2 feeds multiprocessors; a CPU has none")
    if min(rows, columns) < 1:
        raise UserError(f"blocks of {rows} rows under tiles of {columns} columns: both must be at least 1")
    device, d = device_constants(ceilings), dtype_of(dtype)
    printed = ceilings.peak(dtype, ceilings.own_unit(dtype))
    peak = printed * device.peak_fraction.get(d.peak, 1.0)
    rates = device.l2_bandwidth, device.l2_shared_bandwidth
    fed = [float(l2.feed_flops(rows, columns, d.element_bytes, rate)) for rate in rates]
    return Promise(
        device=ceilings.device,
        dtype=dtype,
        rows=rows,
        columns=columns,
        unshared=min(fed[0] / peak, 1.0),
        shared=min(fed[1] / peak, 1.0),
        of_printed=fed[0] / printed,
        density=least_density(fed[0] / peak, fed[1] / peak),
        measured=device.known,
    )


def least_density(unshared: float, shared: float) -> float:
    """The density from which d / shared + (1 - d) / unshared <= 1: 0 if at any, NaN if at none.

    0.5 fed alone, 1.25 fed shared: (1 / 0.5 - 1) / (1 / 0.5 - 1 / 1.25) = 0.83.
    """
    if unshared >= 1.0:
        return 0.0
    if shared < 1.0:
        return float("nan")
    return (1.0 / unshared - 1.0) / (1.0 / unshared - 1.0 / shared)


def share_kept(
    ceilings: Ceilings, rows: int, density: Floats, *, columns: int = COLUMNS, dtype: str = "fp16"
) -> Floats:
    """Share of the achievable peak that L2 feeds at each density, at most 1: what is left of the promised speedup where
    both sides are compute-bound."""
    at = promise(ceilings, rows, columns=columns, dtype=dtype)
    device = device_constants(ceilings)
    rate = l2.rate(device.l2_bandwidth, device.l2_shared_bandwidth, np.asarray(density, dtype=np.float64))
    peak = ceilings.peak(dtype, ceilings.own_unit(dtype)) * device.peak_fraction.get(DTYPES[dtype].peak, 1.0)
    fed = l2.feed_flops(rows, at.columns, DTYPES[dtype].element_bytes, rate)
    return np.minimum(np.asarray(fed / peak, dtype=np.float64), 1.0)
