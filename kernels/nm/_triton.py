"""Device code of ``nm.triton``: n:m planes decoded to a dense tile in registers, then a dense MMA.

That saves bytes of W, never arithmetic: Triton cannot issue sparse MMA instructions.
"""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from __future__ import annotations

import triton
import triton.language as tl

from sparsity_roofline.kernels._tiles import grouped_tile, mma


@triton.jit
def gathered(
    values, positions, rows, in_rows, start, groups, plane, n: tl.constexpr, m: tl.constexpr, BK: tl.constexpr
):
    """The dense (BM, BK) tile of W from column ``start`` on, for any n:m; loads every element m times (from L1)."""
    k = start + tl.arange(0, BK)
    at = rows[:, None] * groups + (k // m)[None, :]
    mask = in_rows[:, None] & (k // m < groups)[None, :]
    w = tl.zeros((rows.shape[0], BK), dtype=values.dtype.element_ty)
    for j in tl.static_range(0, n):
        v = tl.load(values + plane * j + at, mask=mask, other=0.0)
        p = tl.load(positions + plane * j + at, mask=mask, other=0)
        w += tl.where(p == (k % m)[None, :], v, 0.0)
    return w


@triton.jit
def spread(values, positions, rows, in_rows, start, groups, plane, n: tl.constexpr, m: tl.constexpr, BK: tl.constexpr):
    """The same for m a power of two up to BK: every element is loaded once and compared with the m columns."""
    group = start // m + tl.arange(0, BK // m)
    at = rows[:, None] * groups + group[None, :]
    mask = in_rows[:, None] & (group < groups)[None, :]
    column = tl.arange(0, m)[None, None, :]
    w = tl.zeros((rows.shape[0], BK // m, m), dtype=values.dtype.element_ty)
    for j in tl.static_range(0, n):
        v = tl.load(values + plane * j + at, mask=mask, other=0.0)
        p = tl.load(positions + plane * j + at, mask=mask, other=0)
        w += tl.where(p[:, :, None] == column, v[:, :, None], 0.0)
    return tl.reshape(w, (rows.shape[0], BK))


@triton.jit(do_not_specialize=["M", "K"])
def nm_spmm(
    values,
    positions,
    x,
    y,
    M,
    N,
    K,
    groups,
    n: tl.constexpr,
    m: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    GROUP: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDE: tl.constexpr,
):
    """One BM x BN tile of Y per program. WIDE: offsets need int64."""
    tm, tn = grouped_tile(tl.program_id(0), tl.cdiv(M, BM), tl.cdiv(N, BN), GROUP)
    rows = tm * BM + tl.arange(0, BM)
    cols = tn * BN + tl.arange(0, BN)
    in_rows, in_cols = rows < M, cols < N
    k = tl.arange(0, BK)
    plane = M * groups
    if WIDE:
        rows, k = rows.to(tl.int64), k.to(tl.int64)
        plane = M.to(tl.int64) * groups
    acc = tl.zeros((BM, BN), dtype=tl.float32)
    for start in range(0, K, BK):
        if m <= BK and m & (m - 1) == 0:
            w = spread(values, positions, rows, in_rows, start, groups, plane, n, m, BK)
        else:
            w = gathered(values, positions, rows, in_rows, start, groups, plane, n, m, BK)
        in_k = start + k < K
        panel = tl.load(x + (start + k)[:, None] * N + cols[None, :], mask=in_k[:, None] & in_cols[None, :], other=0.0)
        acc = mma(w, panel, acc, PRECISION)
    mask = in_rows[:, None] & in_cols[None, :]
    tl.store(y + rows[:, None] * N + cols[None, :], acc.to(y.dtype.element_ty), mask=mask)
