"""Sweeps over patterns, density, N and machine balance as tables and maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from sparsity_roofline.model.ceilings import Ceilings
from sparsity_roofline.model.cost import CostOptions
from sparsity_roofline.model.declared import AnyPattern
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.sweep import NOBODY, Sweep, at_balance, sweep

DENSITIES = tuple(float(d) for d in np.geomspace(0.01, 1.0, 24))
COLUMNS = tuple(2**k for k in range(15))
BALANCES = tuple(float(2**k) for k in range(3, 12))
"""Machine balances, operations a byte: from a machine that is all bandwidth to one that is all arithmetic."""


@dataclass(frozen=True, eq=False)
class WinSweep:
    """A sweep over N at the device's own balance, and over balance at one N.

    Attributes:
        rows: ``axis`` (N or balance), ``x``, ``density``, ``pattern``, ``sparse_us``, ``dense_us``, ``speedup``.
        winners: ``axis``, ``x``, ``density``, ``winner`` and its ``speedup``.
        title: what was swept.
        panels: of ``validation.sweepplot.win_maps``.
        densities, patterns: its axes.
    """

    rows: pd.DataFrame
    winners: pd.DataFrame
    title: str
    panels: list[tuple[str, str, npt.NDArray[np.float64], npt.NDArray[np.int64]]]
    densities: npt.NDArray[np.float64]
    patterns: tuple[str, ...]


def win_sweep(
    shape: tuple[int, int],
    patterns: Sequence[AnyPattern],
    ceilings: Ceilings,
    *,
    dtype: str = "fp16",
    densities: Sequence[float] = DENSITIES,
    columns: Sequence[int] = COLUMNS,
    balances: Sequence[float] = BALANCES,
    balance_columns: int = 2048,
    options: CostOptions | None = None,
    needs: Mapping[str, float] | None = None,
) -> WinSweep:
    """Sweep a weight's patterns over density and N on a device, and over density and machine balance at one N.

    Raises:
        UserError: see ``model.sweep.sweep``.
    """
    over_n = sweep(patterns, shape, densities, columns, dtype, ceilings, options, needs)
    over_balance = [
        sweep(patterns, shape, densities, [balance_columns], dtype, at_balance(ceilings, dtype, b), options, needs)
        for b in balances
    ]
    winners = np.concatenate([one.winners() for one in over_balance], axis=1)
    own = ceilings.peak(dtype, ceilings.own_unit(dtype)) / ceilings.dram_bandwidth
    M, K = shape
    x = over_n.columns.astype(np.float64)
    panels = [
        (f"{ceilings.device} ({own:.0f} op/B)", "N", x, over_n.winners()),
        (f"N = {balance_columns}", "machine balance, op/B", np.asarray(balances, np.float64), winners),
    ]
    lines = [_lines("N", over_n, x)]
    lines += [_lines("balance", one, np.array([b])) for b, one in zip(balances, over_balance, strict=True)]
    rows = pd.concat(lines, ignore_index=True)
    needed = "".join(f"; {name} keeps {factor:g} x" for name, factor in (needs or {}).items())
    title = f"{M} x {K}, {dtype}, at the speed of light{needed}"
    return WinSweep(rows, _winners(rows, over_n.patterns, panels), title, panels, over_n.densities, over_n.patterns)


def _lines(axis: str, found: Sweep, x: npt.NDArray[np.float64]) -> pd.DataFrame:
    p, d, n = (a.ravel() for a in np.indices(found.speedup.shape))
    frame = pd.DataFrame(
        {
            "axis": axis, "x": x[n], "density": found.densities[d], "pattern": np.asarray(found.patterns)[p],
            "sparse_us": found.sparse_s.ravel() * 1e6, "dense_us": found.dense_s[n] * 1e6,
            "speedup": found.speedup.ravel(),
        }
    )  # fmt: skip
    return frame[frame["speedup"].notna()].reset_index(drop=True)


def _winners(
    rows: pd.DataFrame,
    patterns: tuple[str, ...],
    panels: list[tuple[str, str, npt.NDArray[np.float64], npt.NDArray[np.int64]]],
) -> pd.DataFrame:
    speedups = {(row.axis, row.x, row.density, row.pattern): row.speedup for row in rows.itertuples(index=False)}
    densities = sorted(set(rows["density"]))
    out = []
    for axis, (_, _, x, winners) in zip(("N", "balance"), panels, strict=True):
        for j, density in enumerate(densities):
            for k, value in enumerate(x):
                index = int(winners[j, k])
                name = patterns[index] if index >= 0 else NOBODY
                out.append((axis, value, density, name, speedups.get((axis, value, density, name), 1.0)))
    return pd.DataFrame(out, columns=["axis", "x", "density", "winner", "speedup"])


def write(found: WinSweep, out: Path) -> list[Path]:
    """``sweep.csv``, ``winners.csv`` and the maps.

    Raises:
        UserError: the folder cannot be made.
    """
    from sparsity_roofline.validation import style
    from sparsity_roofline.validation.sweepplot import win_maps
    from sparsity_roofline.validation.tables import write_csv

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make {out}: {error.strerror or error}") from error
    written = [write_csv(found.rows, out / "sweep.csv"), write_csv(found.winners, out / "winners.csv")]
    figure = win_maps(found.panels, found.densities, found.patterns, found.title)
    return [*written, *(style.save(figure, out / f"winners.{kind}") for kind in ("png", "svg"))]
