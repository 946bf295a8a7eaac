from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsity_roofline.bench.matrices.prune import synthetic
from sparsity_roofline.bench.matrices.recognise import find_pattern, violation
from sparsity_roofline.model.matrix import Matrix
from sparsity_roofline.model.pattern import Pattern


def of(mask: np.ndarray) -> Matrix:
    return Matrix.from_dense("m", mask.astype(np.float32))


@given(st.integers(0, 500), st.integers(1, 9), st.integers(1, 17), st.sampled_from([(2, 4), (1, 4), (3, 5)]))
def test_nm_rule_by_counting(seed: int, rows: int, cols: int, nm: tuple[int, int]) -> None:
    mask = np.random.default_rng(seed).random((rows, cols)) < 0.3
    n, m = nm
    obeys = all(mask[i, j : j + m].sum() <= n for i in range(rows) for j in range(0, cols, m))
    assert (violation(of(mask), Pattern("nm", n=n, m=m)) == "") == obeys


@pytest.mark.parametrize("pattern", ["2:4", "block4x4", "block16x16", "block64x64", "unstructured"])
@pytest.mark.parametrize("shape", [(128, 256), (100, 140)])
def test_finds_what_pruning_made(pattern: str, shape: tuple[int, int]) -> None:
    matrix = synthetic(shape, pattern, None if pattern == "2:4" else 0.6)
    assert str(find_pattern(matrix)) == pattern
    assert violation(matrix, matrix.pattern) == ""


def test_what_a_violation_says() -> None:
    mask = np.zeros((4, 8), dtype=bool)
    mask[2, 4:7] = True
    assert violation(of(mask), Pattern.parse("2:4")) == "row 2 holds more than 2 elements in columns 4..7"
    sparse = synthetic((64, 64), "unstructured", 0.9)
    assert "blocks they touch by" in violation(sparse, Pattern.parse("block16x16"))
    assert violation(of(mask), Pattern("dense")) == "29 elements are missing"
    assert violation(of(mask), Pattern("unstructured")) == ""


def test_chance_zeros_in_a_block_are_tolerated() -> None:
    matrix = synthetic((64, 64), "block16x16", 0.5)
    dense = matrix.to_dense()
    row, col = np.argwhere(dense)[5]
    dense[row, col] = 0
    assert violation(Matrix.from_dense("m", dense), matrix.pattern) == ""


def test_degenerate() -> None:
    assert str(find_pattern(of(np.ones((3, 3))))) == "dense"
    assert str(find_pattern(of(np.zeros((3, 3))))) == "unstructured"
    assert str(find_pattern(of(np.zeros((0, 3))))) == "dense"
    assert str(find_pattern(of(np.eye(4)))) == "unstructured"  # at 75 % it obeys 2:4 by chance
