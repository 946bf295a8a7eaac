"""Device code of ``nm.triton``: n:m planes decoded to a dense tile in registers, then a dense MMA.

That saves bytes of W, never arithmetic: Triton cannot issue sparse MMA instructions.
"""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from __future__ import annotations

import triton
import triton.language as tl

from sparsity_roofline.kernels._tiles import grouped_tile, mma


@triton.jit
def _slot(values, positions, plane, g_at, mask, at_position):
    """The elements of one plane that sit at ``at_position`` of their group, zero elsewhere."""
    v = tl.load(values + plane + g_at, mask=mask, other=0.0)
    p = tl.load(positions + plane + g_at, mask=mask, other=0)
    return tl.where(p == at_position, v, tl.zeros_like(v))


@triton.jit
def decode(values, positions, rows, in_rows, start, groups, plane, n: tl.constexpr, m: tl.constexpr, BK: tl.constexpr):
    """The dense (BM, BK) tile of W from column ``start`` on, for any n:m; loads every element m times (from L1)."""
    k = start + tl.arange(0, BK)
    group = k // m
    at = rows[:, None] * groups + group[None, :]
    mask = in_rows[:, None] & (group < groups)[None, :]
    w = _slot(values, positions, plane * 0, at, mask, (k % m)[None, :])
    for j in tl.static_range(1, n):
        w += _slot(values, positions, plane * j, at, mask, (k % m)[None, :])
    return w


@triton.jit
def decode_4(values, positions, rows, in_rows, start, groups, plane, n: tl.constexpr, BK: tl.constexpr):
    """The same for m = 4: each stored element is loaded once, the four columns are interleaved in registers."""
    group = start // 4 + tl.arange(0, BK // 4)
    at = rows[:, None] * groups + group[None, :]
    mask = in_rows[:, None] & (group < groups)[None, :]
    v = tl.load(values + at, mask=mask, other=0.0)
    p = tl.load(positions + at, mask=mask, other=0)
    zero = tl.zeros_like(v)
    e0 = tl.where(p == 0, v, zero)
    e1 = tl.where(p == 1, v, zero)
    e2 = tl.where(p == 2, v, zero)
    e3 = tl.where(p == 3, v, zero)
    for j in tl.static_range(1, n):
        v = tl.load(values + plane * j + at, mask=mask, other=0.0)
        p = tl.load(positions + plane * j + at, mask=mask, other=0)
        e0 += tl.where(p == 0, v, zero)
        e1 += tl.where(p == 1, v, zero)
        e2 += tl.where(p == 2, v, zero)
        e3 += tl.where(p == 3, v, zero)
    pairs = tl.join(tl.join(e0, e2), tl.join(e1, e3))  # (BM, BK / 4, high bit, low bit) of the position
    return tl.reshape(pairs, (rows.shape[0], BK))


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
        if m == 4:
            w = decode_4(values, positions, rows, in_rows, start, groups, plane, n, BK)
        else:
            w = decode(values, positions, rows, in_rows, start, groups, plane, n, m, BK)
        in_k = start + k < K
        panel = tl.load(x + (start + k)[:, None] * N + cols[None, :], mask=in_k[:, None] & in_cols[None, :], other=0.0)
        acc = mma(w, panel, acc, PRECISION)
    mask = in_rows[:, None] & in_cols[None, :]
    tl.store(y + rows[:, None] * N + cols[None, :], acc.to(y.dtype.element_ty), mask=mask)
