"""Device code of ``csr.triton``: row-split CSR times dense on CUDA cores, fp32 accumulation."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["rows"])
def csr_spmm(
    indptr,
    indices,
    values,
    order,
    x,
    y,
    rows,
    N,
    BR: tl.constexpr,
    BT: tl.constexpr,
    BN: tl.constexpr,
    WIDE: tl.constexpr,
):
    """BR rows by BN columns of Y per program.

    Each row owns BT lanes that take its elements BT at a time, so BR BT rows of X are in flight at once; the lanes are
    summed once, at the end. ``order`` lists the rows by falling length: rows that share a program are about equally
    long, and long ones start first. Rows without elements are written as zeros. WIDE: offsets need int64.
    """
    pid = tl.program_id(0)
    groups = tl.cdiv(rows, BR)
    first = pid % groups * BR  # all rows of one panel of X columns before the next: the panel stays in L2
    lane = tl.arange(0, BR * BT)
    slot = first + lane // BT
    row = tl.load(order + slot, mask=slot < rows, other=0)
    at = tl.load(indptr + row, mask=slot < rows, other=0)
    end = tl.load(indptr + row + 1, mask=slot < rows, other=0)
    longest = tl.max(end - at, 0)
    at += lane % BT
    cols = pid // groups * BN + tl.arange(0, BN)
    in_cols = cols < N
    acc = tl.zeros((BR * BT, BN), dtype=tl.float32)
    for _ in range(0, longest, BT):
        held = at < end
        k = tl.load(indices + at, mask=held, other=0)
        v = tl.load(values + at, mask=held, other=0.0).to(tl.float32)
        if WIDE:
            k = k.to(tl.int64)
        panel = tl.load(x + k[:, None] * N + cols[None, :], mask=held[:, None] & in_cols[None, :], other=0.0)
        acc += v[:, None] * panel.to(tl.float32)
        at += BT
    out = tl.sum(tl.reshape(acc, (BR, BT, BN)), axis=1)
    slot = first + tl.arange(0, BR)
    row = tl.load(order + slot, mask=slot < rows, other=0)
    if WIDE:
        row = row.to(tl.int64)
    mask = (slot < rows)[:, None] & in_cols[None, :]
    tl.store(y + row[:, None] * N + cols[None, :], out.to(y.dtype.element_ty), mask=mask)
