"""The refined model: the speed of light plus what a real kernel on a real device adds to it, term by term.

    T = setup + || max(compute, DRAM, L2), store, steps ||_p        (seconds; || . ||_p is ``terms.overlap.combine``)

    compute   operations in whole tiles / (peak x achievable fractions), times waves and balance
    DRAM      pattern-aware compulsory bytes / (bandwidth x achievable fractions)
    L2        bytes the kernel's tiles fetch / the L2 rate at the case's density
    store     bytes of Y / the rate at which L2 takes them
    steps     serial steps along K of the longest program x the time of a step
    setup     launch, prologue, epilogue; a further launch where K is split

Every term can be switched off alone (``Terms``); with none the result is the plain Sparsity Roofline. With all, it is
never below the pattern-aware bound.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sparsity_roofline.model.ceilings import Ceilings
from sparsity_roofline.model.cost import Floats, cost, preset
from sparsity_roofline.model.dtype import DTYPES
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.table import BSR, CSR, DENSE, NM, TABLE_FORMATS, CaseTable
from sparsity_roofline.model.terms import l2, latency, tiles, traffic, waves
from sparsity_roofline.model.terms.constants import DeviceConstants, KernelConstants, device_constants, kernel_constants
from sparsity_roofline.model.terms.kernel import KernelModel, describe
from sparsity_roofline.model.terms.overlap import P, combine
from sparsity_roofline.model.terms.tiles import Tiling

PARTS = ("compute", "dram", "l2", "store", "steps", "setup")
"""What a latency is composed of, in the order of ``Side.parts``."""

_CHUNK = 4096
_DTYPES = tuple(DTYPES)


@dataclass(frozen=True)
class Terms:
    """Which refinements are on; the order is that in which ``waterfall`` switches them on.

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


