"""Verdicts about many cells at once, from the medians that fresh processes gave on both sides.

The unit is the process: samples of one process share its memory placement, its clocks and what its library chose, and
the same binary measured twice differs by more than the samples of either process say. Per cell, with y = log(median) of
each process, n_b and n_h processes and d = n_b + n_h - 2::

    r    = mean(y_head) - mean(y_base)                        the log ratio
    s^2  = pooled variance of y over the processes            Student
    s~^2 = (d0 s0^2 + d s^2) / (d0 + d)                       moderated by the other cells
    r +- t(d0 + d) s~ sqrt(1 / n_b + 1 / n_h)                 the interval

A few processes tell a variance badly, many cells tell well how variances are distributed: s^2 / s0^2 follows F(d, d0),
and s0 and d0 are its maximum-likelihood fit over all cells (Smyth, Stat. Appl. Genet. Mol. Biol. 3, 2004). Cells that
are alike give a large d0 and borrow much; where some have two modes d0 is small and each stands by itself. Below
``CELLS_FOR_PRIOR`` cells d0 is 0, and s is never below what the samples inside a process say of its median. It is never
below the device clock's grid either.

The margin of a cell is the larger of a share and an absolute time (two steps of the device clock), as a log ratio. With
alpha = (1 - confidence) / looks:

- REGRESSED (IMPROVED): the two-sided interval of level 1 - alpha lies wholly above (below) the margin, and so it stays
  at a false discovery rate of alpha over all cells (Benjamini and Hochberg 1995, ``scipy.stats``).
- SAME: it lies wholly inside (two one-sided tests). Not corrected: correction is against alarms among many unchanged
  cells; a cell that did change is called SAME with probability alpha / 2 at most, however many others there are.
- INCONCLUSIVE: all else, also where a change of clock explains what was seen.

Variances are pooled over the sides, since both run the same work on one device in turn and equally often; with equal
numbers Student's test is robust to unequal variances.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats

from sparsity_roofline.model.errors import UserError

Floats = npt.NDArray[np.float64]

REGRESSED, IMPROVED, SAME, INCONCLUSIVE = "REGRESSED", "IMPROVED", "SAME", "INCONCLUSIVE"
VERDICTS = (REGRESSED, IMPROVED, SAME, INCONCLUSIVE)
"""The worst first."""

GRID_NS = 32.0
"""Step of the device clock on which activity records of an H100 fall."""
LEAST_PROCESSES = 2
CELLS_FOR_PRIOR = 20
NO_PRIOR = (0.0, 0.0)


@dataclass(frozen=True)
class Rule:
    """What counts as a change.

    Attributes:
        threshold: share of the base time that a change must exceed.
        threshold_ns: and the time it must exceed; the larger of the two holds.
        confidence: of the intervals, and one minus the false discovery rate.
        looks: how often the data are judged at most; the error rate is divided among the looks (Bonferroni), so that
            measuring again what was not clear does not add false alarms.
        clock_share: clocks that differ by more count as moved.
    """

    threshold: float = 0.02
    threshold_ns: float = 2 * GRID_NS
    confidence: float = 0.95
    looks: int = 1
    clock_share: float = 0.01

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1 or not 0 < self.confidence < 1 or self.looks < 1 or self.threshold_ns < 0:
            raise UserError(
                "a threshold and a confidence lie between 0 and 1 (0.02 is 2 %), and there is one look at least"
            )

    @property
    def alpha(self) -> float:
        """Error rate of one look."""
        return (1 - self.confidence) / self.looks

    def margin(self, base_ns: Floats) -> Floats:
        """The log ratio that a change of each cell must exceed."""
        return np.log1p(np.maximum(self.threshold, self.threshold_ns / base_ns))


@dataclass(frozen=True)
class Sides:
    """Per cell, the two sides in a unit of their own (log time or log cycles).

    Attributes:
        base, head: mean over processes of y.
        base_var, head_var: its variance over processes (n - 1), 0 for one process.
        base_n, head_n: processes.
        floor: mean squared standard error of y inside a process.
        grid: variance of y that the steps of the device clock alone make.
        prior: d0 and s0^2; see ``with_prior``.
    """

    base: Floats
    head: Floats
    base_var: Floats
    head_var: Floats
    base_n: npt.NDArray[np.int64]
    head_n: npt.NDArray[np.int64]
    floor: Floats
    grid: Floats
    prior: tuple[float, float] = field(default=NO_PRIOR)

    @property
    def ratio(self) -> Floats:
        """Log ratio, head over base."""
        return self.head - self.base

    @property
    def dof(self) -> npt.NDArray[np.int64]:
        """Degrees of freedom."""
        return self.base_n + self.head_n - 2

    @property
    def judged(self) -> npt.NDArray[np.bool_]:
        """Cells with enough processes on both sides for a spread between them to be known."""
        return np.minimum(self.base_n, self.head_n) >= LEAST_PROCESSES

    @property
    def pooled(self) -> Floats:
        """Variance of y over processes, both sides together."""
        total = (self.base_n - 1) * self.base_var + (self.head_n - 1) * self.head_var
        return np.maximum(total / np.maximum(self.dof, 1), self.grid)

    @property
    def known(self) -> Floats:
        """Degrees of freedom of ``spread``, at least 1."""
        known: Floats = np.maximum(self.dof + self.prior[0], 1.0)
        return known

    @property
    def spread(self) -> Floats:
        """Standard deviation of one process."""
        d0, s0 = self.prior
        if d0 == 0.0:
            return np.sqrt(np.maximum(self.pooled, self.floor))
        return np.sqrt((d0 * s0 + self.dof * self.pooled) / (d0 + self.dof))

    def with_prior(self) -> Sides:
        """The same with s0 and d0 fitted over the judged cells; as it is where they are too few."""
        kept = self.judged
        if kept.sum() < CELLS_FOR_PRIOR:
            return self
        return replace(self, prior=_prior(self.pooled[kept], self.dof[kept]))

    def interval(self, confidence: float) -> tuple[Floats, Floats]:
        """Two-sided interval of the log ratio; infinite where there are too few processes."""
        scale = self.spread * np.sqrt(1 / self.base_n + 1 / self.head_n)
        low, high = stats.t.interval(confidence, self.known, loc=self.ratio, scale=scale)
        return np.where(self.judged, low, -np.inf), np.where(self.judged, high, np.inf)

    def beyond(self, margin: Floats, side: str) -> Floats:
        """One-sided p-value of "the log ratio is not ``greater`` (``less``) than ``margin``"; NaN where not judged."""
        scale = self.spread * np.sqrt(1 / self.base_n + 1 / self.head_n)
        statistic = (self.ratio - margin) / scale
        tail: Any = stats.t.sf if side == "greater" else stats.t.cdf
        return np.where(self.judged, tail(statistic, self.known), np.nan)


def _prior(variance: Floats, dof: npt.NDArray[np.int64]) -> tuple[float, float]:
    """d0 and s0^2 under which variance / s0^2 ~ F(dof, d0) is likeliest."""

    def surprise(at: Floats) -> float:
        d0, s0 = np.exp(at)
        return -float(np.sum(stats.f.logpdf(variance / s0, dof, d0) - at[1]))

    middle = float(np.log(np.median(variance)))
    bounds = [(np.log(0.5), np.log(200.0)), (middle - 7.0, middle + 7.0)]
    found = optimize.minimize(surprise, [np.log(4.0), middle], method="Nelder-Mead", bounds=bounds)
    d0, s0 = np.exp(found.x)
    return float(d0), float(s0)


def corrected(p: Floats) -> Floats:
    """Benjamini-Hochberg adjusted p-values over the cells that have one; 1 for the others."""
    out = np.ones(len(p))
    known = ~np.isnan(p)
    if known.any():
        out[known] = stats.false_discovery_control(p[known], method="bh")
    return out


def judge(sides: Sides, margin: Floats, alpha: float) -> npt.NDArray[np.str_]:
    """A verdict per cell; see the module's text.

    Args:
        margin: per cell, as a log ratio.
        alpha: error rate of this look.
    """
    slower, faster = sides.beyond(margin, "greater"), sides.beyond(-margin, "less")
    inside = np.maximum(sides.beyond(margin, "less"), sides.beyond(-margin, "greater"))
    out = np.full(len(margin), INCONCLUSIVE, dtype="<U12")
    with np.errstate(invalid="ignore"):
        out[inside <= alpha / 2] = SAME
        for verdict, p in ((IMPROVED, faster), (REGRESSED, slower)):
            out[(p <= alpha / 2) & (corrected(p) <= alpha)] = verdict
    return out
