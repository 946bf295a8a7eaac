"""How well two runs of the same suite agree: ``python -m sparsity_roofline.bench.evidence.repeat RUN_A RUN_B``.

An A/A test of the harness: the same binary measured twice in fresh processes. Prints the shares of (case, kernel) cells
whose medians differ by more than 1, 2 and 3 %, and the spread of the ratio; below 20 us one step of the device clock's
32 ns grid is a visible share, so short cells are counted apart.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from sparsity_roofline.bench.store import read_records
from sparsity_roofline.model.errors import UserError

SAME = ("device", "timer", "regime_l2", "regime_clocks")


@dataclass(frozen=True)
class Agreement:
    """Of the cells of one size class.

    Attributes:
        name: which cells.
        cells: how many.
        beyond: share whose medians differ by more than 1, 2, 3 %.
        apart: share whose recorded 95 % intervals do not overlap, and of those that differ by more than 1 % besides.
        bias: geometric mean of B / A.
        spread: standard deviation of log(B / A), as a share.
        worst: largest |log(B / A)|, as a share.
    """

    name: str
    cells: int
    beyond: tuple[float, float, float]
    apart: tuple[float, float]
    bias: float
    spread: float
    worst: float

    def __str__(self) -> str:
        one, two, three = (f"{share:.1%}" for share in self.beyond)
        apart, both = (f"{share:.1%}" for share in self.apart)
        return (
            f"{self.name:16} {self.cells:5} cells: beyond 1 % {one}, 2 % {two}, 3 % {three}; "
            f"intervals apart {apart}, and beyond 1 % {both}; "
            f"bias {self.bias - 1:+.2%}, spread {self.spread:.2%}, worst {self.worst:.1%}"
        )


def repeat(first: pd.DataFrame, second: pd.DataFrame) -> list[Agreement]:
    """Agreement of all cells, of those from 20 us up and of those below.

    Raises:
        UserError: other device, timer or regime, or no common cell with a time.
    """
    a, b = (frame[frame["status"] == "ok"] for frame in (first, second))
    both = a.merge(b, on=["case", "kernel"], suffixes=("_a", "_b"))
    if both.empty:
        raise UserError("the two runs have no (case, kernel) with a time in common")
    for column in SAME:
        if (both[f"{column}_a"] != both[f"{column}_b"]).any():
            raise UserError(f"the two runs differ in {column}: measure both under the same conditions")
    log = np.log(both["time_ns_b"].to_numpy(np.float64) / both["time_ns_a"].to_numpy(np.float64))
    apart = (both["time_ci_low_ns_b"] > both["time_ci_high_ns_a"]) | (
        both["time_ci_low_ns_a"] > both["time_ci_high_ns_b"]
    )
    long = both["time_ns_a"].to_numpy(np.float64) >= 20e3
    parts = (("all", np.ones_like(long)), ("20 us and more", long), ("below 20 us", ~long))
    away = apart.to_numpy(np.bool_)
    return [_agreement(name, log[mask], away[mask]) for name, mask in parts if mask.any()]


def _agreement(name: str, log: npt.NDArray[np.float64], apart: npt.NDArray[np.bool_]) -> Agreement:
    one, two, three = (float(np.mean(np.abs(log) > np.log1p(share))) for share in (0.01, 0.02, 0.03))
    intervals = float(apart.mean()), float((apart & (np.abs(log) > np.log1p(0.01))).mean())
    spread = float(np.std(log, ddof=1)) if len(log) > 1 else 0.0
    worst = float(np.expm1(np.abs(log).max()))
    return Agreement(name, len(log), (one, two, three), intervals, float(np.exp(log.mean())), spread, worst)


def main(arguments: list[str]) -> int:
    """Print the agreement of two runs."""
    if len(arguments) != 2:
        sys.stderr.write("usage: python -m sparsity_roofline.bench.evidence.repeat RUN_A RUN_B\n")
        return 2
    try:
        found = repeat(read_records(arguments[0]), read_records(arguments[1]))
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    sys.stdout.write("".join(f"{part}\n" for part in found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
