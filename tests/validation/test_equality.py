"""Levels of optimisation, and thresholds against brute force."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsity_roofline.validation.equality import (
    EQUALITY_COLUMNS,
    LEAST,
    add_levels,
    best,
    equality,
    fraction_threshold,
    level_of,
    parity_threshold,
)
from sparsity_roofline.validation.frame import normalise
from sparsity_roofline.validation.join import join

from ._records import frame, record, sweep

logs = st.lists(st.floats(-2.5, 2.5), min_size=0, max_size=60)


def mean_error(e: np.ndarray) -> float:
    return float(np.mean(np.abs(np.exp(-e) - 1)))


def test_level_is_what_the_record_says() -> None:
    assert level_of('{"tuned": false, "warps": 4}', '{"convert": 1}') == "untuned"
    assert level_of('{"tuned": true}', "") == "tuned"
    assert level_of('{"algorithm_id": 2}', '{"convert": 1, "search": 9}') == "tuned"
    assert level_of('{"BM": 64}', '{"convert": 1}') == "default"
    assert level_of("", "") == level_of("not json", "[1]") == "default"


@settings(max_examples=150, deadline=None)
@given(logs)
def test_parity_threshold_is_the_least_that_holds(values: list[float]) -> None:
    e = np.array(values)
    found = parity_threshold(e)
    candidates = []
    for reach in np.abs(e):
        kept = e[np.abs(e) <= reach + 1e-12]
        if len(kept) >= LEAST and mean_error(kept) <= 0.10:
            candidates.append(float(np.exp(-reach)))
    if candidates:
        assert found == pytest.approx(min(candidates), rel=1e-9)
    else:
        # Points at one distance on both sides of 1 stand together above, one by one in the function.
        assert np.isnan(found) or len(np.unique(np.abs(e))) < len(e)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.floats(-2, 2), st.floats(0.01, 1.2)), max_size=50, unique_by=lambda p: p[1]))
def test_fraction_threshold_holds_for_every_larger_one(points: list[tuple[float, float]]) -> None:
    e, f = (np.array([p[i] for p in points]) for i in (0, 1))
    found = fraction_threshold(e, f)
    holds = [t for t in f if (f >= t).sum() >= LEAST and mean_error(e[f >= t]) <= 0.10 + 1e-12]
    every = [t for t in f if (f >= t).sum() >= LEAST]
    good = [t for t in every if all(u in holds for u in every if u >= t)]
    assert (min(good) if good else None) == (None if np.isnan(found) else found)


def test_thresholds_without_points() -> None:
    assert np.isnan(parity_threshold(np.zeros(0)))
    assert np.isnan(fraction_threshold(np.zeros(0), np.zeros(0)))
    assert np.isnan(parity_threshold(np.zeros(LEAST - 1)))
    assert parity_threshold(np.zeros(LEAST)) == 1.0


def test_best_takes_the_fastest_kernel_of_a_case() -> None:
    shape = {"M": 4096, "K": 4096, "N": 4096}
    rows = frame(
        record("dense", **shape, time_us=1500.0),
        record("csr", **shape, density=0.1, kernel="csr.cusparse", time_us=900.0),
        record("csr", **shape, density=0.1, kernel="csr.triton", time_us=700.0),
        record("csr", **shape, density=0.5, kernel="csr.cusparse", time_us=2000.0),
    )
    chosen = best(join(rows))
    assert sorted(chosen["kernel"]) == ["csr.cusparse", "csr.triton"]
    assert sorted(chosen["time_sparse_ns"]) == [700e3, 2000e3]


def test_table_counts_by_level_and_names_the_best() -> None:
    records = sweep()
    records.loc[records["kernel"] == "bsr.torch", "kernel_config"] = '{"tuned": false}'
    rows = normalise(records)
    pairs = add_levels(join(records), rows)
    table = equality(pairs, ("device", "run_id", "format"), resamples=100)
    assert list(table.columns) == ["device", "run_id", "format", "level", *EQUALITY_COLUMNS]
    at = table.set_index(["format", "level"])
    kept = pairs[~pairs["below_floor"]]
    assert at.loc[("bsr", "untuned"), "pairs"] == (kept["kernel"] == "bsr.torch").sum()
    assert at.loc[("bsr", "best"), "pairs"] == kept.loc[kept["format"] == "bsr", "case"].nunique()
    error = (1 / kept.loc[kept["kernel"] == "bsr.torch", "parity"] - 1).abs()
    assert at.loc[("bsr", "untuned"), "mape"] == pytest.approx(error.mean())
    assert at.loc[("bsr", "untuned"), "within_25"] == pytest.approx((error <= 0.25).mean())


def test_an_exact_model_reaches_every_threshold() -> None:
    rows = []
    for M in (2048, 4096, 8192):
        for density in (0.5, 0.25, 0.125, 0.1):
            shape = {"M": M, "K": 4096, "N": 8192}
            for format, options in (("dense", {}), ("bsr", {"density": density})):
                sol = record(format, **shape, **options)["sol_paper_datasheet_ns"] / 1e3
                rows.append(record(format, **shape, **options, time_us=sol / 0.8))
    records = frame(*rows)
    row = equality(add_levels(join(records), normalise(records)), ("format",), resamples=50).iloc[0]
    assert row["parity"] == pytest.approx(1.0)
    assert row["within_10"] == 1.0
    assert row["parity_threshold"] == pytest.approx(1.0)
    assert row["fraction_threshold"] == pytest.approx(0.8)
    assert row["kept_by_parity"] == row["kept_by_fraction"] == row["pairs"] == 12


def test_no_pairs_no_rows() -> None:
    empty = join(frame(record("dense")))
    assert equality(empty.assign(optimisation=pd.Series(dtype=object))).empty
