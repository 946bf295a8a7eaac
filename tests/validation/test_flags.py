"""Beaten bounds, fractions above one with their causes, and the launch floor."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from sparsity_roofline.validation.join import join

from ._records import frame, record


def one(*, dense: dict[str, Any] | None = None, **sparse: Any) -> pd.Series[Any]:
    """The only pair of a dense record and a sparse one of the same shape."""
    shape = {k: sparse[k] for k in ("M", "K", "N", "dtype", "regime_l2") if k in sparse}
    return join(frame(record("dense", **{"time_us": 1e5, **shape, **(dense or {})}), record(**sparse))).iloc[0]


def slower(factor: float, preset: str, **case: Any) -> float:
    """A time in us that is ``factor`` times the speed of light of ``case`` under ``preset``."""
    return float(record(**case, time_us=1.0)[f"sol_{preset}_datasheet_ns"]) / 1e3 * factor


BIG = {"format": "csr", "M": 512, "K": 8192, "N": 65536, "density": 0.002, "used_columns": 2048}
SMALL_OUTPUT = {"format": "bsr", "M": 512, "K": 128, "N": 32768, "density": 0.1}


def test_nothing_to_flag() -> None:
    row = one(**BIG, time_us=slower(2.0, "paper", **BIG))
    assert not row["violation"]
    assert not row["above_one"]
    assert not row["below_floor"]
    assert row["above_one_cause"] == ""


def test_unused_rows_of_x_are_an_honest_cause() -> None:
    # X is 1 GiB and a quarter of it is used; Y is 64 MiB, of which 17 MB exceed L2.
    row = one(**BIG, time_us=slower(0.5, "paper", **BIG))
    assert row["above_one"]
    assert not row["violation"]
    assert row["above_one_cause"].startswith("sparse: unused X rows are charged (6144 of 8192)")
    assert "bound" not in row["above_one_cause"]


def test_output_in_l2_is_an_honest_cause() -> None:
    row = one(**SMALL_OUTPUT, time_us=slower(0.5, "paper", **SMALL_OUTPUT))
    assert row["above_one"]
    assert not row["violation"]
    assert row["above_one_cause"] == "sparse: output stays in L2 but is charged"


def test_a_faster_unit_than_the_charged_one_is_named() -> None:
    # fp32 charged at 10 TFLOP/s on CUDA cores, run on tensor cores (as tf32): 10 times that.
    case = {"format": "bsr", "M": 4096, "K": 4096, "N": 4096, "dtype": "fp32", "density": 0.5, "unit": "tensor"}
    row = one(**case, time_us=slower(0.5, "paper", **case), dense={"unit": "cuda", "time_us": 1e6})
    assert row["above_one"]
    assert not row["violation"]
    assert row["above_one_cause"] == (
        "sparse: unit mismatch: runs on tensor cores, the paper peak is that of cuda cores"
    )


def test_beating_the_bound_is_a_violation() -> None:
    row = one(**BIG, time_us=slower(0.9, "bound", **BIG))
    assert row["violation"]
    assert "beats the pattern-aware bound" in row["above_one_cause"]


def test_a_dense_side_that_beats_its_bound_is_one_too() -> None:
    shape = {"M": 4096, "K": 4096, "N": 4096}
    too_fast = slower(0.8, "bound", format="dense", **shape)
    row = one(**shape, format="csr", time_us=1e5, dense={"time_us": too_fast})
    assert row["violation"]
    assert (row["violation_dense"], row["violation_sparse"]) == (True, False)
    assert row["above_one_cause"].startswith("dense: beats the pattern-aware bound")


@pytest.mark.parametrize(("factor", "width", "violated"), [(0.97, 0.05, False), (0.97, 0.01, True), (1.0, 0.0, False)])
def test_noise_is_not_a_violation(factor: float, width: float, violated: bool) -> None:
    row = one(**BIG, time_us=slower(factor, "bound", **BIG), width=width)
    assert bool(row["violation"]) is violated


def test_less_than_two_clock_ticks_is_not_a_violation() -> None:
    tiny = {"format": "csr", "M": 64, "K": 64, "N": 64, "density": 0.5}
    sol_us = slower(1.0, "bound", **tiny)
    assert sol_us < 0.064
    assert not one(**tiny, time_us=sol_us / 10, width=0.0)["violation"]


def test_a_warm_cache_may_pass_the_dram_bound() -> None:
    row = one(**BIG, time_us=slower(0.5, "bound", **BIG), regime_l2="hot")
    assert row["above_one"]
    assert not row["violation"]
    assert "hot regime" in row["above_one_cause"]


def test_measured_ceilings_that_are_too_low_are_named() -> None:
    cpu = {"format": "csr", "unit": "cpu", "dtype": "fp32"}
    sol_us = float(record(**cpu)["sol_bound_measured_ns"]) / 1e3
    row = join(frame(record("dense", unit="cpu", dtype="fp32", time_us=1e6), record(**cpu, time_us=sol_us * 0.9)))
    assert row["violation"].tolist() == [True]
    assert "calibrate again" in row["above_one_cause"].iloc[0]


def test_below_the_floor() -> None:
    small = {"M": 512, "K": 512, "N": 64}
    rows = frame(record("dense", **small, time_us=6.0), record("csr", **small, time_us=5.0))
    assert join(rows)["below_floor"].tolist() == [True]
    assert join(rows, floor_ns=0.1)["below_floor"].tolist() == [False]
    cpu = frame(record("dense", **small, dtype="fp32", unit="cpu"), record("csr", **small, dtype="fp32", unit="cpu"))
    assert join(cpu)["below_floor"].tolist() == [False]
    assert join(cpu, floor_ns=1e9)["below_floor"].tolist() == [True]
