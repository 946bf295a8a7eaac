from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsity_roofline.bench.matrices import prune, prune_global, synthetic
from sparsity_roofline.bench.matrices.prune import implied_nnz, magnitude_mask
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.pattern import Pattern

SPARSITIES = st.sampled_from([0.0, 0.1, 0.5, 0.75, 0.9, 0.98, 1.0])


@st.composite
def weights(draw: st.DrawFn) -> np.ndarray:
    """Odd shapes; few distinct magnitudes, so that ties occur."""
    shape = draw(st.integers(1, 13)), draw(st.integers(1, 19))
    values = draw(st.integers(1, 4))
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    return (random.integers(1, values + 1, shape) * random.choice([-1, 1], shape)).astype(np.float32)


def brute_force(scores: np.ndarray, keep: int) -> np.ndarray:
    """Keep the largest by sorting (score, index) pairs: the first of equals stays."""
    order = sorted(range(scores.size), key=lambda i: (-scores.flat[i], i))
    mask = np.zeros(scores.size, dtype=bool)
    mask[order[:keep]] = True
    return mask.reshape(scores.shape)


@given(weights(), SPARSITIES)
def test_unstructured_equals_sorting(weight: np.ndarray, sparsity: float) -> None:
    mask = magnitude_mask(weight, Pattern("unstructured"), sparsity)
    assert np.array_equal(mask, brute_force(np.abs(weight), round((1 - sparsity) * weight.size)))


@given(weights(), SPARSITIES, st.integers(1, 6), st.integers(1, 6), st.sampled_from(["l1", "l2"]))
def test_blocks_equal_sorting(weight: np.ndarray, sparsity: float, r: int, c: int, norm: str) -> None:
    rows, cols = math.ceil(weight.shape[0] / r), math.ceil(weight.shape[1] / c)
    scores = np.zeros((rows, cols))
    for i in range(rows):
        for j in range(cols):
            block = np.abs(weight[i * r : (i + 1) * r, j * c : (j + 1) * c].astype(float))
            scores[i, j] = (block if norm == "l1" else block**2).sum()
    kept = brute_force(scores, round((1 - sparsity) * scores.size))
    expected = np.zeros(weight.shape, dtype=bool)
    for i, j in zip(*np.nonzero(kept), strict=True):
        expected[i * r : (i + 1) * r, j * c : (j + 1) * c] = True
    matrix = prune(weight, Pattern("block", r=r, c=c), sparsity, norm=norm)
    assert np.array_equal(matrix.to_dense() != 0, expected)
    assert len(matrix.blocks(r, c)[0]) == kept.sum()
    if weight.shape[0] % r == 0 and weight.shape[1] % c == 0:
        assert matrix.nnz == implied_nnz(weight.shape, matrix.pattern, sparsity)


@given(weights(), st.sampled_from([(2, 4), (1, 2), (1, 4), (3, 8), (4, 4)]))
def test_nm_equals_sorting_each_group(weight: np.ndarray, nm: tuple[int, int]) -> None:
    n, m = nm
    expected = np.zeros(weight.shape, dtype=bool)
    for row in range(weight.shape[0]):
        for start in range(0, weight.shape[1], m):
            group = np.abs(weight[row, start : start + m])
            expected[row, start : start + m] = brute_force(group, min(n, group.size))
    matrix = prune(weight, f"{n}:{m}")
    assert np.array_equal(matrix.to_dense() != 0, expected)
    assert matrix.nnz == implied_nnz(weight.shape, matrix.pattern, None)
    assert matrix.target_sparsity == 1 - n / m


def test_nm_does_not_depend_on_how_many_rows_are_sorted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = np.random.default_rng(0).normal(size=(37, 18))
    whole = prune(weight, "2:4").digest
    for at_once in (1, 40, 100):
        monkeypatch.setattr(sys.modules[implied_nnz.__module__], "SORTED_AT_ONCE", at_once)
        assert prune(weight, "2:4").digest == whole


@given(weights(), SPARSITIES)
def test_one_layer_globally_is_that_layer_alone(weight: np.ndarray, sparsity: float) -> None:
    for pattern in ("unstructured", "block2x3"):
        both = prune_global({"a": weight}, pattern, sparsity)["a"], prune(weight, pattern, sparsity)
        assert both[0].digest == both[1].digest


