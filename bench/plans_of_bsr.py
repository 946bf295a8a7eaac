"""Measure the variants of ``bsr.wgmma`` and write the table that it chooses from.

    python -m sparsity_roofline.bench.plans_of_bsr --out kernels/bsr/plans.csv

Takes an otherwise idle Hopper GPU. One row a variant and case: the median device time of a call (CUPTI activity
records, clean cold L2) on one random draw of stored blocks. A variant whose result fails the check against the float64
product ends the run with exit code 3.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from sparsity_roofline.bench.timing.kineto import KinetoTimer
from sparsity_roofline.bench.timing.protocol import Regime, Stopping
from sparsity_roofline.kernels import convert
from sparsity_roofline.kernels.bsr import wgmma
from sparsity_roofline.kernels.bsr._strips import STRIP, order_by_overlap, strips_of
from sparsity_roofline.kernels.bsr.plans import Plan
from sparsity_roofline.kernels.reference import check
from sparsity_roofline.model.case import Case
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.matrix import Matrix
from sparsity_roofline.model.pattern import Pattern

SIZE = 4096
BLOCKS = (16, 32, 64, 128)
DENSITIES = (0.5, 0.25, 0.0625, 0.03125)
FEW = (*(Plan(16, strips, parts) for strips in (1, 2) for parts in (1, 2, 4, 6, 8)),)
SOME = (*(Plan(BN, 1, parts) for BN in (32, 64) for parts in (1, 2, 3)), Plan(64, 2, 2), Plan(64, 2, 4))
MANY = (
    *(Plan(64, strips, parts) for strips in (1, 2) for parts in (1, 2)),
    *(Plan(128, strips, parts) for strips in (1, 2) for parts in (1, 2)),
    Plan(256, 2, 4),
)
WIDE = (
    *(Plan(256, 3, 1, panel, share) for panel in (2, 4, 8) for share in (0, 1, 2)),
    *(Plan(256, 2, 1, panel, share) for panel in (2, 4, 8) for share in (0, 1, 2)),
    Plan(192, 3),
    Plan(192, 3, 1, 8, 2),
    Plan(128, 4),
    Plan(128, 2, 1, 16),
    Plan(128, 1, 1, 16),
)
VARIANTS = {16: FEW, 64: SOME, 256: MANY, 2048: WIDE, 16384: WIDE}
"""What is tried at each N."""


def weight(r: int, density: float) -> Matrix:
    """SIZE x SIZE, each block of r x r stored with probability ``density``."""
    rng = np.random.default_rng(r)
    blocks = rng.random((SIZE // r, SIZE // r)) < density
    values = rng.standard_normal((SIZE, SIZE), dtype=np.float32) * np.kron(blocks, np.ones((r, r), dtype=bool))
    return Matrix.from_dense(f"random {r} x {r}", values, pattern=Pattern.parse(f"block{r}"))


def rows() -> Iterator[dict[str, Any]]:
    """One measured row after the other.

    Raises:
        UserError: a variant gives a wrong result (exit code 3).
    """
    import torch

    timer, stopping = KinetoTimer(), Stopping(minimum=7, maximum=40, seconds=0.2)
    for r, density in product(BLOCKS, DENSITIES):
        matrix = weight(r, density)
        operand = convert.bsr_operand(matrix, r, r, "fp16", "cuda")
        for N, plans in VARIANTS.items():
            case = Case.of(matrix, N, "fp16", "bsr")
            x = torch.randn((SIZE, N), device="cuda", dtype=torch.float16)
            expected = convert.stored_as_dense(matrix, "fp16", "cuda").double() @ x.double()
            for plan in plans:
                y = torch.full((SIZE, N), float("nan"), device="cuda", dtype=torch.float16)
                order = order_by_overlap(operand, SIZE, plan.group * STRIP // r)
                strips = strips_of(operand, order, SIZE, plan.group, wgmma.STEP)
                prepared = wgmma._Prepared(strips, plan, case)
                prepared.launch(x, y)
                verdict = check(y, expected, "fp16", SIZE)
                if not verdict.ok:
                    raise UserError(f"{plan} at block {r}, density {density:g}, N = {N}: {verdict.reason}", 3)
                samples = timer.measure(partial(prepared.launch, x, y), Regime(), stopping)
                us = round(statistics.median(samples.busy_ns) / 1e3, 1)
                yield {"M": SIZE, "K": SIZE, "N": N, "r": r, "density": density, **plan._asdict(), "us": us}


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0, 3 for a wrong result, 6 where there is no Hopper GPU."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="CSV to write, for example kernels/bsr/plans.csv")
    out = parser.parse_args(arguments).out
    able = wgmma.BsrWgmma().available("cuda")
    if not able:
        sys.stderr.write(f"plans_of_bsr: {able.reason}\n")
        return 6
    names = ["M", "K", "N", "r", "density", *Plan._fields, "us"]
    try:
        with out.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, names, lineterminator="\n")
            writer.writeheader()
            for row in rows():
                writer.writerow(row)
    except UserError as error:
        sys.stderr.write(f"plans_of_bsr: {error}\n")
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
