"""The refined model on anyone's latencies: as it stands, and with its constants fitted to other shapes of the file.

Two terms are added to ``model.refined``, which describes single calls from a cold cache at the boost clock:

- **hot L2**: measured in a loop on the same buffers, part of a call's F bytes is still in L2, of capacity C, from the
  call before. Under random replacement a line outlives the misses of one pass with probability exp(-misses / C), so the
  hit rate is the smaller solution of p = exp(-(1 - p) F / C), and 1 where F <= C. F = 2 C: p = 0.203.
- **sustained clocks**: a loop of large products draws full power until the clock gives way. Computing takes
  1 + s max(0, ln(t / 20 us)) times as long, t the time at the printed peak. s is fitted; 0 without a fit.

Constants are fitted by least squares on log time per device, dtype and side, to four fifths of the weight shapes; each
row is predicted by the fit that has seen no row of its shape.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from scipy.optimize import least_squares

from sparsity_roofline.model import hardware
from sparsity_roofline.model.ceilings import Ceilings
from sparsity_roofline.model.cost import CostOptions, cost, preset
from sparsity_roofline.model.refined import Terms, side
from sparsity_roofline.model.table import CaseTable
from sparsity_roofline.model.terms.constants import KernelConstants, device_constants, kernel_constants
from sparsity_roofline.model.terms.overlap import P, combine
from sparsity_roofline.validation.errors import FloatArray
from sparsity_roofline.validation.external.predictors import Positions, Predicted, groups, tables
from sparsity_roofline.validation.external.read import Measurements

FOLDS = 5
LEAST_ROWS = 20
"""Rows of a side below which nothing is fitted."""
SUSTAINED_FROM_S = 2e-5
FITTED_ON = "H100-SXM5-80GB"
"""The device on which every kernel's constants have been fitted (``model/terms/constants.csv``)."""

FREE = ("unit_fraction", "step_s", "tile_s", "l2_factor", "split_s", "dram_fraction", "l2_share", "sustained")
"""What a fit may move: constants of the kernel, then of the device."""
_START = (0.7, 2e-7, 2e-6, 1.0, 2.5e-6, 0.9, 0.8, 0.01)
_LOW = (0.1, 1e-9, 1e-8, 0.1, 1e-8, 0.3, 0.2, 1e-4)
_HIGH = (1.0, 1e-5, 5e-5, 4.0, 5e-5, 1.0, 1.3, 0.3)
SOFT = 0.15
"""Residual of log time from which a row counts linearly."""


@dataclass(frozen=True)
class Variant:
    """Which of the two further terms are on, and which of the refined model's."""

    hot: bool = True
    sustained: bool = True
    terms: Terms = field(default_factory=Terms)


VARIANTS: dict[str, Variant] = {
    "all terms": Variant(),
    "without hot L2": Variant(hot=False),
    "without sustained clocks": Variant(sustained=False),
    "without start-up (launch, programs, steps)": Variant(terms=replace(Terms(), steps=False, setup=False)),
    "without tiles and waves": Variant(terms=replace(Terms(), tile=False, wave=False)),
    "without L2 bandwidth": Variant(terms=replace(Terms(), l2=False)),
}
"""What ``ablation`` compares, each with constants fitted anew."""


def hit_rate(footprint: FloatArray, capacity: float) -> FloatArray:
    """Share of a cyclically read footprint that a cache with random replacement still holds; see the module's text."""
    if capacity <= 0:
        return np.zeros_like(footprint)
    load = np.asarray(footprint, np.float64) / capacity
    p = np.zeros_like(load)
    for _ in range(200):  # converges from below to the smaller solution; slowest just above load 1
        p = np.exp(-(1.0 - p) * load)
    return np.where(load <= 1.0, 1.0, p)


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows of one device and dtype, one side of them."""

    table: CaseTable
    ceilings: Ceilings
    dtype: str
    kernel: str | None
    options: CostOptions
    hot: FloatArray

    def take(self, at: Positions) -> _Rows:
        return replace(self, table=self.table.take(at), hot=self.hot[at])

    def seconds(self, x: FloatArray | None, variant: Variant) -> FloatArray:
        """Latencies with constants exp(x) in the order of ``FREE``; None takes the model's own."""
        device, share, sustained = device_constants(self.ceilings), 1.0, 0.0
        constants = transferred(self.kernel, self.dtype, self.ceilings) if x is None else None
        if x is not None:
            given = dict(zip(FREE, np.exp(x).tolist(), strict=True))
            names = ("unit_fraction", "step_s", "tile_s", "l2_factor", "split_s")
            constants = replace(KernelConstants(), **{name: given[name] for name in names})
            device = replace(device, peak_fraction={}, dram_fraction=given["dram_fraction"])
            share, sustained = given["l2_share"], given["sustained"]
        found = side(self.table, self.ceilings, self.kernel, terms=variant.terms, constants=constants, device=device)
        moved, dram = cost(self.table, self.options), found.parts["dram"]
        if variant.hot:
            misses = 1.0 - hit_rate(moved.bytes, share * self.ceilings.l2_bytes)
            full = moved.bytes / (self.ceilings.dram_bandwidth * device.dram_fraction)
            dram = np.where(self.hot > 0, misses * full, dram)
        compute = found.parts["compute"]
        if variant.sustained and sustained:
            at_peak = moved.flops / self.ceilings.peak(self.dtype, self.ceilings.own_unit(self.dtype))
            compute = compute * (1.0 + sustained * np.log(np.maximum(at_peak / SUSTAINED_FROM_S, 1.0)))
        return composed(found.parts, compute, dram, variant.terms)


