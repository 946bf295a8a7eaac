"""Which pattern wins where: many patterns over density, N and machine balance at the speed of light.

``d`` is the least density that a network's accuracy allows for an unstructured mask. A pattern of any density keeps
d, or d times what it ``needs`` to reach the same accuracy; one with a density of its own takes part wherever that is
enough, and gains what its own density gains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sparsity_roofline.model import roofline
from sparsity_roofline.model.ceilings import Ceilings
from sparsity_roofline.model.cost import CostOptions, Floats
from sparsity_roofline.model.declared import AnyPattern, Declared
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.expect import expected_case
from sparsity_roofline.model.table import CaseTable

NOBODY = "dense"
"""The winner where no pattern is faster than dense."""


@dataclass(frozen=True, eq=False)
class Sweep:
    """Speedups over a grid.

    Attributes:
        patterns: names.
        densities, columns: the grid's values.
        speedup: (pattern, density, N); NaN where the pattern cannot keep so much or so little.
        sparse_s: latency of the same.
        dense_s: (N,) latency of the dense layer.
    """

    patterns: tuple[str, ...]
    densities: Floats
    columns: npt.NDArray[np.int64]
    speedup: Floats
    sparse_s: Floats
    dense_s: Floats

    def winners(self, tolerance: float = 0.01) -> npt.NDArray[np.int64]:
        """(density, N): index of the winner, -1 where none beats dense by more than ``tolerance``.

        Of the patterns within ``tolerance`` of the fastest, the one named first wins: name the most flexible first, and
        a rigid one wins only where its rigidity buys something.
        """
        filled = np.where(np.isnan(self.speedup), 0.0, self.speedup)
        best = filled.max(axis=0)
        near = (filled >= best * (1.0 - tolerance)).argmax(axis=0)
        return np.where(best > 1.0 + tolerance, near, -1)


def density_of(pattern: AnyPattern) -> float | None:
    """The density that a pattern has of its own, or None."""
    if isinstance(pattern, Declared):
        return pattern.density
    if pattern.kind == "nm":
        return pattern.n / pattern.m
    return 1.0 if pattern.kind == "dense" else None


def sweep(
    patterns: Sequence[AnyPattern],
    shape: tuple[int, int],
    densities: Sequence[float],
    columns: Sequence[int],
    dtype: str,
    ceilings: Ceilings,
    options: CostOptions | None = None,
    needs: Mapping[str, float] | None = None,
) -> Sweep:
    """Speedups of every pattern at every density and N for one M x K weight.

    Args:
        patterns: what competes.
        shape: M and K.
        densities: least densities, in (0, 1].
        columns: N.
        dtype: of the arithmetic.
        ceilings: of the device.
        options: cost options.
        needs: pattern -> how much more it must keep than an unstructured mask for the same accuracy (1 if left out).

    Raises:
        UserError: a density outside (0, 1], a shape or N below 1, a dtype or peak the device does not have.
    """
    M, K = shape
    if not all(0 < d <= 1 for d in densities):
        raise UserError("densities must lie in (0, 1]")
    chosen = options or CostOptions()
    N = np.asarray(columns, dtype=np.int64)
    if min(M, K, *N.tolist()) < 1:
        raise UserError(f"shape {M}x{K} with N from {N.min()}: every extent must be at least 1")
    plain = roofline.predict(
        CaseTable.from_columns(M=M, K=K, N=N, format="dense", dtype=dtype), ceilings, options=chosen
    )
    sparse = np.full((len(patterns), len(densities), len(N)), np.nan)
    names = tuple(pattern.name if isinstance(pattern, Declared) else str(pattern) for pattern in patterns)
    more = dict.fromkeys(names, 1.0) | dict(needs or {})
    if unknown := set(more) - set(names):
        raise UserError(f"needs: no pattern {sorted(unknown)[0]!r} in the sweep; there are {', '.join(names)}")
    for i, pattern in enumerate(patterns):
        own = density_of(pattern)
        limit = pattern.max_density if isinstance(pattern, Declared) else 1.0
        for j, least in enumerate(densities):
            d = least * more[names[i]]
            if own is not None and own < d * (1 - 1e-9):
                continue
            keeps = min(d, limit) if own is None else own
            if keeps < d * (1 - 1e-9):
                continue
            sparse[i, j] = latency(pattern, (M, K), N, keeps, dtype, ceilings, chosen)
    return Sweep(names, np.asarray(densities, np.float64), N, plain.sol_s / sparse, sparse, plain.sol_s)


def latency(
    pattern: AnyPattern,
    shape: tuple[int, int],
    columns: npt.NDArray[np.int64],
    density: float,
    dtype: str,
    ceilings: Ceilings,
    options: CostOptions,
) -> Floats:
    """Speed-of-light seconds at every N."""
    M, K = shape
    if isinstance(pattern, Declared):
        return pattern.sol(M, K, columns, density, dtype, ceilings, options).latency_s
    cases = [expected_case(M, K, int(N), pattern, 1.0 - density, dtype) for N in columns]
    return roofline.predict(CaseTable.of(cases), ceilings, options=options).sol_s


def at_balance(ceilings: Ceilings, dtype: str, balance: float) -> Ceilings:
    """The device with its bandwidth changed so that the dtype's peak over bandwidth is ``balance`` (operations a byte).

    Every peak and cache stays as it is.
    """
    if not balance > 0:
        raise UserError(f"machine balance {balance} is not positive")
    peak = ceilings.peak(dtype, ceilings.own_unit(dtype))
    name = f"{ceilings.device} at {balance:g} op/B"
    return replace(ceilings, device=name, kind="assumed", dram_bandwidth=peak / balance, identity="", details={})
