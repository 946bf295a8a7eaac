"""Device code of ``bsr.triton``: blocks of any size on tensor cores (IEEE fp32: on CUDA cores), fp32 accumulation."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from __future__ import annotations

import triton
import triton.language as tl

from sparsity_roofline.kernels._tiles import grouped_tile, mma


@triton.jit(do_not_specialize=["block_rows"])
def bsr_spmm(
    indptr,
    indices,
    values,
    order,
    x,
    y,
    block_rows,
    M,
    N,
    K,
    R: tl.constexpr,
    C: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    TRANSPOSED: tl.constexpr,
    GROUP: tl.constexpr,
    PRECISION: tl.constexpr,
    TOKEN_MAJOR: tl.constexpr,
    WIDE: tl.constexpr,
):
    """BM rows of one block row by BN columns of Y per program.

    The stored columns of a block row, block after block, form one packed inner dimension of ``count * C`` that is
    walked BK at a time: several small blocks make one step, a large block several. ``order`` lists block rows by
    falling block count. TRANSPOSED accumulates Y^T = X^T W^T, so that the narrow side (BM of 16 or 32) is the MMA's
    n, not its m of 64. TOKEN_MAJOR: x is (N, K) and y (N, M) in memory. WIDE: offsets need int64.
    """
    SUB: tl.constexpr = (R + BM - 1) // BM  # programs that share a block row because R > BM
    tm, tn = grouped_tile(tl.program_id(0), block_rows * SUB, tl.cdiv(N, BN), GROUP)
    block_row = tl.load(order + tm // SUB)
    first = tl.load(indptr + block_row)
    packed = (tl.load(indptr + block_row + 1) - first) * C
    i = tm % SUB * BM + tl.arange(0, BM)
    cols = tn * BN + tl.arange(0, BN)
    in_block, in_cols = i < R, cols < N
    lane = tl.arange(0, BK)
    columns = cols
    if WIDE:
        columns = cols.to(tl.int64)
        first = first.to(tl.int64)
        block_row = block_row.to(tl.int64)
    acc = tl.zeros((BN, BM) if TRANSPOSED else (BM, BN), dtype=tl.float32)
    for start in range(0, packed, BK):
        if C % BK == 0:  # the whole step lies in one block
            block = first + start // C
            within = tl.multiple_of(start % C, BK) + lane
            k = tl.load(indices + block) * C + within
            in_k = k < K
            w_at = values + block * (R * C) + (i * C)[:, None] + within[None, :]
            if R % BM == 0:  # noqa: SIM108 - the two are different code
                w = tl.load(w_at)
            else:
                w = tl.load(w_at, mask=in_block[:, None], other=0.0)
        else:
            p = start + lane
            held = p < packed
            block = first + p // C
            within = p % C
            k = tl.load(indices + block, mask=held, other=0) * C + within
            in_k = held & (k < K)
            w_at = values + (block * (R * C) + within)[None, :] + (i * C)[:, None]
            w = tl.load(w_at, mask=in_block[:, None] & held[None, :], other=0.0)
        if WIDE:
            k = k.to(tl.int64)
        if TOKEN_MAJOR:  # noqa: SIM108
            x_at = x + k[:, None] + columns[None, :] * K
        else:
            x_at = x + k[:, None] * N + cols[None, :]
        panel = tl.load(x_at, mask=in_k[:, None] & in_cols[None, :], other=0.0)
        if TRANSPOSED:  # noqa: SIM108
            acc = mma(tl.trans(panel), tl.trans(w), acc, PRECISION)
        else:
            acc = mma(w, panel, acc, PRECISION)
    if TRANSPOSED:
        acc = tl.trans(acc)
    rows = block_row * R + i
    mask = (in_block & (rows < M))[:, None] & in_cols[None, :]
    if TOKEN_MAJOR:  # noqa: SIM108
        y_at = y + rows[:, None] + columns[None, :] * M
    else:
        y_at = y + rows[:, None] * N + cols[None, :]
    tl.store(y_at, acc.to(y.dtype.element_ty), mask=mask)
