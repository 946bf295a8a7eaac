"""Device code of ``dense.triton``: a tiled GEMM with fp32 accumulation, by TMA descriptors and by plain pointers."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from __future__ import annotations

import triton
import triton.language as tl

from sparsity_roofline.kernels._tiles import grouped_tile, mma


@triton.jit(do_not_specialize=["M", "N", "K"])
def gemm_tma(
    w,
    x,
    y,
    M,
    N,
    K,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    GROUP: tl.constexpr,
    PRECISION: tl.constexpr,
    HALVES: tl.constexpr,
):
    """Persistent programs, each over every tile whose number leaves the same remainder; w, x, y are tensor descriptors.

    The loops over tiles and over K are one pipeline (``flatten``): the first loads of a tile overlap with the last
    products and the store of the one before. HALVES: Y leaves in two halves of BN / 2, which frees shared memory for
    a pipeline stage. Descriptors mask what lies outside by themselves.
    """
    tiles_m, tiles_n = tl.cdiv(M, BM), tl.cdiv(N, BN)
    for tile in tl.range(tl.program_id(0), tiles_m * tiles_n, tl.num_programs(0), flatten=True):
        tm, tn = grouped_tile(tile, tiles_m, tiles_n, GROUP)
        acc = tl.zeros((BM, BN), dtype=tl.float32)
        for k in range(0, K, BK):
            acc = mma(w.load([tm * BM, k]), x.load([k, tn * BN]), acc, PRECISION)
        if HALVES:
            left, right = tl.split(tl.permute(tl.reshape(acc, (BM, 2, BN // 2)), (0, 2, 1)))
            y.store([tm * BM, tn * BN], left.to(y.dtype))
            y.store([tm * BM, tn * BN + BN // 2], right.to(y.dtype))
        else:
            y.store([tm * BM, tn * BN], acc.to(y.dtype))


@triton.jit(do_not_specialize=["M"])
def gemm_pointer(
    w,
    x,
    y,
    M,
    N,
    K,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    GROUP: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDE: tl.constexpr,
):
    """The same by masked loads, one tile a program: any alignment. WIDE: offsets need int64."""
    tm, tn = grouped_tile(tl.program_id(0), tl.cdiv(M, BM), tl.cdiv(N, BN), GROUP)
    rows = tm * BM + tl.arange(0, BM)
    cols = tn * BN + tl.arange(0, BN)
    in_rows, in_cols = rows < M, cols < N
    k = tl.arange(0, BK)
    if WIDE:
        rows, k = rows.to(tl.int64), k.to(tl.int64)
    acc = tl.zeros((BM, BN), dtype=tl.float32)
    for start in range(0, K, BK):
        in_k = start + k < K
        a = tl.load(w + rows[:, None] * K + (start + k)[None, :], mask=in_rows[:, None] & in_k[None, :], other=0.0)
        b = tl.load(x + (start + k)[:, None] * N + cols[None, :], mask=in_k[:, None] & in_cols[None, :], other=0.0)
        acc = mma(a, b, acc, PRECISION)
    tl.store(
        y + rows[:, None] * N + cols[None, :], acc.to(y.dtype.element_ty), mask=in_rows[:, None] & in_cols[None, :]
    )
