"""Puts the terms together: the latency of cases that share a kernel, a format and a dtype."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

from sparsity_roofline.model.ceilings import Ceilings
from sparsity_roofline.model.cost import Cost, Floats, cost, preset
from sparsity_roofline.model.dtype import DTYPES
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.table import BSR, DENSE, CaseTable
from sparsity_roofline.model.terms import l2, latency, tiles, traffic, waves
from sparsity_roofline.model.terms.constants import DeviceConstants, KernelConstants
from sparsity_roofline.model.terms.kernel import KernelModel
from sparsity_roofline.model.terms.overlap import P, combine
from sparsity_roofline.model.terms.tiles import Tiling
from sparsity_roofline.model.terms.walk import Walk, column, walk

PARTS = ("compute", "dram", "l2", "store", "steps", "setup")
"""What a latency is composed of."""


@dataclass(frozen=True)
class Terms:
    """Which refinements are on; the order is that in which ``refined.waterfall`` switches them on.

    Attributes:
        ceilings: what the device was measured to reach, instead of what is printed (data-sheet ceilings only).
        unit: the peak of the unit the kernel runs on, instead of the dtype's own.
        traffic: pattern-aware compulsory bytes: used rows of X only, Y less what stays in L2.
        fraction: the share of the device's best product rate that the kernel's inner loop reaches.
        tile: whole tiles and whole steps along K.
        wave: whole waves of tiles over the multiprocessors.
        balance: the longest row of tiles against the mean.
        l2: L2 as a second ceiling.
        steps: the latency of steps along K that follow each other.
        setup: launch floor, prologue and epilogue, additive.
        overlap: stores and steps overlap with the rest imperfectly, with exponent p.
    """

    ceilings: bool = True
    unit: bool = True
    traffic: bool = True
    fraction: bool = True
    tile: bool = True
    wave: bool = True
    balance: bool = True
    l2: bool = True
    steps: bool = True
    setup: bool = True
    overlap: bool = True

    @classmethod
    def none(cls) -> Terms:
        """The plain model."""
        return cls(**dict.fromkeys(cls.names(), False))

    @classmethod
    def only(cls, *names: str) -> Terms:
        """The terms named, no others.

        Raises:
            UserError: a name that is no term.
        """
        for name in names:
            if name not in cls.names():
                raise UserError(f"unknown term {name!r}: choose from {', '.join(cls.names())}")
        return replace(cls.none(), **dict.fromkeys(names, True))

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Names of all terms, in order."""
        return tuple(f.name for f in fields(cls))


