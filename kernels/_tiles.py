"""Device code that several Triton kernels share."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from __future__ import annotations

import triton
import triton.language as tl

from sparsity_roofline.kernels.support import interpreting

INTERPRETED: tl.constexpr = tl.constexpr(interpreting())


@triton.jit
def grouped_tile(pid, tiles_m, tiles_n, GROUP: tl.constexpr):
    """Row and column of the ``pid``-th tile when GROUP rows of tiles are walked column by column.

    Programs that run at the same time then share tiles of both operands in L2.
    """
    per_group = GROUP * tiles_n
    first = pid // per_group * GROUP
    size = min(tiles_m - first, GROUP)
    inside = pid % per_group
    return first + inside % size, inside // size


@triton.jit
def mma(a, b, acc, PRECISION: tl.constexpr):
    """acc + a @ b with fp32 accumulation."""
    if INTERPRETED:  # the interpreter holds bfloat16 as bit patterns and would multiply those; fp32 holds them exactly
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, acc, input_precision=PRECISION)
