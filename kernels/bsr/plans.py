"""Which variant of ``bsr.wgmma`` for which case: measured times of many variants, scaled to the case's rounds of tiles.

``plans.csv`` holds microseconds on an H100 (CUPTI, clean cold L2) of every variant over a grid of N, block rows r and
densities at one M x K; ``python -m sparsity_roofline.bench.plans_of_bsr`` makes it. A variant's time is a launch and a
number of rounds in which every multiprocessor computes a tile; a round's time is taken from the record nearest in N, r
and density, and stretched with K. So a variant is passed over where its tiles would leave multiprocessors idle.
"""

from __future__ import annotations

import csv
from functools import cache
from math import ceil, log, log2
from pathlib import Path
from typing import NamedTuple

TABLE = Path(__file__).with_name("plans.csv")
LAUNCH_US = 3.0  # of each time, not of its rounds
ROW_BLOCK = 64  # rows of a strip
DOUBT = 0.05  # by which a record counts for longer, for each octave of N between it and the case
FEW_COLUMNS = 64  # up to here the bytes of W bound the time, and records of wider cases say nothing
BLOCKS_PER_MULTIPROCESSOR = {16: 2, 32: 2, 64: 2}  # by width, of one strip; 1 beyond


class Plan(NamedTuple):
    """One compiled variant and how work is cut.

    Attributes:
        BN: columns of Y of a block.
        strips: strips of 64 rows of a block, which share tiles of X.
        parts: runs of steps a group is cut into, each a block's.
        panel: column tiles that are walked together (pairs of them where W is shared).
        share: what two neighbouring blocks fetch once for both: 0 nothing, 1 tiles of W, 2 tiles of X.
    """

    BN: int
    strips: int
    parts: int = 1
    panel: int = 8
    share: int = 0

    @property
    def group(self) -> int:
        """Strips whose columns make one list of steps."""
        return self.strips * (2 if self.share == 2 else 1)

    def rounds(self, M: int, N: int, multiprocessors: int) -> int:
        """How often every multiprocessor is given work, for Y of M x N."""
        columns = -(-N // self.BN)
        pairs = 1 if self.share == 0 else 2
        tiles = -(-M // (ROW_BLOCK * self.group)) * self.parts * (-(-columns // 2) if self.share == 1 else columns)
        resident = BLOCKS_PER_MULTIPROCESSOR.get(self.BN, 1) if self.strips == 1 else 1
        return max(ceil(tiles * pairs / (multiprocessors * resident)), 1)


class _Record(NamedTuple):
    M: int
    K: int
    N: int
    r: int
    density: float
    plan: Plan
    us: float


@cache
def _records() -> tuple[_Record, ...]:
    with TABLE.open(encoding="utf-8", newline="") as file:
        return tuple(
            _Record(
                int(row["M"]),
                int(row["K"]),
                int(row["N"]),
                int(row["r"]),
                float(row["density"]),
                Plan(*(int(row[name]) for name in Plan._fields)),
                float(row["us"]),
            )
            for row in csv.DictReader(file)
        )


def choose(M: int, K: int, N: int, r: int, density: float, multiprocessors: int = 132) -> Plan:
    """The variant with the shortest predicted time for W (M, K) in blocks of r rows, that share of them stored."""

    def far(record: _Record) -> float:
        """Distance in N, r and density, each in octaves; what shapes a tile's work counts most."""
        step = abs(log(record.r / min(max(r, 16), 128))) + abs(log(record.density / max(density, 1e-6)))
        return 4.0 * step + abs(log(record.N / max(N, 1)))

    nearest: dict[Plan, _Record] = {}
    for record in _records():
        if (record.N <= FEW_COLUMNS) != (N <= FEW_COLUMNS) or (N <= FEW_COLUMNS and 2 * record.plan.BN < N):
            continue
        if record.plan not in nearest or far(record) < far(nearest[record.plan]):
            nearest[record.plan] = record

    def predicted(plan: Plan) -> float:
        record = nearest[plan]
        a_round = max(record.us - LAUNCH_US, 0.5) / plan.rounds(record.M, record.N, multiprocessors)
        doubt = 1.0 + DOUBT * abs(log2(record.N / max(N, 1)))
        return a_round * plan.rounds(M, N, multiprocessors) * max(K, 1) / record.K * doubt

    return min(nearest, key=lambda plan: (predicted(plan), plan))
