"""The program's own speed: what ``sparsity-roofline doctor --benchmark`` prints."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass

from sparsity_roofline.bench.perf.predict_speed import best, mixed_cases
from sparsity_roofline.bench.perf.read_speed import read_speed
from sparsity_roofline.model import hardware, roofline
from sparsity_roofline.model.table import CaseTable

CASES = 100_000


@dataclass(frozen=True)
class Figure:
    """One figure with its unit and what it is of."""

    name: str
    value: float
    unit: str
    note: str


def benchmark(collection: str | None = None) -> list[Figure]:
    """Prediction, start-up of the command line, listing and reading of a collection (the built-in one by default).

    Raises:
        UserError: the collection cannot be opened or read.
    """
    cases, ceilings = mixed_cases(CASES), hardware.datasheet("h100")
    table = CaseTable.of(cases)
    predicted = best(lambda: roofline.predict(table, ceilings))
    from_cases = best(lambda: roofline.predict(CaseTable.of(cases), ceilings))
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "sparsity_roofline", "--version"], check=True, stdout=subprocess.DEVNULL)
    started = time.perf_counter() - start
    read = read_speed(collection or "builtin")
    what = "of the given collection" if collection else "of the built-in collection, weights drawn and pruned"
    return [
        Figure("predict", predicted, "s", f"{CASES} mixed cases as arrays, best of 5, one thread"),
        Figure("predict from cases", from_cases, "s", f"{CASES} Case objects, best of 5, one thread"),
        Figure("command line start", started, "s", "--version in a new process"),
        Figure("list", read.open_s, "s", f"{read.listed} matrices {what}, first opening"),
        Figure("list again", read.reopen_s, "s", "second opening"),
        Figure("read", read.load_s, "s", f"{read.loaded} matrices, {read.nnz} elements, one thread"),
    ]