@dataclass(frozen=True, eq=False)
class Side:
    """One side of a speedup: the latency of every case under one kernel.

    Attributes:
        seconds: refined latency.
        parts: seconds by name of ``PARTS``; 0 where a term is off. They do not add up: all but ``setup`` overlap.
        leading: the largest part but for setup, by name.
        BM, BN, split: the tile taken.
        kernel: names, one per case.
        calibrated: False where the kernel's figures were fitted on another device or are defaults.
    """

    seconds: Floats
    parts: dict[str, Floats]
    leading: npt.NDArray[np.str_]
    BM: Floats
    BN: Floats
    split: Floats
    kernel: npt.NDArray[np.str_]
    calibrated: npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Refined:
    """Refined latencies of every case, sparse and dense, and their ratio.

    Attributes:
        sparse, dense: both sides.
        device, ceilings_kind, ceilings_identity: whose ceilings.
        terms: which were on.
    """

    sparse: Side
    dense: Side
    device: str
    ceilings_kind: str
    ceilings_identity: str
    terms: Terms

    def __len__(self) -> int:
        return int(self.sparse.seconds.shape[0])

    @property
    def refined_s(self) -> Floats:
        """Latency of the case as stored, seconds."""
        return self.sparse.seconds

    @property
    def refined_dense_s(self) -> Floats:
        """Latency of the same shape stored dense, seconds."""
        return self.dense.seconds

    @property
    def speedup(self) -> Floats:
        """refined_dense_s / refined_s; NaN where nothing takes time."""
        nothing = np.full_like(self.refined_s, np.nan)
        return np.divide(self.refined_dense_s, self.refined_s, out=nothing, where=self.refined_s > 0)

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays by name, for a DataFrame."""
        out: dict[str, npt.NDArray[Any]] = {
            "refined_s": self.refined_s,
            "refined_dense_s": self.refined_dense_s,
            "refined_speedup": self.speedup,
            "refined_kernel": self.sparse.kernel,
            "refined_leading": self.sparse.leading,
            "refined_leading_dense": self.dense.leading,
        }
        for name in PARTS:
            out[f"refined_{name}_s"] = self.sparse.parts[name]
            out[f"refined_{name}_dense_s"] = self.dense.parts[name]
        return out

    def meta(self) -> dict[str, Any]:
        """What the arrays rest on, in plain types."""
        return {
            "device": self.device,
            "ceilings": self.ceilings_kind,
            "ceilings_identity": self.ceilings_identity,
            "terms": [name for name in Terms.names() if getattr(self.terms, name)],
            "calibrated": bool(self.sparse.calibrated.all() and self.dense.calibrated.all()),
        }


def refined(
    table: CaseTable,
    ceilings: Ceilings,
    kernel: str | None = None,
    *,
    dense_kernel: str = "dense.cublas",
    terms: Terms | None = None,
    tiling: Tiling | None = None,
    max_row_nnz: npt.ArrayLike | None = None,
    constants: KernelConstants | None = None,
    device: DeviceConstants | None = None,
) -> Refined:
    """Refined latency of every case and of its dense counterpart.

    Args:
        table: the cases.
        ceilings: of one device and one kind. Data-sheet ceilings are scaled by the device's achievable fractions;
            measured ones are taken as they are.
        kernel: a kernel of ``terms/kernels.toml``; None, or one without a description: the stand-in of each format.
        dense_kernel: the kernel of the dense side.
        terms: which refinements; all by default.
        tiling, max_row_nnz, constants, device: of the sparse side, see ``side``.

    Raises:
        UserError: a dtype whose peak the ceilings do not have, a format without a described kernel.
    """
    chosen = terms or Terms()
    return Refined(
        sparse=side(
            table, ceilings, kernel, terms=chosen, tiling=tiling, max_row_nnz=max_row_nnz, constants=constants,
            device=device,
        ),
        dense=side(table.as_dense(), ceilings, dense_kernel, terms=chosen, device=device),
        device=ceilings.device,
        ceilings_kind=ceilings.kind,
        ceilings_identity=ceilings.identity,
        terms=chosen,
    )  # fmt: skip


def side(
    table: CaseTable,
    ceilings: Ceilings,
    kernel: str | None = None,
    *,
    terms: Terms | None = None,
    tiling: Tiling | None = None,
    max_row_nnz: npt.ArrayLike | None = None,
    constants: KernelConstants | None = None,
    device: DeviceConstants | None = None,
) -> Side:
    """Refined latency of every case as it is stored.

    Args:
        table, ceilings, kernel, terms: see ``refined``.
        tiling: the kernel's own tiles, arrays of shape (rows, 1); NaN in BM where they are not known. By default the
            fastest of those ``kernels.toml`` names.
        max_row_nnz: stored elements of the longest row of W, one per case, NaN where not known: expected from a
            uniformly random mask.
        constants: in place of the kernel's own.
        device: in place of the device's own.

    Raises:
        UserError: see ``refined``.
    """
    chosen, size = terms or Terms(), len(table)
    figures = device or device_constants(ceilings)
    longest = np.full(size, np.nan) if max_row_nnz is None else np.asarray(max_row_nnz, dtype=np.float64)
    if longest.shape != (size,):
        raise UserError(f"max_row_nnz has shape {longest.shape}, expected one per case: ({size},)")
    out = {name: np.zeros(size) for name in ("seconds", "BM", "BN", "split", *PARTS)}
    names, calibrated = np.full(size, "", dtype="<U40"), np.zeros(size, dtype=bool)
    keys = np.stack([table.format_code, table.dtype_code])
    for code, dtype_code in np.unique(keys, axis=1).T:
        rows = np.flatnonzero((table.format_code == code) & (table.dtype_code == dtype_code))
        dtype = _DTYPES[int(dtype_code)]
        known = describe(kernel, TABLE_FORMATS[int(code)])
        own, fitted = kernel_constants(known.name, dtype, ceilings)
        one = _Case(known, dtype, ceilings, constants or own, figures, chosen)
        for start in range(0, len(rows), _CHUNK):
            at = rows[start : start + _CHUNK]
            for name, values in one.latency(table.take(at), longest[at], _tiles(known, dtype, tiling, at)).items():
                out[name][at] = values
        names[rows], calibrated[rows] = known.name, fitted
    parts = {name: out[name] for name in PARTS}
    overlapping = np.stack([parts[name] for name in PARTS[:-1]])
    return Side(
        seconds=out["seconds"],
        parts=parts,
        leading=np.asarray(PARTS)[overlapping.argmax(axis=0)] if size else np.asarray([], dtype=str),
        BM=out["BM"],
        BN=out["BN"],
        split=out["split"],
        kernel=names,
        calibrated=calibrated,
    )


def waterfall(
    table: CaseTable, ceilings: Ceilings, kernel: str | None = None, **given: Any
) -> list[tuple[str, Refined]]:
    """The prediction after each term in turn: ``plain`` first, then the terms in the order of ``Terms``.

    ``given`` goes to ``refined``, without ``terms``. The last one is the full model.
    """
    chosen, out = Terms.none(), []
    out.append(("plain", refined(table, ceilings, kernel, terms=chosen, **given)))
    for name in Terms.names():
        chosen = replace(chosen, **{name: True})
        out.append((name, refined(table, ceilings, kernel, terms=chosen, **given)))
    return out


def _tiles(known: KernelModel, dtype: str, tiling: Tiling | None, at: npt.NDArray[np.intp]) -> Tiling:
    """Candidates of each row: its own tile where it is known, else the kernel's list."""
    listed = known.candidates(dtype)
    if tiling is None:
        return listed
    own = {f.name: getattr(tiling, f.name)[at] for f in fields(Tiling)}
    have = np.isfinite(own["BM"])
    return Tiling(**{name: np.where(have, own[name], getattr(listed, name)) for name in own})


