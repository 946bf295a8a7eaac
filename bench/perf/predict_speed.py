"""How many cases a second the model predicts: ``python -m sparsity_roofline.bench.perf.predict_speed``.

Mixed formats, dtypes and shapes on one thread; best of several repeats, with and without turning ``Case`` objects into
a table first.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from sparsity_roofline.model import hardware, roofline
from sparsity_roofline.model.case import Case
from sparsity_roofline.model.table import CaseTable

FORMATS = ("dense", "csr", "bsr", "nm")
DTYPES = ("fp32", "fp16", "bf16", "fp8")


def mixed_cases(count: int, seed: int = 0) -> list[Case]:
    """``count`` cases that cycle through formats and dtypes, shapes drawn from a seeded generator."""
    rng = np.random.default_rng(seed)
    sides, columns = rng.integers(1, 129, (count, 2)) * 32, rng.integers(1, 4096, count)
    densities = rng.uniform(0.02, 0.5, count)
    cases = []
    for i in range(count):
        M, K, N = int(sides[i, 0]), int(sides[i, 1]), int(columns[i])
        kind, dtype = FORMATS[i % 4], DTYPES[i // 4 % 4]
        nnz = M * K if kind == "dense" else M * K // 2 if kind == "nm" else int(M * K * densities[i])
        blocks = nnz // 1024 if kind == "bsr" else 0
        more: dict[str, Any] = {"bsr": {"block_rows": 32, "block_cols": 32}, "nm": {"n": 2, "m": 4}}.get(kind, {})
        cases.append(
            Case(
                collection="speed",
                matrix=str(i),
                M=M,
                K=K,
                N=N,
                pattern="dense",
                format=kind,  # type: ignore[arg-type]
                dtype=dtype,
                nnz=nnz,
                stored_blocks=blocks,
                used_columns=K,
                **more,
            )
        )
    return cases


def best(work: Callable[[], object], repeats: int = 5) -> float:
    """Shortest wall time of ``work`` in seconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def main(count: int = 100_000) -> None:
    """Print the figures."""
    cases, ceilings = mixed_cases(count), hardware.datasheet("h100")
    table = CaseTable.of(cases)
    for preset in ("paper", "unit", "bound"):
        seconds = best(partial(roofline.predict, table, ceilings, preset))
        sys.stdout.write(f"predict {count} cases, {preset:5}: {seconds:.3f} s, {count / seconds:,.0f} cases/s\n")
    seconds = best(lambda: roofline.predict(CaseTable.of(cases), ceilings))
    sys.stdout.write(f"from Case objects, paper: {seconds:.3f} s, {count / seconds:,.0f} cases/s\n")


if __name__ == "__main__":
    main()
