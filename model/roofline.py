"""Speed-of-light latency, what bounds it, and the predicted speedup, over any number of cases at once.

T = max(operations / peak, bytes / bandwidth) and speedup = T_dense / T_sparse: the Sparsity Roofline (Shinn et al.,
arXiv 2310.00496) in its cache-oblivious form.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from sparsity_roofline.model.case import Case
from sparsity_roofline.model.ceilings import Ceilings
from sparsity_roofline.model.cost import Cost, CostOptions, Floats, Peak, at_sparse_peak, cost
from sparsity_roofline.model.cost import preset as lookup_preset
from sparsity_roofline.model.dtype import DTYPES, Unit
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.table import CSR, NM, CaseTable

Strings = npt.NDArray[np.str_]

_DTYPES = tuple(DTYPES)
_GPU_UNITS: tuple[Unit, ...] = ("tensor", "cuda")


@dataclass(frozen=True, eq=False)
class Sol:
    """Speed of light of every case.

    Attributes:
        latency_s: max(compute_s, memory_s).
        compute_s, memory_s: operations / peak and bytes / bandwidth.
        bound: ``compute`` or ``memory``, whichever is larger (compute on a tie).
    """

    latency_s: Floats
    compute_s: Floats
    memory_s: Floats
    bound: Strings


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the model says of every case, dense and sparse side; seconds, operations and bytes.

    Attributes:
        sol_s, bound, flops, bytes: of the case as it is stored.
        sol_dense_s, bound_dense, flops_dense, bytes_dense: of the same M x K x N stored dense.
        speedup: sol_dense_s / sol_s; NaN where both are 0.
        device, ceilings_kind, ceilings_identity: whose ceilings, and of which kind: figures of two kinds never share a
            prediction.
        preset: its name, ``custom`` for options given one by one.
        options, dense_options: every choice made.
        unit: what the kernel was said to run on, or None.
    """

    sol_s: Floats
    sol_dense_s: Floats
    bound: Strings
    bound_dense: Strings
    flops: Floats
    bytes: Floats
    flops_dense: Floats
    bytes_dense: Floats
    speedup: Floats
    device: str
    ceilings_kind: str
    ceilings_identity: str
    preset: str
    options: CostOptions
    dense_options: CostOptions
    unit: Unit | None = None

    def __len__(self) -> int:
        return int(self.sol_s.shape[0])

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays by name, for a DataFrame."""
        return {f.name: value for f in fields(self) if isinstance(value := getattr(self, f.name), np.ndarray)}

    def meta(self) -> dict[str, Any]:
        """What the arrays rest on, in plain types."""
        return {
            "device": self.device,
            "ceilings": self.ceilings_kind,
            "ceilings_identity": self.ceilings_identity,
            "preset": self.preset,
            "options": self.options.to_dict(),
            "dense_options": self.dense_options.to_dict(),
            "unit": self.unit,
        }


@dataclass(frozen=True)
class Totals:
    """Sums over the cases of a prediction: a network's claim is the speedup of the sums, never the mean of speedups.

    Attributes:
        sol_s, sol_dense_s: summed latencies.
        flops, bytes, flops_dense, bytes_dense: summed work and traffic.
        speedup: sol_dense_s / sol_s; NaN if nothing takes time.
        cases: rows summed.
        count: sum of the weights.
    """

    sol_s: float
    sol_dense_s: float
    flops: float
    bytes: float
    flops_dense: float
    bytes_dense: float
    speedup: float
    cases: int
    count: float


def sol(cost: Cost, peak: npt.ArrayLike, bandwidth: npt.ArrayLike) -> Sol:
    """Speed-of-light latency of costs.

    Args:
        cost: operations and bytes.
        peak: operations per second, a number or one per case.
        bandwidth: bytes per second, a number or one per case.
    """
    compute = cost.flops / np.asarray(peak, dtype=np.float64)
    memory = cost.bytes / np.asarray(bandwidth, dtype=np.float64)
    return Sol(np.maximum(compute, memory), compute, memory, np.where(compute >= memory, "compute", "memory"))


def predict(
    table: CaseTable,
    ceilings: Ceilings,
    preset: str = "paper",
    *,
    options: CostOptions | None = None,
    dense_options: CostOptions | None = None,
    unit: Unit | None = None,
    conv_input: npt.ArrayLike | None = None,
) -> Prediction:
    """Predict every case of a table.

    Args:
        table: the cases.
        ceilings: of one device and one kind.
        preset: ``paper``, ``unit`` or ``bound``; ignored where ``options`` is given.
        options: choices made one by one.
        dense_options: other choices for the dense side (an INT8 GEMM that writes INT32, say); by default the same.
        unit: what the kernel runs on, for options with ``compute_peak`` ``unit`` or ``bound``. None, where no kernel
            is named: under ``unit`` csr runs on CUDA cores and every other format on its dtype's own unit; under
            ``bound`` every case has the largest peak.
        conv_input: see ``cost.cost``.

    Raises:
        UserError: an unknown preset, or a dtype whose peak the ceilings do not have.
    """
    chosen = options or lookup_preset(preset)
    other = dense_options or chosen
    plain = table.as_dense()
    sparse_cost = cost(table, chosen, l2_bytes=ceilings.l2_bytes, conv_input=conv_input)
    dense_cost = cost(plain, other, l2_bytes=ceilings.l2_bytes, conv_input=conv_input)
    peaks = _peaks(table, ceilings, chosen, chosen.compute_peak, unit)
    sparse = sol(sparse_cost, peaks, ceilings.dram_bandwidth)
    dense = sol(dense_cost, _peaks(plain, ceilings, other, other.dense_peak, None), ceilings.dram_bandwidth)
    nothing = np.full_like(sparse.latency_s, np.nan)
    speedup = np.divide(dense.latency_s, sparse.latency_s, out=nothing, where=sparse.latency_s > 0)
    return Prediction(
        sol_s=sparse.latency_s,
        sol_dense_s=dense.latency_s,
        bound=sparse.bound,
        bound_dense=dense.bound,
        flops=sparse_cost.flops,
        bytes=sparse_cost.bytes,
        flops_dense=dense_cost.flops,
        bytes_dense=dense_cost.bytes,
        speedup=speedup,
        device=ceilings.device,
        ceilings_kind=ceilings.kind,
        ceilings_identity=ceilings.identity,
        preset="custom" if options else preset,
        options=chosen,
        dense_options=other,
        unit=unit,
    )


def sol_case(
    case: Case, ceilings: Ceilings, preset: str = "paper", unit: Unit | None = None
) -> tuple[float, str, float, float]:
    """(speed-of-light seconds, bound, operations, bytes) of one case; see ``predict``.

    Raises:
        UserError: as ``predict``.
    """
    table, chosen = CaseTable.of([case]), lookup_preset(preset)
    one = cost(table, chosen, l2_bytes=ceilings.l2_bytes)
    limit = sol(one, _peaks(table, ceilings, chosen, chosen.compute_peak, unit), ceilings.dram_bandwidth)
    return float(limit.latency_s[0]), str(limit.bound[0]), float(one.flops[0]), float(one.bytes[0])


def totals(prediction: Prediction, weights: npt.ArrayLike | None = None) -> Totals:
    """Sum a prediction, each case ``weights`` times (a layer's count), and divide the sums.

    Raises:
        UserError: weights of another length.
    """
    times = np.ones(len(prediction)) if weights is None else np.asarray(weights, dtype=np.float64)
    if times.shape != prediction.sol_s.shape:
        raise UserError(f"weights have shape {times.shape}, expected one per case: {prediction.sol_s.shape}")
    columns = ("sol_s", "sol_dense_s", "flops", "bytes", "flops_dense", "bytes_dense")
    sums = {name: float(np.dot(getattr(prediction, name), times)) for name in columns}
    speedup = sums["sol_dense_s"] / sums["sol_s"] if sums["sol_s"] > 0 else float("nan")
    return Totals(**sums, speedup=speedup, cases=len(prediction), count=float(times.sum()))


def _peaks(table: CaseTable, ceilings: Ceilings, options: CostOptions, rule: Peak, unit: Unit | None) -> Floats:
    """Peak rate of every row, operations per second."""
    peaks = np.ones(len(table))
    full = at_sparse_peak(table, options)
    if full.any() and "cuda" in (rule, unit):
        raise UserError("cost option nm_work=full_at_sparse_peak: CUDA cores have no 2:4 peak; choose the tensor cores")
    two_four = (table.format_code == NM) & (table.n == 2) & (table.m == 4)
    for code in np.unique(table.dtype_code):
        name = _DTYPES[int(code)]
        rows = (table.dtype_code == code) & ~full
        for is_csr in (False, True):
            at = rows & ((table.format_code == CSR) == is_csr)
            if at.any():
                peaks[at] = _peak(ceilings, name, rule, unit, is_csr)
        at = (table.dtype_code == code) & full
        if at.any():
            peaks[at] = ceilings.peak(name, ceilings.own_unit(name), sparse=True)
        at = rows & two_four
        if rule == "bound" and unit != "cuda" and at.any():
            # Printed 2:4 peaks are not exactly twice the dense ones everywhere (L40S).
            printed = ceilings.peak_or_none(name, ceilings.own_unit(name), sparse=True)
            peaks[at] = np.maximum(peaks[at], (printed or 0.0) / 2)
    return peaks


def _peak(ceilings: Ceilings, dtype: str, rule: Peak, unit: Unit | None, is_csr: bool) -> float:
    """Peak rate of rows that share a dtype."""
    own = ceilings.own_unit(dtype)
    if own == "cpu" or rule == "dtype":
        return ceilings.peak(dtype, own)
    if rule in ("cuda", "tensor"):
        return ceilings.peak(dtype, rule)
    if unit is not None:
        return ceilings.peak(dtype, unit)
    if rule == "unit":
        return ceilings.peak(dtype, "cuda" if is_csr else own)
    rates = [rate for u in _GPU_UNITS if (rate := ceilings.peak_or_none(dtype, u)) is not None]
    return max(rates) if rates else ceilings.peak(dtype, own)