def test_globally_the_weaker_layer_loses_more() -> None:
    random = np.random.default_rng(0)
    strong, weak = random.normal(0, 2, (40, 30)), random.normal(0, 1, (20, 50))
    for pattern in ("unstructured", "block5x5"):
        found = prune_global({"strong": strong, "weak": weak}, pattern, 0.8)
        assert found["strong"].sparsity < 0.8 < found["weak"].sparsity
        size = 1 if pattern == "unstructured" else 25
        assert found["strong"].nnz + found["weak"].nnz == round(0.2 * 2200 / size) * size
        kept = np.abs(np.concatenate([found["strong"].values, found["weak"].values]))
        if pattern == "unstructured":
            assert np.allclose(np.sort(kept), np.sort(np.abs(np.concatenate([strong.ravel(), weak.ravel()])))[-440:])
    halves = prune_global({"strong": strong, "weak": weak}, "1:2")
    assert [matrix.sparsity for matrix in halves.values()] == [0.5, 0.5]
    assert prune_global({}, "unstructured", 0.5) == {}


def test_a_zero_weight_that_is_kept_stays_stored() -> None:
    weight = np.zeros((4, 4), dtype=np.float32)
    weight[0, 0] = 1
    matrix = prune(weight, "unstructured", 0.5)
    assert matrix.nnz == 8
    assert np.count_nonzero(matrix.values) == 1
    assert prune(weight, "block2x2", 0.75).nnz == 4


def test_the_weight_before_pruning_is_kept_and_not_changed() -> None:
    weight = np.random.default_rng(0).normal(size=(6, 8))
    before = weight.copy()
    matrix = prune(weight, "unstructured", 0.5, name="n", layer="l")
    assert np.array_equal(weight, before)
    assert np.array_equal(matrix.dense_operand(), weight.astype(np.float32))
    assert (matrix.name, matrix.layer, matrix.target_sparsity, matrix.synthetic) == ("n", "l", 0.5, False)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0)])
@pytest.mark.parametrize("pattern", ["unstructured", "block2x2", "2:4", "dense"])
def test_empty_shapes(shape: tuple[int, int], pattern: str) -> None:
    matrix = prune(np.zeros(shape, dtype=np.float32), pattern, None if pattern == "2:4" else 0.5)
    assert (matrix.shape, matrix.nnz) == (shape, 0)
    assert implied_nnz(shape, matrix.pattern, 0.5) == 0


@pytest.mark.parametrize(
    ("pattern", "sparsity", "reason"),
    [
        ("unstructured", None, "needs a sparsity"),
        ("unstructured", 1.5, "between 0 and 1"),
        ("unstructured", -0.1, "between 0 and 1"),
        ("unstructured", float("nan"), "between 0 and 1"),
        ("2:4", 0.9, "0.5 sparse by its nature"),
        ("diagonal", 0.9, "unknown pattern"),
    ],
)
def test_refuses(pattern: str, sparsity: float | None, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        prune(np.ones((4, 4), dtype=np.float32), pattern, sparsity)


def test_refuses_weights_without_an_order() -> None:
    with pytest.raises(UserError, match="NaN"):
        prune(np.array([[1.0, np.nan]]), "unstructured", 0.5)
    with pytest.raises(UserError, match="shape \\(3,\\)"):
        prune(np.ones(3), "unstructured", 0.5)
    with pytest.raises(UserError, match="l1 or l2"):
        prune(np.ones((3, 3)), "block2x2", 0.5, norm="l3")


def test_synthetic_is_labelled_seeded_and_never_zero() -> None:
    matrix = synthetic((64, 96), "block16x16", 0.75, seed=1)
    assert matrix.synthetic
    assert len(matrix.blocks(16, 16)[0]) == 6
    assert matrix.nnz == 6 * 256
    assert np.count_nonzero(matrix.values.astype(np.float16)) == matrix.nnz
    assert synthetic((64, 96), "block16x16", 0.75, seed=1).digest == matrix.digest
    assert synthetic((64, 96), "block16x16", 0.75, seed=2).digest != matrix.digest
