"""Cases from shapes: the counts a uniform mask is expected to have."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsity_roofline.model.case import Case
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.expect import expected_case, parse_shape
from sparsity_roofline.model.matrix import Matrix
from sparsity_roofline.model.pattern import Pattern


def test_unstructured_counts() -> None:
    case = expected_case(64, 147, 10, Pattern.parse("unstructured"), 0.98, "fp16")
    assert case.format == "csr"
    assert case.nnz == round(64 * 147 * 0.02)
    # 147 (1 - 0.98^64) = 106.6: about a quarter of the columns is expected to stay unused.
    assert case.used_columns == 107


def test_two_of_four_takes_its_own_sparsity() -> None:
    case = expected_case(8, 10, 3, Pattern.parse("2:4"), 0.9, "fp16")
    assert (case.nnz, case.target_sparsity, case.format) == (8 * (4 + 2), 0.5, "nm")


def test_blocks_round_up_to_whole_ones() -> None:
    case = expected_case(33, 17, 1, Pattern.parse("block16"), 0.5, "fp32")
    assert case.stored_blocks == 3  # of 3 x 2
    assert case.nnz <= 33 * 17


@pytest.mark.parametrize("text", ["4096x4096", "0x1x1", "axbxc", "1x2x3x4", "-1x2x3"])
def test_bad_shapes_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="MxKxN"):
        parse_shape(text)


@pytest.mark.parametrize("sparsity", [-0.1, 1.1])
def test_bad_sparsity_is_refused(sparsity: float) -> None:
    with pytest.raises(UserError, match="between 0 and 1"):
        expected_case(4, 4, 4, Pattern.parse("unstructured"), sparsity, "fp16")


@given(
    st.integers(20, 80),
    st.integers(20, 80),
    st.floats(0.1, 0.9),
    st.sampled_from(["unstructured", "block4", "block8x2"]),
)
def test_expectation_agrees_with_a_drawn_mask(M: int, K: int, sparsity: float, text: str) -> None:
    """A mask drawn with the same number of blocks: nnz within the ragged edge, used columns within four sigma."""
    pattern = Pattern.parse(text)
    case = expected_case(M, K, 1, pattern, sparsity, "fp32")
    r, c = max(pattern.r, 1), max(pattern.c, 1)
    rows, cols = -(-M // r), -(-K // c)
    kept = case.stored_blocks if pattern.kind == "block" else case.nnz
    rng = np.random.default_rng(M * K)
    small = np.zeros(rows * cols, dtype=bool)
    small[rng.choice(rows * cols, kept, replace=False)] = True
    mask = np.kron(small.reshape(rows, cols), np.ones((r, c), dtype=bool))[:M, :K]
    real = Case.of(Matrix.from_dense("w", mask.astype(np.float32), pattern=pattern), 1, "fp32")
    assert real.stored_blocks == case.stored_blocks
    assert real.nnz <= case.nnz <= real.nnz + (M + K) * max(r, c)
    share = sparsity**rows
    sigma = (cols * share * (1 - share)) ** 0.5 * c
    assert abs(real.used_columns - case.used_columns) <= 4 * sigma + 2 * c
