"""The oracle against NumPy, and the check against outputs spoiled in every way it must catch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sparsity_roofline.kernels import reference
from sparsity_roofline.kernels.convert import torch_dtype
from sparsity_roofline.kernels.reference import check, oracle
from sparsity_roofline.kernels.tolerance import UNIT_ROUNDOFF, tolerance
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.matrix import Matrix

RNG = np.random.default_rng(5)
M, K, N = 48, 96, 40


def weight(density: float = 0.3) -> np.ndarray:
    return (RNG.standard_normal((M, K)) * (RNG.random((M, K)) < density)).astype(np.float32)


@pytest.mark.parametrize("dtype", list(UNIT_ROUNDOFF))
def test_oracle_multiplies_the_rounded_weight(dtype: str) -> None:
    w = weight()
    x = torch.from_numpy(RNG.standard_normal((K, N))).to(torch_dtype(dtype))
    result = oracle(Matrix.from_dense("w", w), x, dtype)
    assert result.dtype == torch.float64
    rounded = torch.from_numpy(w).to(torch_dtype(dtype)).double().numpy()
    np.testing.assert_allclose(result.numpy(), rounded @ x.double().numpy(), rtol=1e-13, atol=1e-13)


def test_oracle_works_in_column_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    w, x = weight(), torch.randn(K, N, dtype=torch.float64)
    monkeypatch.setattr(reference, "_CHUNK_ELEMENTS", 7 * K)
    np.testing.assert_allclose(
        oracle(Matrix.from_dense("w", w), x, "fp64").numpy(), w.astype(float) @ x.numpy(), atol=1e-12
    )


def test_oracle_of_a_dense_case_uses_the_unpruned_weight() -> None:
    unpruned = RNG.standard_normal((M, K)).astype(np.float32)
    pruned = unpruned * (RNG.random((M, K)) < 0.2)
    matrix, x = Matrix.from_dense("w", pruned, unpruned=unpruned), torch.randn(K, N)
    np.testing.assert_allclose(oracle(matrix, x, "fp32").numpy(), pruned.astype(float) @ x.double().numpy(), atol=1e-10)
    np.testing.assert_allclose(
        oracle(matrix, x, "fp32", format="dense").numpy(), unpruned.astype(float) @ x.double().numpy(), atol=1e-10
    )
    dense = Matrix.dense("d", unpruned)
    assert torch.equal(oracle(dense, x, "fp32"), oracle(matrix, x, "fp32", format="dense"))


def test_oracle_refuses_what_it_cannot_multiply() -> None:
    with pytest.raises(UserError, match=r"X must be \(96, N\)"):
        oracle(Matrix.from_dense("w", weight()), torch.zeros(K + 1, N), "fp32")
    with pytest.raises(UserError, match="exceeds the range of fp16"):
        oracle(Matrix.from_dense("w", np.full((2, 2), 1e6, np.float32)), torch.zeros(2, 1), "fp16")


def exact(dtype: str, K: int = K) -> tuple[torch.Tensor, torch.Tensor]:
    """A reference and the output of a kernel that rounds once."""
    expected = torch.from_numpy(RNG.standard_normal((256, 200)))
    return expected.to(torch_dtype(dtype)), expected


@pytest.mark.parametrize("dtype", list(UNIT_ROUNDOFF))
def test_one_rounding_passes_unflagged(dtype: str) -> None:
    y, expected = exact(dtype)
    result = check(y, expected, dtype, K)
    assert result.ok
    assert not result.flagged
    assert result.rms <= UNIT_ROUNDOFF[dtype]
    assert (result.tolerance_rms, result.tolerance_max) == (tolerance(dtype, K).rms, tolerance(dtype, K).max)


@pytest.mark.parametrize("dtype", ["fp32", "tf32", "fp16", "bf16"])
def test_spoiled_outputs_are_caught(dtype: str) -> None:
    y, expected = exact(dtype)
    assert "shape" in check(y[:, 1:], expected, dtype, K).reason
    assert "torch.float64" in check(y.double(), expected, dtype, K).reason
    for bad in (float("nan"), float("inf")):
        spoiled = y.clone()
        spoiled[3, 7] = bad
        assert "1 of 51200 elements" in check(spoiled, expected, dtype, K).reason
        assert "(3, 7)" in check(spoiled, expected, dtype, K).reason
    assert not check(y * 1.05, expected, dtype, K).ok
    assert not check(-y, expected, dtype, K).ok
    assert not check(torch.zeros_like(y), expected, dtype, K).ok
    missing = y.clone()
    missing[17] = 0
    assert not check(missing, expected, dtype, K).ok


@pytest.mark.parametrize("dtype", ["fp32", "tf32", "fp16"])
def test_one_wrong_element_of_many_is_caught_by_the_largest_error(dtype: str) -> None:
    expected = torch.from_numpy(RNG.standard_normal((2048, 1024)))
    y = expected.to(torch_dtype(dtype))
    y[1234, 567] += 1.0
    result = check(y, expected, dtype, 4096)
    assert not result.ok
    if dtype != "fp32":
        assert result.rms < result.tolerance_rms
        assert "(1234, 567)" in result.reason


def test_tf32_does_not_pass_for_fp32() -> None:
    w, x = RNG.standard_normal((64, 512)).astype(np.float32), RNG.standard_normal((512, 64)).astype(np.float32)
    cut = [(a.view(np.int32) & ~0x1FFF).view(np.float32).astype(float) for a in (w, x)]  # 10 fraction bits, truncated
    y, expected = torch.from_numpy((cut[0] @ cut[1]).astype(np.float32)), torch.from_numpy(w.astype(float) @ x)
    assert not check(y, expected, "fp32", 512).ok
    assert check(y, expected, "tf32", 512).ok


def test_sums_rounded_to_fp16_pass_but_are_flagged() -> None:
    w, x = RNG.standard_normal((64, 200)).astype(np.float16), RNG.standard_normal((200, 64)).astype(np.float16)
    y = np.zeros((64, 64), np.float16)
    for start in range(0, 200, 25):
        partial = w[:, start : start + 25].astype(np.float32) @ x[start : start + 25].astype(np.float32)
        y = (y + partial.astype(np.float16)).astype(np.float16)
    result = check(torch.from_numpy(y), torch.from_numpy(w.astype(float) @ x.astype(float)), "fp16", 200)
    assert result.ok, result.reason
    assert result.flagged


def test_a_product_of_nothing_must_be_zero() -> None:
    zero = torch.zeros(5, 4, dtype=torch.float64)
    assert check(zero.half(), zero, "fp16", 8) == reference.CheckResult(
        True, "", 0.0, 0.0, tolerance("fp16", 8).rms, tolerance("fp16", 8).max
    )
    spoiled = zero.half()
    spoiled[2, 1] = 6e-8
    result = check(spoiled, zero, "fp16", 8)
    assert not result.ok
    assert "(2, 1)" in result.reason
    assert check(torch.empty(0, 4), torch.empty(0, 4, dtype=torch.float64), "fp32", 8).ok


def test_one_long_row_is_judged_by_its_own_size() -> None:
    expected = torch.from_numpy(RNG.standard_normal((4096, 64)))
    expected[7] *= 2000
    y = expected.half()
    assert check(y, expected, "fp16", 4096).ok
    y[8] *= 1.2  # a short row is still judged by the whole
    assert check(y, expected, "fp16", 4096).max < check(y, expected / 2000, "fp16", 4096).max


def test_tolerance_grows_with_the_sum_and_refuses_unknown_types() -> None:
    assert tolerance("fp32", 4096).rms > tolerance("fp32", 64).rms
    assert 5e-7 < tolerance("fp32", 1000).rms < 4e-6
    assert tolerance("fp16", 4096).rms == pytest.approx(2e-3, rel=0.03)
    assert tolerance("fp16", 4096).flag == pytest.approx(5e-4, rel=0.03)
    assert tolerance("tf32", 4096).rms == pytest.approx(2e-3, rel=0.03)
    with pytest.raises(UserError, match="no tolerance for dtype int8"):
        tolerance("int8", 4)
    with pytest.raises(UserError, match="unknown dtype"):
        tolerance("fp61", 4)