@dataclass(frozen=True)
class _Case:
    """Latency of rows that share kernel, dtype and format."""

    kernel: KernelModel
    dtype: str
    ceilings: Ceilings
    constants: KernelConstants
    device: DeviceConstants
    terms: Terms

    def latency(self, t: CaseTable, longest: Floats, tiling: Tiling) -> dict[str, Floats]:
        """Seconds, parts and tile of every row, each of shape (rows,)."""
        on, S = self.terms, float(self.ceilings.sm_count or 1)
        code = int(t.format_code[0]) if len(t) else DENSE
        plain = cost(t, preset("paper"))
        depth, extent, x_rows, strip = self._walk(t, code, tiling.BM)
        used = _column(plain.flops) * self._decoded(t, code)
        C = self._tiles(t, code, tiling, strip)
        own = depth / tiling.split
        walked = tiles.steps(own, tiling.BK) * tiling.BK
        flops = np.maximum(tiles.padded_flops(C, tiling.BM, tiling.BN, walked), used) if on.tile else used
        slots = S * tiling.resident
        factor, most = np.ones_like(C), None
        if on.wave:
            factor = waves.wave_factor(C, S)
        if on.balance and code in (CSR, BSR):
            most = self._longest(t, code, longest, depth, extent, _column(t.M), strip)
            factor = np.maximum(factor, waves.balance_factor(depth, most, C, S))
        unit_rate, dram_rate = self._rates(tiling, code)
        parts = {
            "compute": flops / unit_rate * factor,
            "dram": _column(self._dram_bytes(t, plain)) / dram_rate + np.zeros_like(C),
            "l2": self._l2_seconds(t, code, plain, tiling, C, own, x_rows, S) if on.l2 else np.zeros_like(C),
            "store": self._store_seconds(t, plain, tiling, C, S) if on.l2 else np.zeros_like(C),
            "steps": self._step_seconds(t, code, C, slots, own, most, tiling) if on.steps else np.zeros_like(C),
            "setup": self._setup(tiling.split) + np.zeros_like(C) if on.setup else np.zeros_like(C),
        }
        busy = np.maximum(np.maximum(parts["compute"], parts["dram"]), parts["l2"])
        total = combine([busy, parts["store"], parts["steps"]], P if on.overlap else np.inf) + parts["setup"]
        total = np.where(self._possible(t, code, tiling, depth), total, np.inf)
        best = np.argmin(total, axis=1)[:, None]
        shaped = {"seconds": total, "BM": tiling.BM, "BN": tiling.BN, "split": tiling.split, **parts}
        return {
            name: np.take_along_axis(np.broadcast_to(a, total.shape), best, axis=1)[:, 0] for name, a in shaped.items()
        }

    def _walk(self, t: CaseTable, code: int, BM: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """(mean elements along K of a tile, the most there can be, rows of X read per element, rows of W that share
        their columns)."""
        K, one = _column(t.K), np.ones((len(t), 1))
        if code == CSR:
            depth = _column(t.nnz) / np.maximum(_column(t.M), 1.0)
            return depth, K, BM * one if self.kernel.gathers else one, one
        if code == BSR:
            r, c = _column(t.block_rows), _column(t.block_cols)
            rows = np.maximum(np.ceil(_column(t.M) / r), 1.0)
            return _column(t.stored_blocks) * c / rows, np.ceil(K / c) * c, one, r
        if code == NM and not self.kernel.decodes:
            share = _column(t.n) / _column(t.m)
            return K * share, K, one / share, one
        return K, K, one, one

    def _decoded(self, t: CaseTable, code: int) -> Floats:
        """Operations issued over those counted: m / n where the zeros of n:m are multiplied as well."""
        if code == NM and self.kernel.decodes:
            return _column(t.m) / _column(t.n)
        return np.ones((len(t), 1))

    def _tiles(self, t: CaseTable, code: int, tiling: Tiling, strip: Floats) -> Floats:
        """Programs of a call."""
        M, N = _column(t.M), _column(t.N)
        if code == BSR:
            count = np.ceil(M / strip) * tiles.count(strip, N, tiling.BM, tiling.BN)
        else:
            count = tiles.count(M, N, tiling.BM, tiling.BN)
        return count * tiling.split

    def _possible(self, t: CaseTable, code: int, tiling: Tiling, depth: Floats) -> npt.NDArray[np.bool_]:
        """Tiles that a kernel would not refuse: no taller than a block, no split finer than two steps."""
        fits = (tiling.split == 1) | (depth / tiling.split >= 2 * tiling.BK)
        if code == BSR:
            fits = fits & (2 * np.maximum(_column(t.block_rows), 16.0) > tiling.BM)
        return np.asarray(fits | ~np.any(fits, axis=1, keepdims=True))

    def _longest(
        self, t: CaseTable, code: int, given: Floats, mean: Floats, extent: Floats, M: Floats, strip: Floats
    ) -> Floats:
        """Elements along K of the longest tile: from the longest row, or expected of a random mask."""
        grain = _column(t.block_cols) if code == BSR else np.ones_like(M)
        rows = np.ceil(M / strip)
        guess = waves.expected_longest(mean / grain, extent / grain, rows) * grain
        most = np.where(np.isfinite(given[:, None]), given[:, None], guess)
        return np.clip(most, mean, np.maximum(extent, mean))

    def _rates(self, tiling: Tiling, code: int) -> tuple[Floats, Floats | float]:
        """(operations per second, of the shape of the candidates; bytes per second of DRAM)."""
        unit = self.kernel.runs_on(self.dtype) if self.terms.unit else DTYPES[self.dtype].unit
        if not self.ceilings.is_gpu:
            unit = "cpu"
        peak, bandwidth = self.ceilings.peak(self.dtype, unit), self.ceilings.dram_bandwidth
        if self.terms.ceilings:
            quantity = "fp32_flops" if unit == "cuda" and self.dtype != "fp64" else DTYPES[self.dtype].peak
            peak *= min(self.device.peak_fraction.get(quantity, 1.0), 1.0)
            bandwidth *= min(self.device.dram_fraction, 1.0)
        if self.terms.fraction:
            peak *= min(self.constants.unit_fraction, 1.0)
        return np.full_like(tiling.BM, peak), bandwidth

    def _dram_bytes(self, t: CaseTable, plain: Any) -> Floats:
        if not self.terms.traffic:
            return np.asarray(plain.bytes)
        aware = cost(t, preset("bound"))
        read = aware.weight_bytes + aware.input_bytes
        return np.asarray(read + traffic.written_back(plain.output_bytes, read, self.device.l2_held))

    def _l2_seconds(
        self, t: CaseTable, code: int, plain: Any, tiling: Tiling, C: Floats, own: Floats, x_rows: Floats, S: float
    ) -> Floats:
        b = float(DTYPES[self.dtype].element_bytes)
        M, N, K = (_column(a) for a in (t.M, t.N, t.K))
        stored = _column(plain.flops) / (2.0 * np.maximum(N, 1.0)) * self._decoded(t, code)
        w = np.divide(_column(plain.weight_bytes), stored, out=np.zeros_like(stored), where=stored > 0)
        each = traffic.tile_bytes(tiling.BM, tiling.BN, own, w, np.asarray(b), x_rows)
        moved = C * each * self.constants.l2_factor
        density = np.ones_like(M)
        if code == CSR:
            density = _column(t.nnz) / np.maximum(M * K, 1.0)
        elif code == BSR:
            grid = np.ceil(M / _column(t.block_rows)) * np.ceil(K / _column(t.block_cols))
            density = _column(t.stored_blocks) / np.maximum(grid, 1.0)
        rate = l2.rate(self.device.l2_bandwidth, self.device.l2_shared_bandwidth, density)
        if not self.terms.wave:
            return np.asarray(moved / rate)
        port = np.minimum(1.0, C / S) * self.device.l2_shared_bandwidth
        return np.asarray(moved / np.minimum(rate, port))

    def _store_seconds(self, t: CaseTable, plain: Any, tiling: Tiling, C: Floats, S: float) -> Floats:
        """Y once, and where K is split each program's partial sums in fp32, written and read again."""
        partial = np.where(tiling.split > 1, 2.0 * tiling.split * 4.0 * _column(t.M) * _column(t.N), 0.0)
        busy = np.minimum(1.0, C / S) if self.terms.wave else 1.0
        return np.asarray((_column(plain.output_bytes) + partial) / (self.device.l2_write_bandwidth * busy))

    def _step_seconds(
        self, t: CaseTable, code: int, C: Floats, slots: Floats, own: Floats, most: Floats | None, tiling: Tiling
    ) -> Floats:
        """Waves of programs, each its start and end and its steps along K; at least the longest program."""
        k = self.constants
        each = k.step_s * latency.alignment_factor(self._alignment(t), k.misaligned)
        grain = _column(t.block_cols) if code == BSR else np.ones((len(t), 1))
        mean = tiles.mean_steps(own, tiling.BK, grain) if code in (CSR, BSR) else tiles.steps(own, tiling.BK)
        taken = C / slots
        if self.terms.wave:
            taken = np.ceil(taken)
        seconds = taken * (k.tile_s + mean * each)
        if most is not None:
            seconds = np.maximum(seconds, k.tile_s + tiles.steps(most, tiling.BK) * each)
        return np.asarray(seconds)

    def _alignment(self, t: CaseTable) -> Floats:
        """Bytes to which the compiler or library may take rows of its operands to be aligned; at most 16."""
        b = DTYPES[self.dtype].element_bytes
        if self.kernel.alignment == "triton":
            # Triton compiles for "a multiple of 16" or for nothing known at all.
            known = t.N % 16 == 0
            if self.kernel.format == "dense":
                known &= t.K % 16 == 0
            return _column(np.where(known, latency.VECTOR_BYTES, b))
        rows = np.where(t.N > 1, t.N * b, 16)  # a single column is one contiguous vector
        if self.kernel.format in ("dense", "nm"):
            rows = np.gcd(rows, t.K * b)
        return _column(np.gcd(rows, 16))

    def _setup(self, split: Floats) -> Floats:
        base = self.device.launch_floor_s
        return base + np.where(split > 1, self.constants.split_s, 0.0)


def _column(a: npt.ArrayLike) -> Floats:
    """(rows,) as float64 (rows, 1), to broadcast against candidates."""
    return np.asarray(a, dtype=np.float64)[:, None]
