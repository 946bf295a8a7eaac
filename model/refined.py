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
from sparsity_roofline.model.cost import Floats
from sparsity_roofline.model.dtype import DTYPES
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.table import TABLE_FORMATS, CaseTable
from sparsity_roofline.model.terms.compose import PARTS, Composer, Terms
from sparsity_roofline.model.terms.constants import DeviceConstants, KernelConstants, device_constants, kernel_constants
from sparsity_roofline.model.terms.kernel import KernelModel, describe
from sparsity_roofline.model.terms.tiles import Tiling

__all__ = ["PARTS", "Refined", "Side", "Terms", "refined", "side", "waterfall"]

_CHUNK = 4096
_DTYPES = tuple(DTYPES)


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
        one = Composer(known, dtype, ceilings, constants or own, figures, chosen)
        for start in range(0, len(rows), _CHUNK):
            at = rows[start : start + _CHUNK]
            if known.product and chosen.unit:
                found = _decoded(one, table.take(at))
            else:
                found = one.latency(table.take(at), longest[at], _tiles(known, dtype, tiling, at))
            for name, values in found.items():
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


def _decoded(one: Composer, t: CaseTable) -> dict[str, Floats]:
    """A kernel that writes W out dense and has another one multiply it: that one's latency after the decoding."""
    dense = side(t.as_dense(), one.ceilings, one.kernel.product, terms=one.terms, device=one.device)
    before = one.decoding(t) if one.terms.setup else np.zeros(len(t))
    parts = {name: dense.parts[name] for name in PARTS}
    parts["setup"] = parts["setup"] + before
    return {"seconds": dense.seconds + before, "BM": dense.BM, "BN": dense.BN, "split": dense.split, **parts}


def _tiles(known: KernelModel, dtype: str, tiling: Tiling | None, at: npt.NDArray[np.intp]) -> Tiling:
    """Candidates of each row: its own tile where it is known, else the kernel's list."""
    listed = known.candidates(dtype)
    if tiling is None:
        return listed
    own = {f.name: getattr(tiling, f.name)[at] for f in fields(Tiling)}
    have = np.isfinite(own["BM"])
    return Tiling(**{name: np.where(have, own[name], getattr(listed, name)) for name in own})
