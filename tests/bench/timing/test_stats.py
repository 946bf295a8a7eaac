"""The median's interval against scipy's binomial distribution, published ranks and simulated coverage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from sparsity_roofline.bench.timing.stats import interval_rank, median_interval

samples = st.lists(st.floats(1.0, 1e9), min_size=1, max_size=60)


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("n", [1, 2, 5, 6, 7, 8, 20, 21, 100, 499, 500])
def test_rank_is_the_largest_that_covers(n: int, confidence: float) -> None:
    def coverage(k: int) -> float:
        return float(binom.cdf(n - k, n, 0.5) - binom.cdf(k - 1, n, 0.5))

    rank = interval_rank(n, confidence)
    covering = [k for k in range(1, n // 2 + 1) if coverage(k) >= confidence - 1e-12]
    assert rank == max(covering, default=0)


@pytest.mark.parametrize(("n", "rank"), [(5, 0), (6, 1), (8, 1), (9, 2), (20, 6), (25, 8), (100, 40)])
def test_ranks_of_the_usual_tables(n: int, rank: int) -> None:
    assert interval_rank(n) == rank


def test_interval_covers_the_median_of_a_skewed_distribution() -> None:
    draws = np.random.default_rng(1).exponential(size=(2000, 20))
    inside = [low <= np.log(2) <= high for low, _, high in map(median_interval, draws)]
    assert 0.94 < np.mean(inside) < 0.98  # nominal 95 %, exactly 95.86 % by the discrete ranks


def test_too_few_samples_give_their_range() -> None:
    assert median_interval([3.0, 1.0, 2.0]) == (1.0, 2.0, 3.0)
    assert median_interval([7.0]) == (7.0, 7.0, 7.0)


@given(samples, st.randoms())
def test_interval_holds_the_median_and_ignores_order(values: list[float], random: object) -> None:
    low, median, high = median_interval(values)
    assert min(values) <= low <= median <= high <= max(values)
    random.shuffle(values)  # type: ignore[attr-defined]
    assert median_interval(values) == (low, median, high)


@given(samples)
def test_more_confidence_is_never_narrower(values: list[float]) -> None:
    narrow, wide = median_interval(values, 0.5), median_interval(values, 0.99)
    assert wide[0] <= narrow[0]
    assert narrow[2] <= wide[2]


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [float("inf")]])
def test_impossible_samples_are_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        median_interval(values)
