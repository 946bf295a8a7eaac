"""Every clause of the stopping rule, and batches that never break a cap."""

from __future__ import annotations

import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsity_roofline.bench.timing.protocol import Stopping
from sparsity_roofline.bench.timing.stopping import SETTLED_FROM, SETTLED_OVER, half_width, next_batch, settled, stop

RULE = Stopping(half_width=0.005, half_width_ns=64.0, minimum=20, maximum=200, seconds=2.0)


def alternating(n: int, step: float = 2000.0) -> list[float]:
    return [10_000.0 + step * (i % 2) for i in range(n)]


def test_precise_by_the_relative_width() -> None:
    assert stop([100_000.0 + i for i in range(20)], 0.1, RULE) == "precise"


def test_precise_by_the_absolute_width() -> None:
    # +-1 % of a 3 us kernel is below the device clock's grid: no narrower claim can be made.
    assert stop([3000.0 + 32 * (i % 3) for i in range(20)], 0.1, RULE) == "precise"


def drifting(n: int) -> list[float]:
    """20 % slower by the 200th sample, as while a GPU warms up: its noise grows with every sample."""
    return [10_000.0 * (1 + 0.2 * i / 200) + 40 * (i % 2) for i in range(n)]


def test_noise_goes_on_until_a_cap() -> None:
    assert stop(alternating(20), 0.1, RULE) is None
    assert stop(drifting(199), 0.1, RULE) is None
    assert stop(drifting(200), 0.1, RULE) == "samples"
    assert stop(alternating(40), 2.0, RULE) == "time"


def test_noise_that_stays_the_same_settles() -> None:
    """A kernel with two speeds: its median's interval never gets narrower than the gap, however long one samples."""
    assert stop(alternating(73), 0.1, RULE) is None
    assert stop(alternating(100), 0.1, RULE) == "settled"


def test_settled_against_the_definition() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        values = (1e4 + rng.exponential(800, size=int(rng.integers(74, 200)))).tolist()
        counts = range(len(values) - SETTLED_OVER + 1, len(values) + 1)
        noise = [statistics.stdev(values[:n]) / statistics.fmean(values[:n]) for n in counts]
        assert settled(values) == (statistics.pstdev(noise) <= 0.05 * statistics.fmean(noise))


def test_too_few_samples_or_a_late_outlier_do_not_settle() -> None:
    steady = [10_000.0 + 100 * ((7 * i) % 5) for i in range(120)]
    assert settled(steady)
    assert not settled(steady[: SETTLED_FROM + SETTLED_OVER - 1])
    assert not settled([*steady[:100], 60_000.0, *steady[100:]])


def test_precision_is_named_before_anything_else() -> None:
    assert stop([10_000.0] * 200, 9.0, RULE) == "precise"


def test_the_minimum_is_taken_however_long_it_lasts() -> None:
    assert stop([1.0] * 19, 1e6, RULE) is None
    assert stop([], 1e6, RULE) is None


def test_half_width_of_too_few_is_unknown() -> None:
    assert half_width([1.0] * 5) == float("inf")
    assert half_width([1.0] * 6) == 0.0


def test_five_samples_are_never_precise() -> None:
    few = Stopping(minimum=5, maximum=5)
    assert stop([1.0] * 5, 0.0, few) == "samples"


@given(st.integers(0, 199), st.floats(0.0, 3.0), st.floats(0.0, 1e6))
def test_batches_keep_within_the_caps(n: int, elapsed: float, step: float) -> None:
    batch = next_batch(alternating(n, step), elapsed, RULE)
    assert batch >= 1
    assert n + batch <= RULE.maximum
    if n < RULE.minimum:
        assert n + batch == RULE.minimum


def test_the_likely_rest_is_asked_for_at_once() -> None:
    noisy = alternating(20, 220.0)  # half-width 110 against 64
    assert 25 < 20 + next_batch(noisy, 0.02, RULE) <= 100


@pytest.mark.parametrize("elapsed", [1.0, 1.9])
def test_a_batch_fits_into_the_time_left(elapsed: float) -> None:
    left = (RULE.seconds - elapsed) / (elapsed / 20)
    assert next_batch(alternating(20, 1e6), elapsed, RULE) <= max(1, left)
