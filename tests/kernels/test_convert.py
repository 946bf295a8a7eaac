"""Operands against plain NumPy and SciPy constructions of the same weight."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsity_roofline.kernels import convert
from sparsity_roofline.kernels.support import is_wide
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.matrix import Matrix

shapes = st.tuples(st.integers(1, 20), st.integers(1, 20))


@st.composite
def weights(draw: Any) -> np.ndarray:
    M, K = draw(shapes)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return (rng.standard_normal((M, K)) * (rng.random((M, K)) < draw(st.floats(0, 1)))).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(weights())
def test_csr_and_dense_hold_the_weight(w: np.ndarray) -> None:
    matrix = Matrix.from_dense("w", w)
    indptr, indices, values = convert.csr_operand(matrix, "fp32", "cpu")
    assert indptr.dtype == indices.dtype == torch.int32
    expected = scipy.sparse.csr_array(w)
    np.testing.assert_array_equal(indptr.numpy(), expected.indptr)
    np.testing.assert_array_equal(indices.numpy(), expected.indices)
    np.testing.assert_array_equal(values.numpy(), expected.data)
    np.testing.assert_array_equal(convert.stored_as_dense(matrix, "fp32", "cpu").numpy(), w)
    assert torch.equal(convert.dense_operand(matrix, "bf16", "cpu"), torch.from_numpy(w).bfloat16())


@settings(max_examples=60, deadline=None)
@given(weights(), st.integers(1, 6), st.integers(1, 6))
def test_bsr_holds_the_weight_and_no_empty_block(w: np.ndarray, r: int, c: int) -> None:
    M, K = w.shape
    matrix = Matrix.from_dense("w", w)
    indptr, indices, values = convert.bsr_operand(matrix, r, c, "fp32", "cpu")
    padded = np.zeros((-(-M // r) * r, -(-K // c) * c), np.float32)
    padded[:M, :K] = w
    back = scipy.sparse.bsr_array((values.numpy(), indices.numpy(), indptr.numpy()), shape=padded.shape)
    np.testing.assert_array_equal(back.toarray(), padded)
    assert values.shape == (len(matrix.blocks(r, c)[0]), r, c)
    assert bool((values != 0).flatten(1).any(1).all())
    np.testing.assert_array_equal(indices.numpy(), matrix.blocks(r, c)[1])


@settings(max_examples=60, deadline=None)
@given(weights(), st.integers(1, 8), st.data())
def test_nm_holds_the_weight_or_says_why_not(w: np.ndarray, m: int, data: Any) -> None:
    n = data.draw(st.integers(1, m))
    M, K = w.shape
    groups = -(-K // m)
    padded = np.zeros((M, groups * m), np.float32)
    padded[:, :K] = w
    matrix = Matrix.from_dense("w", w)
    if ((padded.reshape(M, groups, m) != 0).sum(2) > n).any():
        with pytest.raises(UserError, match=f"is not {n}:{m}: row"):
            convert.nm_operand(matrix, n, m, "fp32", "cpu")
        return
    values, positions = convert.nm_operand(matrix, n, m, "fp32", "cpu")
    assert values.shape == positions.shape == (n, M, groups)
    back = np.zeros((M, groups, m), np.float32)
    for v, p in zip(values.numpy(), positions.numpy(), strict=True):
        np.add.at(back, (np.arange(M)[:, None], np.arange(groups)[None, :], p), v)
    np.testing.assert_array_equal(back.reshape(M, -1), padded)


def test_stored_zeros_are_stored() -> None:
    mask = np.ones((2, 3), dtype=bool)
    matrix = Matrix.from_dense("zeros", np.zeros((2, 3), np.float32), mask)
    assert convert.csr_operand(matrix, "fp16", "cpu").values.shape == (6,)
    assert convert.bsr_operand(matrix, 2, 3, "fp16", "cpu").values.shape == (1, 2, 3)


def test_read_only_arrays_are_taken_without_a_warning() -> None:
    w = np.eye(4, dtype=np.float32)
    w.flags.writeable = False
    matrix = Matrix.dense("w", w)
    operand = convert.dense_operand(matrix, "fp32", "cpu")
    operand[0, 0] = 5
    assert w[0, 0] == 1


def test_values_that_the_type_cannot_hold_are_refused() -> None:
    with pytest.raises(UserError, match="exceeds the range of fp16"):
        convert.csr_operand(Matrix.from_dense("w", np.full((1, 1), 7e4, np.float32)), "fp16", "cpu")
    with pytest.raises(UserError, match="NaN or infinity"):
        convert.csr_operand(Matrix.from_dense("w", np.full((1, 1), np.nan, np.float32)), "fp32", "cpu")
    with pytest.raises(UserError, match="no kernel stores int8"):
        convert.torch_dtype("int8")
    with pytest.raises(UserError, match="at least one row"):
        convert.bsr_operand(Matrix.from_dense("w", np.eye(2, dtype=np.float32)), 0, 2, "fp32", "cpu")
    with pytest.raises(UserError, match="0 < n <= m"):
        convert.nm_operand(Matrix.from_dense("w", np.eye(2, dtype=np.float32)), 2, 300, "fp32", "cpu")


def test_rows_by_falling_length() -> None:
    indptr = torch.tensor([0, 2, 2, 7, 9], dtype=torch.int32)
    assert convert.by_falling_length(indptr).tolist() == [2, 0, 3, 1]


def test_wide_offsets_begin_before_int32_ends() -> None:
    def meta(rows: int, cols: int) -> torch.Tensor:
        return torch.empty((rows, cols), dtype=torch.float16, device="meta")

    assert not is_wide(meta(4096, 4096), meta(14336, 16384))
    assert is_wide(meta(65536, 32768))
    assert is_wide(meta(1, 1), meta(65535, 32768))  # one tile beyond the end would wrap around
