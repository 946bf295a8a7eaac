"""Cases from shapes alone: the counts a pattern is expected to have when no matrix is at hand."""

from __future__ import annotations

from typing import Any

from sparsity_roofline.model.case import Case, Format, format_of
from sparsity_roofline.model.dtype import dtype as lookup_dtype
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.pattern import Pattern


def expected_case(
    M: int,
    K: int,
    N: int,
    pattern: Pattern,
    sparsity: float,
    dtype: str,
    *,
    format: Format | None = None,
    collection: str = "shapes",
    matrix: str | None = None,
    **labels: Any,
) -> Case:
    """A case of shape M x K x N whose mask is drawn uniformly from ``pattern``.

    nnz and stored blocks are rounded to the nearest whole element and block; the used columns are the expected number
    for a uniform mask, K (1 - s^R) with R rows or block rows (model: pattern-aware compulsory traffic). n:m ignores
    ``sparsity``: its own is 1 - n/m.

    Raises:
        UserError: a sparsity outside [0, 1], a shape below 1, an unknown dtype.
    """
    if not 0.0 <= sparsity <= 1.0:
        raise UserError(f"sparsity {sparsity} is not between 0 and 1")
    if min(M, K, N) < 1:
        raise UserError(f"shape {M}x{K}x{N}: every extent must be at least 1")
    if max(M * K, K * N, M * N) >= 2**63:
        raise UserError(f"shape {M}x{K}x{N}: a matrix has more elements than 63 bits can count")
    lookup_dtype(dtype)
    density = 1.0 - sparsity
    blocks, used = 0, K
    if pattern.kind == "dense":
        density, nnz = 1.0, M * K
    elif pattern.kind == "nm":
        density = pattern.n / pattern.m
        nnz = M * (K // pattern.m * pattern.n + min(K % pattern.m, pattern.n))
    elif pattern.kind == "block":
        block_rows, block_cols = -(-M // pattern.r), -(-K // pattern.c)
        blocks = round(block_rows * block_cols * density)
        nnz = min(blocks * pattern.r * pattern.c, M * K)
        used = min(K, round(block_cols * (1.0 - sparsity**block_rows)) * pattern.c)
    else:
        nnz = round(M * K * density)
        used = round(K * (1.0 - sparsity**M))
    return Case(
        collection=collection,
        matrix=matrix or f"{M}x{K}@{pattern}@{1.0 - density:g}",
        M=M,
        K=K,
        N=N,
        pattern=str(pattern),
        format=format or format_of(pattern),
        dtype=dtype,
        nnz=nnz,
        block_rows=pattern.r,
        block_cols=pattern.c,
        n=pattern.n,
        m=pattern.m,
        stored_blocks=blocks,
        used_columns=used,
        target_sparsity=1.0 - density,
        synthetic=True,
        **labels,
    )


def parse_shape(text: str) -> tuple[int, int, int]:
    """Read ``MxKxN``, for example ``4096x4096x2048``.

    Raises:
        UserError: anything else.
    """
    parts = text.lower().split("x")
    if len(parts) != 3 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise UserError(f"shape {text!r}: write MxKxN with positive whole numbers, for example 4096x4096x2048")
    M, K, N = (int(part) for part in parts)
    return M, K, N
