"""The same product over many sets of buffers, for timers that make a call cold by going round them.

A set is a weight in the kernel's own form, an X and a Y. Two uses of one set must be far enough apart that nothing of
it is left in the cache: what the other sets touch in between covers twice the L2, as a flush does. Counted is what a
call surely touches: stored values of W, the rows of X that its columns use, and Y.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sparsity_roofline.bench.timing.protocol import InvalidMeasurement
from sparsity_roofline.kernels.protocol import Prepared
from sparsity_roofline.model.case import Case
from sparsity_roofline.model.dtype import dtype

if TYPE_CHECKING:
    import torch

COVERED = 2  # times the cache, as a flush
MOST_SETS = 512
MEMORY_SHARE = 0.5  # of what is free
PREPARE_SECONDS = 10.0
OWN_SHARE = 0.9
"""Of its stored values that a new weight must allocate to count as one of its own."""


@dataclass(frozen=True)
class Operands:
    """One set: its launch works on its own buffers."""

    prepared: Prepared
    x: torch.Tensor
    y: torch.Tensor

    def __call__(self) -> None:
        self.prepared.launch(self.x, self.y)


def touched_bytes(case: Case) -> int:
    """Bytes that one call touches at the least; the case's counts must be the real ones."""
    size = dtype(case.dtype).element_bytes
    return int((case.stored_elements + case.used_columns * case.N + case.M * case.N) * size)


def sets_needed(touched: int, cache_bytes: int) -> int:
    """Sets such that all but one touch ``COVERED`` times the cache; two at least.

    Raises:
        InvalidMeasurement: there would be too many, or a call touches nothing.
    """
    needed = 1 + max(1, math.ceil(COVERED * cache_bytes / touched)) if touched else 0
    if not 0 < needed <= MOST_SETS:
        raise InvalidMeasurement(
            f"a call touches {touched / 1024:.0f} KiB: to rotate through {COVERED} x {cache_bytes >> 20} MiB of cache "
            f"takes more than {MOST_SETS} sets of buffers; use another timer, or the hot regime"
        )
    return needed


def rotate(
    first: Operands,
    case: Case,
    prepare: Callable[[], Prepared],
    *,
    cache_bytes: int,
    free_bytes: int,
    allocated: Callable[[], int],
) -> list[Operands]:
    """``first`` and as many copies of it as a cold regime takes: X and Y cloned, the weight prepared anew.

    Args:
        case: with real counts.
        prepare: makes one more weight in the kernel's form.
        cache_bytes: of the L2.
        free_bytes: device memory that can still be had.
        allocated: bytes that the process holds on the device now.

    Raises:
        InvalidMeasurement: the sets would not fit, take too long to prepare, or share one weight; says which.
    """
    count = sets_needed(touched_bytes(case), cache_bytes)
    weight_bytes = case.stored_elements * dtype(case.dtype).element_bytes
    operands = first.x.nbytes + first.y.nbytes
    sets = [first]
    began = time.perf_counter()
    for number in range(1, count):
        before = allocated()
        prepared = prepare()
        grown = allocated() - before
        if grown < OWN_SHARE * weight_bytes:
            raise InvalidMeasurement(
                "the kernel prepares no weight of its own in torch's memory each time: rotated calls would share one "
                "in the cache; use another timer, or the hot regime"
            )
        if (count - 1) * (grown + operands) > MEMORY_SHARE * free_bytes:
            raise InvalidMeasurement(
                f"{count} sets of buffers to rotate need {count * (grown + operands) / 2**30:.1f} GiB, more than "
                f"{MEMORY_SHARE:.0%} of the free memory; use another timer, or the hot regime"
            )
        spent = time.perf_counter() - began
        if spent / number * (count - 1) > PREPARE_SECONDS:
            raise InvalidMeasurement(
                f"preparing {count} weights to rotate would take {spent / number * count:.0f} s, at most "
                f"{PREPARE_SECONDS:g} s are given; use another timer, or the hot regime"
            )
        sets.append(Operands(prepared, first.x.clone(), first.y.clone()))
    return sets
