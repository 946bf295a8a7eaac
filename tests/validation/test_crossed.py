"""Crossed strata: the figures of a cell by hand."""

from __future__ import annotations

import numpy as np
import pytest

from sparsity_roofline.validation.join import join
from sparsity_roofline.validation.summary import CELL, CROSSED_COLUMNS, GROUP, add_strata, crossed

from ._records import frame, record, sweep


def test_every_pair_is_in_one_cell() -> None:
    pairs = join(sweep())
    for by in (GROUP, CELL):
        table = crossed(pairs, by, resamples=20)
        assert list(table.columns) == [*by, *CROSSED_COLUMNS]
        assert table["pairs"].sum() + table["below_floor"].sum() == len(pairs)
        assert not table.duplicated(list(by)).any()


def test_figures_of_a_cell() -> None:
    pairs = join(sweep())
    row = crossed(pairs, GROUP, resamples=50).set_index(["kernel", "block"]).loc[("bsr.triton", "32x32")]
    mine = pairs[(pairs["kernel"] == "bsr.triton") & ~pairs["below_floor"]]
    error = np.abs(mine["predicted_speedup"] / mine["measured_speedup"] - 1)
    assert row["pairs"] == len(mine)
    assert row["predicted_speedup"] == pytest.approx(np.exp(np.log(mine["predicted_speedup"]).mean()))
    assert row["mape"] == pytest.approx(error.mean())
    assert row["mape_low"] <= row["mape"] <= row["mape_high"]
    assert row["faster_both"] == ((mine["predicted_speedup"] > 1) & (mine["measured_speedup"] > 1)).sum()
    clear = mine[(mine["measured_speedup"] < 0.95) | (mine["measured_speedup"] > 1.05)]
    told = ((clear["predicted_speedup"] > 1) == (clear["measured_speedup"] > 1)).mean()
    assert row["plain_right"] == pytest.approx(told)
    assert np.isnan(row["refined_mape"])


def test_break_even_is_the_median_over_layers() -> None:
    rows = []
    for M, crossing in ((4096, 0.6), (8192, 0.8)):
        rows.append(record("dense", M=M, K=4096, N=4096, time_us=1000.0))
        for s in (0.5, 0.7, 0.9):
            time = 1000.0 * np.exp(crossing - s)  # ln(speedup) = s - crossing
            rows.append(record("csr", M=M, K=4096, N=4096, density=1 - s, time_us=float(time)))
    row = crossed(join(frame(*rows)), ("kernel",), resamples=20).iloc[0]
    assert row["break_even_layers"] == 2
    assert row["break_even_measured"] == pytest.approx(0.7)


def test_level_is_what_was_asked_for() -> None:
    pairs = join(frame(record("dense"), record("csr", density=0.1), record("csr", density=0.25, target_sparsity=None)))
    assert sorted(add_strata(pairs)["level"]) == [0.75, 0.9]