def composed(parts: dict[str, FloatArray], compute: FloatArray, dram: FloatArray, terms: Terms) -> FloatArray:
    """A latency from its parts, as ``model.refined`` composes it, with compute and DRAM time replaced."""
    busy = np.maximum(np.maximum(compute, dram), parts["l2"])
    overlapped = combine([busy, parts["store"], parts["steps"]], P if terms.overlap else np.inf)
    return np.asarray(overlapped + parts["setup"])


def transferred(kernel: str | None, dtype: str, ceilings: Ceilings) -> KernelConstants | None:
    """A kernel's constants as fitted on the device, else as fitted on an H100; None leaves it to the model."""
    if kernel is None:
        return None
    for where in (ceilings, hardware.datasheet(FITTED_ON)):
        constants, own = kernel_constants(kernel, dtype, where)
        if own:
            return constants
    return None


def refined(measured: Measurements) -> Predicted:
    """The refined model with no figure of this file: kernels' constants as fitted on another device, L2 hot where the
    rows say so."""
    size = len(measured.rows)
    out = {name: np.full(size, np.nan) for name in ("dense", "sparse")}
    for name, at, rows in _sides(measured):
        out[name][at] = rows.seconds(None, Variant())
    return Predicted(out["dense"], out["sparse"], out["dense"] / out["sparse"])


def calibrated(measured: Measurements, variant: Variant = VARIANTS["all terms"]) -> Predicted:
    """Every row predicted by constants fitted to the file's other weight shapes; NaN where there are too few."""
    size = len(measured.rows)
    out = {name: np.full(size, np.nan) for name in ("dense", "sparse")}
    fold = folds(measured)
    for name, at, rows in _sides(measured):
        times = measured.rows[f"{name}_s"].to_numpy(np.float64)[at]
        for k in range(FOLDS):
            seen = np.flatnonzero((fold[at] != k) & np.isfinite(times))
            unseen = np.flatnonzero(fold[at] == k)
            if len(seen) >= LEAST_ROWS and len(unseen):
                x = _fit(rows.take(seen), times[seen], variant)
                out[name][at[unseen]] = rows.take(unseen).seconds(x, variant)
    return Predicted(out["dense"], out["sparse"], out["dense"] / out["sparse"])


def folds(measured: Measurements) -> Positions:
    """The fold of each row: all rows of a weight shape M x K are in one, shapes dealt out in order of size."""
    shapes = list(zip(measured.rows["M"].tolist(), measured.rows["K"].tolist(), strict=True))
    number = {shape: i % FOLDS for i, shape in enumerate(sorted(set(shapes), key=lambda s: (s[0] * s[1], s)))}
    return np.array([number[shape] for shape in shapes], dtype=np.int64)


def _fit(rows: _Rows, times: FloatArray, variant: Variant) -> FloatArray:
    measured, start = np.log(times), np.log(_START)

    def residuals(x: FloatArray) -> FloatArray:
        return np.asarray(np.log(rows.seconds(x, variant)) - measured)

    bounds = (np.log(_LOW), np.log(_HIGH))
    found = least_squares(
        residuals, start, bounds=bounds, loss="soft_l1", f_scale=SOFT, diff_step=np.full(len(FREE), 1e-3), max_nfev=40
    )
    return np.asarray(found.x, dtype=np.float64)


def _sides(measured: Measurements) -> list[tuple[str, Positions, _Rows]]:
    """(side, positions, rows) of every device, dtype and pattern."""
    every, out = tables(measured), []
    for (device, dtype, _), at in groups(measured.rows, ["device", "dtype", "pattern"]):
        table = every.take(at)
        hot = (measured.rows["l2"].to_numpy(object)[at] == "hot").astype(np.float64)
        for name in ("dense", "sparse"):
            kernel = measured.mapping.kernels.get(name, "dense.cublas" if name == "dense" else None)
            mine = table.as_dense() if name == "dense" else table
            options = measured.mapping.options(preset("paper"), dtype, name)
            out.append((name, at, _Rows(mine, measured.ceilings[device], dtype, kernel, options, hot)))
    return out


__all__ = ["VARIANTS", "Variant", "calibrated", "composed", "folds", "hit_rate", "refined"]
