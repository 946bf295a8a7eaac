"""Error statistics against hand-worked figures and independent oracles."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sparsity_roofline.validation import errors
from sparsity_roofline.validation.decisions import break_even, confusion, ranks
from sparsity_roofline.validation.join import join

from ._records import frame, record, sweep

LOGS = st.lists(st.floats(-5, 5), min_size=1, max_size=40)


def test_hand_worked_agreement() -> None:
    # measured / predicted = 1/2, 1, 2, 4: ln = ln2 * (-1, 0, 1, 2), mean ln2 / 2, sd ln2 * sqrt(5/3).
    e = np.log([0.5, 1.0, 2.0, 4.0])
    assert errors.bias(e) == pytest.approx(math.sqrt(2))
    half = 1.96 * math.log(2) * math.sqrt(5 / 3)
    assert errors.limits_of_agreement(e) == pytest.approx(
        (math.sqrt(2) * math.exp(-half), math.sqrt(2) * math.exp(half))
    )
    # |predicted - measured| / measured: 1, 0, 1/2, 3/4.
    assert errors.absolute_percentage_errors(e) == pytest.approx([1.0, 0.0, 0.5, 0.75])
    summary = errors.agreement(e)
    assert (summary.mape, summary.median_ape) == pytest.approx((0.5625, 0.625))
    assert (summary.n, summary.clusters) == (4, 4)


@given(LOGS)
def test_bias_is_scipys_geometric_mean(e: list[float]) -> None:
    assert errors.bias(e) == pytest.approx(float(stats.gmean(np.exp(e))))


def test_too_few_points_have_no_spread() -> None:
    none, one, two = (errors.agreement([0.1] * n) for n in (0, 1, 2))
    assert none.n == 0
    assert math.isnan(none.bias)
    assert one.bias == pytest.approx(math.exp(0.1))
    assert math.isnan(one.bias_low)
    assert math.isnan(one.loa_low)
    assert math.isnan(two.loa_low)


def test_bootstrap_repeats_by_seed_and_moves_with_it() -> None:
    x, c = np.random.default_rng(1).normal(size=60), np.repeat(np.arange(12), 5)
    first, again, other = (errors.cluster_bootstrap(x, c, seed=s) for s in (0, 0, 1))
    assert first == again
    assert first != other


def test_bootstrap_of_the_mean_equals_the_general_path() -> None:
    x, c = np.random.default_rng(2).normal(size=40), np.random.default_rng(3).integers(0, 9, 40)
    fast = errors.cluster_bootstrap(x, c, resamples=300)
    slow = errors.cluster_bootstrap(x, c, resamples=300, statistic=lambda v: float(v.mean()))
    assert fast == pytest.approx(slow)


def test_bootstrap_of_single_points_matches_the_normal_interval() -> None:
    x = np.random.default_rng(4).normal(3.0, 2.0, size=400)
    low, high = errors.cluster_bootstrap(x, range(400), resamples=4000)
    half = 1.96 * x.std(ddof=1) / math.sqrt(400)
    assert (low, high) == pytest.approx((x.mean() - half, x.mean() + half), abs=0.1 * half)


def test_points_of_one_cluster_are_not_independent_evidence() -> None:
    levels = np.random.default_rng(5).normal(size=10)
    copies = np.repeat(levels, 50)
    narrow = errors.cluster_bootstrap(copies, range(500))
    honest = errors.cluster_bootstrap(copies, np.repeat(np.arange(10), 50))
    assert np.ptp(honest) > 4 * np.ptp(narrow)


def test_bootstrap_covers_the_truth_about_as_often_as_it_says() -> None:
    rng, hits = np.random.default_rng(6), 0
    for _ in range(200):
        level = rng.normal(0.0, 1.0, 20)
        x = np.repeat(level, 4) + rng.normal(0.0, 0.3, 80)
        low, high = errors.cluster_bootstrap(x, np.repeat(np.arange(20), 4), resamples=400)
        hits += low <= 0.0 <= high
    assert 0.86 <= hits / 200 <= 0.99


def test_one_cluster_has_no_interval() -> None:
    assert all(math.isnan(v) for v in errors.cluster_bootstrap([1.0, 2.0], ["a", "a"]))
    assert all(math.isnan(v) for v in errors.cluster_bootstrap([], []))


def test_three_errors_are_apart_and_a_shared_dense_record_counts_once() -> None:
    shape = {"M": 4096, "K": 4096, "N": 4096}
    (dense_sol,) = (record("dense", **shape)["sol_paper_datasheet_ns"] / 1e3,)
    rows = [record("dense", **shape, time_us=dense_sol / 0.8)]
    for density in (0.5, 0.25, 0.125):
        sol = record("bsr", **shape, density=density)["sol_paper_datasheet_ns"] / 1e3
        rows.append(record("bsr", **shape, density=density, time_us=sol / 0.4))
    three = errors.three_errors(join(frame(*rows)))
    assert {k: v.n for k, v in three.items()} == {"dense": 1, "sparse": 3, "ratio": 3}
    assert three["dense"].bias == pytest.approx(1 / 0.8)
    assert three["sparse"].bias == pytest.approx(1 / 0.4)
    assert three["ratio"].bias == pytest.approx(0.5)
    assert three["sparse"].mape == pytest.approx(0.6)
    assert three["ratio"].mape == pytest.approx(1.0)


def layer(kernel: str, times: dict[float, float], **case: object) -> list[dict[str, object]]:
    return [record("csr", density=1 - s, time_us=us, kernel=kernel, **case) for s, us in times.items()]  # type: ignore[arg-type]


def test_ranks_within_a_layer() -> None:
    # Predictions rise with sparsity. "up" follows, "down" reverses, "swap" swaps one neighbour pair of four.
    s = (0.5, 0.75, 0.9, 0.95)
    rows = [record("dense", time_us=100.0)]
    rows += layer("csr.up", dict(zip(s, (90, 80, 70, 60), strict=True)))
    rows += layer("csr.down", dict(zip(s, (60, 70, 80, 90), strict=True)))
    rows += layer("csr.swap", dict(zip(s, (90, 70, 80, 60), strict=True)))
    found = {name: ranks(group) for name, group in join(frame(*rows)).groupby("kernel")}
    assert (found["csr.up"].spearman, found["csr.up"].kendall) == pytest.approx((1, 1))
    assert (found["csr.down"].spearman, found["csr.down"].kendall) == pytest.approx((-1, -1))
    assert (found["csr.swap"].spearman, found["csr.swap"].kendall) == pytest.approx((0.8, 4 / 6))
    every = ranks(join(frame(*rows)))
    assert (every.strata, every.spearman, every.spearman_median) == pytest.approx((3, 0.8 / 3, 0.8))


def test_constant_predictions_and_short_strata_have_no_rank() -> None:
    shape = {"M": 4096, "K": 4096, "N": 16384}
    rows = [record("dense", **shape, time_us=9000.0)]
    rows += [record("nm", **shape, time_us=5000.0 + i, matrix=f"seed{i}") for i in range(4)]
    rows += layer("csr.short", {0.5: 9000.0, 0.9: 5000.0}, **shape)
    found = ranks(join(frame(*rows)))
    assert (found.strata, found.skipped_constant, found.skipped_small) == (0, 1, 1)
    assert math.isnan(found.spearman)


def test_confusion_by_hand() -> None:
    # nm predicts 2 always; csr at density 1 predicts below 1 (indices on top of dense bytes) when memory-bound.
    small, big = {"M": 4096, "K": 4096, "N": 16}, {"M": 4096, "K": 4096, "N": 16384}
    rows = [record("dense", **small, time_us=100.0), record("dense", **big, time_us=9000.0)]
    rows += [record("nm", **big, time_us=us, matrix=f"a{us}") for us in (4000.0, 5000.0, 6000.0, 9500.0)]
    rows += [record("csr", **small, density=1.0, time_us=us, matrix=f"b{us}") for us in (80.0, 300.0)]
    found = confusion(join(frame(*rows)))
    assert (found.both, found.only_predicted, found.only_measured, found.neither) == (3, 1, 1, 1)
    assert found.mcc == pytest.approx((3 * 1 - 1 * 1) / math.sqrt(4 * 4 * 2 * 2))
    assert found.accuracy == pytest.approx(4 / 6)
    assert found.unclear == 0


def test_mcc_is_undefined_when_the_prediction_never_varies() -> None:
    found = confusion(join(frame(record("dense", time_us=100.0), record("csr", time_us=99.9))))
    assert math.isnan(found.mcc)
    assert found.unclear == 1


def test_break_even_by_hand() -> None:
    # Measured speedup 0.5 at 0.5, 1 between, 2 at 0.9: ln crosses 0 half way, at 0.7. Predicted is above 1 throughout.
    rows = [record("dense", time_us=100.0), *layer("csr.k", {0.5: 200.0, 0.9: 50.0})]
    found = break_even(join(frame(*rows)))
    assert len(found) == 1
    assert found["measured"].iloc[0] == pytest.approx(0.7)
    assert math.isnan(found["predicted"].iloc[0])
    assert math.isnan(found["error"].iloc[0])


def test_break_even_of_a_model_and_its_copy_is_the_same() -> None:
    # Time every record at twice its own speed of light under the unit preset: prediction and measurement coincide.
    shape = {"M": 4096, "K": 4096, "N": 4096}
    cases = [{"format": "dense"}, *({"format": "csr", "density": d} for d in (0.5, 0.2, 0.08, 0.02))]
    rows = [record(**c, **shape, time_us=record(**c, **shape)["sol_unit_datasheet_ns"] / 500) for c in cases]  # type: ignore[arg-type]
    found = break_even(join(frame(*rows), preset="unit"))
    assert found["error"].iloc[0] == pytest.approx(0, abs=1e-12)
    # CUDA cores are ten times slower than tensor cores: sparse pays above 90 %. Interpolation is coarse.
    assert found["predicted"].iloc[0] == pytest.approx(0.9, abs=0.02)


def test_violations_are_the_flagged_pairs() -> None:
    pairs = join(sweep())
    assert errors.violations(pairs).empty
    assert len(errors.violations(pairs.assign(violation=[True] + [False] * (len(pairs) - 1)))) == 1
