"""How fast a collection is listed and read: ``python -m sparsity_roofline.bench.perf.read_speed PATH``.

PATH is anything ``open_collection`` takes. Prints the time to open and list (the first opening of a compressed archive
unpacks it), to open again, and to load every matrix that is there, on one thread.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from sparsity_roofline.bench.matrices import open_collection
from sparsity_roofline.model.errors import UserError


@dataclass(frozen=True)
class ReadSpeed:
    """Seconds and counts of one pass."""

    open_s: float
    reopen_s: float
    load_s: float
    listed: int
    loaded: int
    nnz: int

    def __str__(self) -> str:
        return (
            f"opened and listed {self.listed} matrices in {self.open_s:.2f} s, again in {self.reopen_s:.2f} s\n"
            f"loaded {self.loaded} matrices with {self.nnz} elements in {self.load_s:.2f} s "
            f"({self.nnz / max(self.load_s, 1e-9) / 1e6:.1f} million a second)\n"
            f"total {self.open_s + self.load_s:.2f} s"
        )


def read_speed(uri: str) -> ReadSpeed:
    """Open, list and load a whole collection. Raises what ``open_collection`` and ``load`` raise."""
    start = time.perf_counter()
    open_collection(uri).infos()
    opened = time.perf_counter()
    collection = open_collection(uri)
    infos = collection.infos()
    reopened = time.perf_counter()
    loaded = nnz = 0
    for info in infos:
        if info.present:
            nnz += collection.load(info.name).nnz
            loaded += 1
    done = time.perf_counter()
    return ReadSpeed(opened - start, reopened - opened, done - reopened, len(infos), loaded, nnz)


def main(arguments: Sequence[str]) -> int:
    """Print the speed for the one path given."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        sys.stderr.write("usage: python -m sparsity_roofline.bench.perf.read_speed PATH\n")
        return 2
    try:
        sys.stdout.write(f"{read_speed(arguments[0])}\n")
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
