"""Which pattern a mask obeys: checked where a source claims one, found where none is claimed."""

from __future__ import annotations

import numpy as np

from sparsity_roofline.model.matrix import Matrix
from sparsity_roofline.model.pattern import DENSE, UNSTRUCTURED, Pattern

TWO_FOUR = Pattern("nm", n=2, m=4)

BLOCK_SIZES = (64, 32, 16, 8, 4)
"""Square blocks that ``find_pattern`` looks for, largest first."""

LEAST_FILL = 0.5
"""A mask claimed to be made of blocks fills the blocks it touches at least this much. Trained weights hold a chance
zero here and there, so full blocks are not demanded; an unstructured mask at 90 % fills 16 x 16 blocks by a tenth."""


def violation(matrix: Matrix, pattern: Pattern) -> str:
    """Why the mask does not obey the pattern, or "" if it does."""
    if pattern.kind == "nm":
        group = matrix.indices.astype(np.int64) // pattern.m
        key = matrix.row_ids().astype(np.int64) * (-(-matrix.shape[1] // pattern.m)) + group
        # Elements are sorted, so equal keys are neighbours: n + 1 in a row break the rule.
        broken = np.flatnonzero(key[pattern.n :] == key[: len(key) - pattern.n])
        if len(broken):
            at = int(broken[0])
            row = int(np.searchsorted(matrix.indptr, at, side="right")) - 1
            first = int(group[at]) * pattern.m
            return f"row {row} holds more than {pattern.n} elements in columns {first}..{first + pattern.m - 1}"
    elif pattern.kind == "block" and matrix.nnz:
        fill = matrix.nnz / _room(matrix, pattern.r, pattern.c)
        if fill < LEAST_FILL:
            return f"its elements fill the {pattern.r} x {pattern.c} blocks they touch by {fill:.0%} only"
    elif pattern.kind == "dense" and matrix.nnz != matrix.shape[0] * matrix.shape[1]:
        return f"{matrix.shape[0] * matrix.shape[1] - matrix.nnz} elements are missing"
    return ""


def find_pattern(matrix: Matrix) -> Pattern:
    """The tightest pattern that the mask obeys: dense, 2:4, a square block of ``BLOCK_SIZES``, else unstructured.

    2:4 is taken only where at least 40 % is kept, since a very sparse mask obeys it by chance.
    """
    rows, cols = matrix.shape
    if matrix.nnz == rows * cols:
        return DENSE
    if cols % 4 == 0 and 0.4 <= matrix.density <= 0.5 and not violation(matrix, TWO_FOUR):
        return TWO_FOUR
    if matrix.nnz:
        for b in BLOCK_SIZES:
            if _made_of_blocks(matrix, b):
                return Pattern("block", r=b, c=b)
    return UNSTRUCTURED


def _made_of_blocks(matrix: Matrix, b: int) -> bool:
    rows, cols = matrix.shape
    whole = rows // b * b
    if rows < b or cols < b or np.ptp(matrix.row_lengths[:whole].reshape(-1, b), axis=1).any():
        return False  # rows of one block row differ in length: quick, and true of nearly all other masks
    return _room(matrix, b, b) == matrix.nnz


def _room(matrix: Matrix, r: int, c: int) -> int:
    """Elements of the r x c blocks that the mask touches, cut at the edges."""
    rows, cols = matrix.blocks(r, c)
    return int((np.minimum(matrix.shape[0] - rows * r, r) * np.minimum(matrix.shape[1] - cols * c, c)).sum())