@dataclass(frozen=True)
class Composer:
    """A kernel in a dtype on a device, with the terms that are on."""

    kernel: KernelModel
    dtype: str
    ceilings: Ceilings
    constants: KernelConstants
    device: DeviceConstants
    terms: Terms

    def latency(self, t: CaseTable, longest: Floats, tiling: Tiling) -> dict[str, Floats]:
        """Seconds, parts and tile of every row, each of shape (rows,).

        Args:
            t: rows of one format, in the kernel's dtype.
            longest: stored elements of W's longest row, NaN where not known.
            tiling: tiles to choose from; of each row the fastest is taken.
        """
        code = int(t.format_code[0]) if len(t) else DENSE
        plain = cost(t, preset("paper"))
        way = walk(t, code, self.kernel, self.dtype, plain, tiling)
        parts = self._parts(t, code, plain, way, longest, tiling)
        busy = np.maximum(np.maximum(parts["compute"], parts["dram"]), parts["l2"])
        p = P if self.terms.overlap else np.inf
        total = combine([busy, parts["store"], parts["steps"]], p) + parts["setup"]
        total = np.where(self._possible(t, code, tiling, way.depth), total, np.inf)
        best = np.argmin(total, axis=1)[:, None]
        shaped = {"seconds": total, "BM": tiling.BM, "BN": tiling.BN, "split": tiling.split, **parts}
        return {
            name: np.take_along_axis(np.broadcast_to(a, total.shape), best, axis=1)[:, 0] for name, a in shaped.items()
        }

    def decoding(self, t: CaseTable) -> Floats:
        """Seconds of writing W out dense before the product: its launch, and what it reads and writes."""
        plain, b = cost(t, preset("paper")), float(DTYPES[self.dtype].element_bytes)
        M, K, nnz = (a.astype(np.float64) for a in (t.M, t.K, t.nnz))
        stored = b * nnz + M * K / 8.0 if self.kernel.stores == "bitmap" else plain.weight_bytes
        written = b * M * K / self.device.l2_write_bandwidth * self.constants.l2_factor
        once = self.device.launch_floor_s + self.constants.tile_s
        return np.asarray(once + np.maximum(stored / self._dram_rate(), written))

    def _parts(
        self, t: CaseTable, code: int, plain: Cost, way: Walk, longest: Floats, tiling: Tiling
    ) -> dict[str, Floats]:
        on, S, C = self.terms, float(self.ceilings.sm_count or 1), way.programs
        nothing = np.zeros(np.broadcast(C, tiling.BM).shape)
        own = way.depth / tiling.split
        flops, factor, most = way.flops, np.ones_like(C), None
        if on.tile:
            walked = tiles.steps(own, tiling.BK) * tiling.BK
            share = np.divide(way.weight, way.depth, out=np.ones_like(nothing), where=way.depth > 0)
            flops = np.maximum(tiles.padded_flops(C, tiling.BM, tiling.BN, walked * share), flops)
        if on.wave:
            factor = waves.wave_factor(C, S)
        if on.balance and way.uneven:
            most = self._longest(t, code, longest, way, tiling)
            factor = np.maximum(factor, waves.balance_factor(way.depth, most, C, S))
        return {
            "compute": flops / self._peak() * factor + nothing,
            "dram": self._dram_bytes(t, plain, way) / self._dram_rate() + nothing,
            "l2": self._l2_seconds(way, tiling, S) + nothing if on.l2 else nothing,
            "store": self._store_seconds(t, plain, way, tiling, S) + nothing if on.l2 else nothing,
            "steps": self._step_seconds(t, way, own, most, tiling, S) + nothing if on.steps else nothing,
            "setup": self._setup(tiling.split) + nothing if on.setup else nothing,
        }

    def _possible(self, t: CaseTable, code: int, tiling: Tiling, depth: Floats) -> npt.NDArray[np.bool_]:
        """Tiles that a kernel would not refuse: no taller than a block, no split finer than two steps."""
        fits = (tiling.split <= 1) | (depth / tiling.split >= 2 * tiling.BK)
        if code == BSR and not self.kernel.strip:
            fits = fits & (2 * np.maximum(column(t.block_rows), 16.0) > tiling.BM)
        return np.asarray(fits | ~np.any(fits, axis=1, keepdims=True))

    def _longest(self, t: CaseTable, code: int, given: Floats, way: Walk, tiling: Tiling) -> Floats:
        """Elements along K of the longest tile: from the longest row, or expected of a random mask.

        Where a tile packs the blocks of several rows, the longest row does not tell: the mean is taken.
        """
        if self.kernel.strip:
            return np.asarray(way.depth)
        rows = np.ceil(column(t.M) / (column(t.block_rows) if code == BSR else 1.0))
        guess = waves.expected_longest(way.depth / way.grain, way.extent / way.grain, rows) * way.grain
        most = np.where(np.isfinite(given[:, None]), given[:, None], guess)
        return np.clip(most, way.depth, way.extent)

    def _unit_peak(self) -> tuple[float, str]:
        """(operations per second of the unit, quantity of ``hardware.csv``)."""
        unit = self.kernel.runs_on(self.dtype) if self.terms.unit else DTYPES[self.dtype].unit
        unit = unit if self.ceilings.is_gpu else "cpu"
        quantity = "fp32_flops" if unit == "cuda" and self.dtype != "fp64" else DTYPES[self.dtype].peak
        return self.ceilings.peak(self.dtype, unit), quantity

    def _peak(self) -> float:
        peak, quantity = self._unit_peak()
        if self.terms.ceilings:
            peak *= min(self.device.peak_fraction.get(quantity, 1.0), 1.0)
        return peak * min(self.constants.unit_fraction, 1.0) if self.terms.fraction else peak

    def _dram_rate(self) -> float:
        fraction = min(self.device.dram_fraction, 1.0) if self.terms.ceilings else 1.0
        return self.ceilings.dram_bandwidth * fraction

    def _dram_bytes(self, t: CaseTable, plain: Cost, way: Walk) -> Floats:
        if not self.terms.traffic:
            return column(plain.bytes)
        read = way.weight_bytes + column(cost(t, preset("bound")).input_bytes)
        return read + traffic.written_back(column(plain.output_bytes), read, self.device.l2_held)

    def _l2_seconds(self, way: Walk, tiling: Tiling, S: float) -> Floats:
        """Bytes of all tiles at the rate of the case's density; no more than the programs' multiprocessors can take."""
        b = float(DTYPES[self.dtype].element_bytes)
        each = traffic.tile_bytes(tiling.BM, tiling.BN, way.weight, way.element_bytes, way.x, b) / tiling.split
        moved = way.programs * each * self.constants.l2_factor
        rate = l2.rate(self.device.l2_bandwidth, self.device.l2_shared_bandwidth, way.density)
        if self.terms.wave:
            rate = np.minimum(rate, np.minimum(1.0, way.programs / S) * self.device.l2_shared_bandwidth)
        return np.asarray(moved / rate)

    def _store_seconds(self, t: CaseTable, plain: Cost, way: Walk, tiling: Tiling, S: float) -> Floats:
        """Y once, and where K is split each program's partial sums in fp32, written and read again."""
        partial = np.where(tiling.split > 1, 2.0 * tiling.split * 4.0 * column(t.M) * column(t.N), 0.0)
        busy = np.minimum(1.0, way.programs / S) if self.terms.wave else 1.0
        return np.asarray((column(plain.output_bytes) + partial) / (self.device.l2_write_bandwidth * busy))

    def _step_seconds(
        self, t: CaseTable, way: Walk, own: Floats, most: Floats | None, tiling: Tiling, S: float
    ) -> Floats:
        """Waves of programs, each its start and end and its steps along K; at least the longest program."""
        k = self.constants
        each = k.step_s + self._narrow_seconds(t, way, tiling, S)
        mean = tiles.mean_steps(own, tiling.BK, way.grain) if way.uneven else tiles.steps(own, tiling.BK)
        taken = way.programs / (S * tiling.resident)
        if self.terms.wave:
            taken = np.ceil(taken)
        seconds = taken * (k.tile_s + mean * each)
        if most is not None:
            seconds = np.maximum(seconds, k.tile_s + tiles.steps(most / tiling.split, tiling.BK) * each)
        return np.asarray(seconds)

    def _narrow_seconds(self, t: CaseTable, way: Walk, tiling: Tiling, S: float) -> Floats:
        """Time that a step's narrow loads take to issue, of all programs on a multiprocessor: those of an operand whose
        rows are not aligned to 16 bytes."""
        b = float(DTYPES[self.dtype].element_bytes)
        share = tiling.BK / np.maximum(way.depth, tiling.BK)
        weight, x = self._alignment(t)
        narrow = latency.narrow_loads(tiling.BM * way.weight * share, weight, b)
        narrow = narrow + latency.narrow_loads(way.x * share * tiling.BN, x, b)
        together = np.clip(way.programs / S, 1.0, tiling.resident)
        return np.asarray(together * narrow * self.constants.narrow_s)

    def _alignment(self, t: CaseTable) -> tuple[Floats, Floats]:
        """Bytes to which the compiler or library may take rows of W and of X to be aligned; at most 16.

        Formats with indices hold W as one array, whose parts are read as wide as one likes.
        """
        b = DTYPES[self.dtype].element_bytes
        wide = np.full(len(t), int(latency.VECTOR_BYTES))
        if self.kernel.alignment == "triton":
            # Triton compiles for "a multiple of 16" or for nothing known at all.
            weight, x = np.where(t.K % 16 == 0, wide, b), np.where(t.N % 16 == 0, wide, b)
        else:
            weight = np.gcd(t.K * b, 16)
            x = np.where(t.N > 1, np.gcd(t.N * b, 16), wide)  # a single column is one contiguous vector
        return column(weight if self.kernel.format in ("dense", "nm") else wide), column(x)

    def _setup(self, split: Floats) -> Floats:
        return self.device.launch_floor_s + np.where(split > 1, self.constants.split_s, 0.0)
