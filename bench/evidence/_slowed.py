"""Device code of ``dense.slowed``: a tiled GEMM whose K loop may run longer than K."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from __future__ import annotations

import triton
import triton.language as tl

from sparsity_roofline.kernels._tiles import grouped_tile, mma


@triton.jit(do_not_specialize=["M"])
def gemm_longer(
    w,
    x,
    y,
    M,
    N,
    K,
    STEPPED,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDE: tl.constexpr,
):
    """One BM x BN tile of Y. w is (M, STEPPED) with zeros from column K on, STEPPED at most 2 K + BK; those columns
    meet the rows of X from 0 on again, so that a further step loads and multiplies as much as any other."""
    tm, tn = grouped_tile(tl.program_id(0), tl.cdiv(M, BM), tl.cdiv(N, BN), 8)
    rows = tm * BM + tl.arange(0, BM)
    cols = tn * BN + tl.arange(0, BN)
    in_rows, in_cols = rows < M, cols < N
    k = tl.arange(0, BK)
    if WIDE:
        rows, k = rows.to(tl.int64), k.to(tl.int64)
    acc = tl.zeros((BM, BN), dtype=tl.float32)
    for start in range(0, STEPPED, BK):
        along = start + k
        again = tl.where(along < K, along, along - K)
        a = tl.load(w + rows[:, None] * STEPPED + along[None, :], mask=in_rows[:, None], other=0.0)
        b = tl.load(x + again[:, None] * N + cols[None, :], mask=(again < K)[:, None] & in_cols[None, :], other=0.0)
        acc = mma(a, b, acc, PRECISION)
    tl.store(
        y + rows[:, None] * N + cols[None, :], acc.to(y.dtype.element_ty), mask=in_rows[:, None] & in_cols[None, :]
    )
