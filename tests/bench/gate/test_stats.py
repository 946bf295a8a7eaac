"""Verdicts on simulated processes: false alarms, power, coverage, short cells; p-values against scipy's raw test."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sparsity_roofline.bench.compare import compare_sides
from sparsity_roofline.bench.compare_stats import INCONCLUSIVE, REGRESSED, SAME, Rule, Sides, corrected, judge
from sparsity_roofline.model.errors import UserError

from ._runs import both, side


def sides_of(base: np.ndarray, head: np.ndarray, floor: float = 0.0) -> Sides:
    """Rows are cells, columns processes, values log times."""
    cells = len(base)
    return Sides(
        base.mean(1), head.mean(1), base.var(1, ddof=1), head.var(1, ddof=1), np.full(cells, base.shape[1]),
        np.full(cells, head.shape[1]), np.full(cells, floor), np.zeros(cells),
    )  # fmt: skip


def test_p_values_are_those_of_students_test_on_the_raw_values() -> None:
    rng = np.random.default_rng(1)
    base, head = rng.normal(0, 0.01, (50, 4)), rng.normal(0.02, 0.01, (50, 6))
    margin = np.full(50, 0.015)
    found = sides_of(base, head).beyond(margin, "greater")
    asked = stats.ttest_ind(head - 0.015, base, axis=1, alternative="greater").pvalue
    np.testing.assert_allclose(found, asked, rtol=1e-9)
    low, high = sides_of(base, head).interval(0.95)
    raw = stats.ttest_ind(head, base, axis=1).confidence_interval(0.95)
    np.testing.assert_allclose([low, high], [raw.low, raw.high], rtol=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(1e-12, 1.0), min_size=1, max_size=40))
def test_correction_never_lowers_a_p_value_and_keeps_the_order(p: list[float]) -> None:
    values = np.array(p)
    adjusted = corrected(values)
    assert (adjusted >= values - 1e-15).all()
    order = np.argsort(values)
    assert (np.diff(adjusted[order]) >= -1e-12).all()


@settings(max_examples=60, deadline=None)
@given(ratio=st.floats(-0.5, 0.5), spread=st.floats(1e-4, 0.2), n=st.integers(2, 12), margin=st.floats(0.005, 0.1))
def test_a_verdict_is_the_interval_s(ratio: float, spread: float, n: int, margin: float) -> None:
    one = np.array([0.0])
    var = np.array([spread**2])
    sides = Sides(one, one + ratio, var, var, np.array([n]), np.array([n]), np.zeros(1), np.zeros(1))
    verdict = judge(sides, np.array([margin]), 0.05)[0]
    low, high = (float(v[0]) for v in sides.interval(0.95))
    wanted = (
        REGRESSED if low > margin else "IMPROVED" if high < -margin else SAME if -margin < low and high < margin else ""
    )
    assert verdict == (wanted or INCONCLUSIVE)


def test_the_same_code_twice_is_never_regressed() -> None:
    verdicts = {"REGRESSED": 0, "IMPROVED": 0, "SAME": 0, "INCONCLUSIVE": 0}
    for seed in range(12):
        found = compare_sides(side(seed=2 * seed), side("head", seed=2 * seed + 1))
        for name, count in found.counts.items():
            verdicts[name] += count
    assert verdicts["REGRESSED"] == verdicts["IMPROVED"] == 0
    assert verdicts["SAME"] > 0.95 * 12 * 200


def test_at_the_edge_of_the_threshold_the_error_rate_is_kept() -> None:
    # Every cell is slower by exactly the threshold: each REGRESSED is an error, and so is each SAME.
    wrong = total = 0
    for seed in range(10):
        slow = side("head", seed=2 * seed + 1, slower=0.02, spread=0.01)
        found = compare_sides(side(seed=2 * seed, spread=0.01), slow)
        wrong += found.counts["REGRESSED"] + found.counts["SAME"]
        total += len(found.cells)
    assert wrong / total < 0.035  # 2.5 % of them SAME, fewer REGRESSED


def test_processes_that_fall_into_two_modes_raise_no_alarm_that_a_second_look_confirms() -> None:
    rule = Rule(looks=2)
    jumps = np.where(np.arange(200) % 5 == 0, 0.04, 0.0)  # 4 % up in half of the processes of every fifth cell
    first_look = confirmed = 0
    for seed in range(10):
        looks = [
            (side(seed=100 * seed + k, processes=3, jumps=jumps, first=3 * k),
             side("head", seed=100 * seed + 50 + k, processes=3, jumps=jumps, first=3 * k))
            for k in range(2)
        ]  # fmt: skip
        first = compare_sides(*looks[0], rule)
        second = compare_sides(both(*(b for b, _ in looks)), both(*(h for _, h in looks)), rule)
        first_look += first.counts["REGRESSED"]
        confirmed += second.counts["REGRESSED"]
    assert confirmed == 0
    assert first_look < 10


@pytest.mark.parametrize(("percent", "least"), [(3, 0.5), (5, 0.95), (10, 1.0)])
def test_planted_slowdowns_are_found(percent: int, least: float) -> None:
    slower = np.where(np.arange(200) < 50, percent / 100, 0.0)
    rule = Rule(looks=2)
    found = compare_sides(side(seed=5, processes=6), side("head", seed=6, processes=6, slower=slower), rule).cells
    planted = found["matrix"].str.removeprefix("net/m").astype(int) < 50
    assert (found.loc[planted, "verdict"] == REGRESSED).mean() >= least
    assert not (found.loc[~planted, "verdict"] == REGRESSED).any()


def test_intervals_hold_the_truth_as_often_as_they_say_although_samples_agree_inside_processes() -> None:
    # Samples inside a process are 40 times more precise than processes are alike.
    found = compare_sides(
        side(seed=7, cells=2000, processes=4, spread=0.008, inside=0.0002),
        side("head", seed=8, cells=2000, processes=4, spread=0.008, inside=0.0002, slower=0.03),
    ).cells
    covered = ((found["low"] < 0.03) & (found["high"] > 0.03)).mean()
    assert 0.93 < covered < 0.97


def test_spread_is_learnt_from_all_cells_and_from_none_where_they_are_few() -> None:
    # Variances of cells are 0.005^2 over a chi-square with 6 degrees of freedom: what the fit must find.
    rng = np.random.default_rng(3)
    sigma = 0.005 * np.sqrt(6 / rng.chisquare(6, 3000))
    base, head = (rng.normal(0, sigma[:, None], (3000, 3)) for _ in range(2))
    d0, s0 = sides_of(base, head).with_prior().prior
    assert d0 == pytest.approx(6, rel=0.25)
    assert np.sqrt(s0) == pytest.approx(0.005, rel=0.1)
    few = sides_of(base[:10], head[:10])
    assert few.with_prior() is few


@pytest.mark.parametrize("d0", [2.0, 6.0, 50.0])
@pytest.mark.parametrize("processes", [2, 3, 5])
def test_moderated_intervals_hold_the_truth_as_often_as_they_say(d0: float, processes: int) -> None:
    rng = np.random.default_rng(int(d0) + processes)
    sigma = 0.005 * np.sqrt(d0 / rng.chisquare(d0, 4000))
    base, head = (rng.normal(0, sigma[:, None], (4000, processes)) for _ in range(2))
    plain = sides_of(base, head)
    low, high = plain.with_prior().interval(0.95)
    assert 0.935 < ((low < 0) & (high > 0)).mean() < 0.97
    student = np.subtract(*plain.interval(0.95)[::-1])
    assert np.median(high - low) < np.median(student)


def test_an_interval_is_never_narrower_than_samples_and_the_clock_s_grid_allow() -> None:
    still = side(seed=1, processes=3, spread=0.0, inside=0.0, time_ns=3200.0, cells=5)
    found = compare_sides(still, side("head", seed=2, processes=3, spread=0.0, inside=0.0, time_ns=3200.0, cells=5))
    width = (found.cells["high"] - found.cells["low"]).to_numpy()
    assert (width > 32 / 3200 / np.sqrt(12)).all()


def test_two_steps_of_the_clock_are_no_change_of_a_short_kernel() -> None:
    kwargs = {"processes": 8, "spread": 0.001, "cells": 50}
    found = compare_sides(side(seed=1, time_ns=3200.0, **kwargs), side("head", seed=2, time_ns=3200.0 + 50.0, **kwargs))
    assert found.counts["REGRESSED"] == 0
    assert found.cells["threshold"].to_numpy() == pytest.approx(0.02, rel=0.01)
    shorter = compare_sides(side(seed=1, time_ns=1600.0, **kwargs), side("head", seed=2, time_ns=1655.0, **kwargs))
    assert shorter.counts["REGRESSED"] == 0
    assert shorter.cells["threshold"].to_numpy() == pytest.approx(0.04, rel=0.01)


def test_rules_that_make_no_sense_are_refused() -> None:
    for wrong in ({"threshold": 0.0}, {"confidence": 1.0}, {"looks": 0}, {"threshold_ns": -1.0}):
        with pytest.raises(UserError):
            Rule(**wrong)
