"""How long a job will take on the wall: a written rule before a run, corrected by what the run sees.

For one (case, kernel)::

    wall = setup + check + n (flush + SoL / fraction)
    n    = clip(seconds / (flush + SoL / fraction), minimum, maximum)         (Stopping)

SoL is ``model.roofline`` under *nominal* ceilings of the kind of device (below), not this machine's: a plan is then the
same on every machine and at every time, which resuming and sampling rely on. ``fraction`` is the share of SoL that
kernels typically reach. ``check`` is the float64 oracle (2 M K N operations, charged to the first kernel of a case,
which fills the cache the others use) plus the passes over X and Y that generate and compare them. A timer that rotates
adds (sets - 1) further preparations (``rotation``), each a millisecond and a half and 0.2 ns an element of W.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparsity_roofline.bench.rotation import COVERED, MOST_SETS, PREPARE_SECONDS, touched_bytes
from sparsity_roofline.bench.timing.protocol import Stopping
from sparsity_roofline.model.case import Case


@dataclass(frozen=True)
class Nominal:
    """Round figures of a kind of device; rates per second, times in seconds."""

    peak: float
    bandwidth: float
    fp64: float
    elements: float  # generated, converted and compared
    setup: float
    flush: float
    dense_fraction: float
    sparse_fraction: float
    startup: float
    cache: float = 64e6  # bytes
    copy: float = 1.5e-3  # one further preparation of a weight for a timer that rotates (medians seen on an H100)
    copy_element: float = 2e-10


NOMINAL = {
    "cuda": Nominal(5e13, 2e12, 2e13, 2e10, 0.05, 4e-4, 0.5, 0.1, 30.0),
    "cpu": Nominal(1e11, 1e10, 2e10, 5e7, 0.02, 4e-3, 0.5, 0.15, 15.0),
}


def startup_s(device: str) -> float:
    """Wall time before the first job: imports, device context, calibration where none is kept."""
    return NOMINAL[device].startup


def estimate(
    cases: Sequence[Case], device: str, stopping: Stopping, *, rotates: bool = False
) -> tuple[list[float], list[float]]:
    """Seconds per kernel of each case, and seconds for what its first kernel does for all of them.

    ``rotates``: the timer makes calls cold by going round copies of the operands.
    """
    from sparsity_roofline.model import cost, roofline, table

    if not cases:
        return [], []
    nominal = NOMINAL[device]
    sol = roofline.sol(cost.cost(table.CaseTable.of(cases), cost.PRESETS["paper"]), nominal.peak, nominal.bandwidth)
    dense = np.array([c.format == "dense" for c in cases])
    M, K, N = (np.array([getattr(c, d) for c in cases], dtype=np.float64) for d in "MKN")
    sample = nominal.flush + np.asarray(sol.latency_s) / np.where(
        dense, nominal.dense_fraction, nominal.sparse_fraction
    )
    n = np.clip(stopping.seconds / sample, stopping.minimum, stopping.maximum)
    each = nominal.setup + n * sample + 3 * M * N / nominal.elements
    if rotates:
        touched = np.maximum([touched_bytes(c) for c in cases], 1)
        further = np.maximum(np.ceil(COVERED * nominal.cache / touched), 1)
        seconds = further * (nominal.copy + nominal.copy_element * M * K)
        # More copies than that are refused before one is made, or as soon as the first ones show how long they take.
        each = each + np.where(further < MOST_SETS, np.minimum(seconds, PREPARE_SECONDS), 0.0)
    first = 2 * M * K * N / nominal.fp64 + (K * N + 2 * M * K) / nominal.elements
    return [float(v) for v in each], [float(v) for v in first]


class Correction:
    """Observed over estimated wall time, by kernel where enough was seen, else overall."""

    def __init__(self) -> None:
        self._seen: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])

    def add(self, kernel: str, estimated_s: float, observed_s: float) -> None:
        """One finished job."""
        for key in (kernel, ""):
            seen = self._seen[key]
            seen[0] += estimated_s
            seen[1] += observed_s
            seen[2] += 1

    def factor(self, kernel: str) -> float:
        """What to multiply an estimate by; 1 while nothing is known."""
        for key, enough in ((kernel, 5), ("", 3)):
            estimated, observed, count = self._seen.get(key, (0.0, 0.0, 0.0))
            if count >= enough and estimated > 0:
                return observed / estimated
        return 1.0
