"""Reuses after which a sparse format pays: worked by hand, by the definition, and with little or nothing recorded."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsity_roofline.validation.amortisation import (
    COLUMNS,
    TABLE_COLUMNS,
    amortisation_table,
    calls,
    for_people,
    message,
    parse_setup,
    reuses,
    setup_steps,
)
from sparsity_roofline.validation.join import join
from sparsity_roofline.validation.report import validate
from sparsity_roofline.validation.tables import case_table

from ._records import frame, record

INF, NAN = float("inf"), float("nan")


def steps(**us: float) -> str:
    return json.dumps({name.replace("_", " "): value * 1000 for name, value in us.items()})


def one(sparse: dict[str, Any], dense: dict[str, Any]) -> pd.Series:
    """The only pair of a sparse and a dense record with these fields."""
    pairs = join(frame(record("dense", **dense), record("csr", **sparse)))
    assert len(pairs) == 1
    return pairs.iloc[0]


def test_a_case_by_hand() -> None:
    # Setup 700 against 400 us, 20 us gained a call: 300 / 20 = 15 calls; with the dense weight in place 700 / 20 = 35.
    row = one(
        {"time_us": 80.0, "setup_ns": steps(convert=500, sort_rows=200, first_launch=9e6), "host_call_ns": 90e3},
        {"time_us": 100.0, "setup_ns": steps(convert=400, first_launch=7e6), "host_call_ns": 30e3},
    )
    assert (row["setup_us"], row["setup_dense_us"], row["first_launch_us"]) == (700, 400, 9e6)
    assert (row["gain_us"], row["reuses"], row["reuses_dynamic"]) == (20, 15, 35)
    # Eager: the host holds sparse up at 90 us a call, so 10 us are gained: 30 calls.
    assert (row["host_us"], row["host_dense_us"], row["host_bound"], row["reuses_eager"]) == (90, 30, True, 30)


def test_eager_calls_last_as_long_as_the_span() -> None:
    """Gaps between the kernels of one call belong to it: 120 us from first start to last end, 100 us busy."""
    setup = {"setup_ns": steps(convert=0), "host_call_ns": 1e3}
    row = one({"time_us": 100.0, **setup, "span_ns": 120e3}, {"time_us": 110.0, **setup, "span_ns": 110e3})
    assert (row["reuses"], row["reuses_eager"]) == (0, INF)


@pytest.mark.parametrize(
    ("extra", "gain", "expected"),
    [
        (300, 20, 15), (301, 20, 16), (299, 20, 15), (20, 20, 1), (1, 20, 1), (20.5, 20, 2), (0, 20, 0), (-5, 20, 0),
        (0, 0, INF), (300, 0, INF), (300, -1, INF), (-300, -1, INF), (0.5, 0.5, 1), (INF, 1, INF),
        (NAN, 1, NAN), (NAN, -1, NAN), (1, NAN, NAN), (NAN, NAN, NAN),
    ],
)  # fmt: skip
def test_conventions(extra: float, gain: float, expected: float) -> None:
    found = reuses(np.array([extra]), np.array([gain]))[0]
    np.testing.assert_equal(found, expected)
    assert not np.signbit(found)


half_ns = st.integers(0, 2**40).map(lambda v: v / 2)


@given(st.lists(st.tuples(half_ns, half_ns, half_ns, half_ns), min_size=1, max_size=20))
def test_sparse_has_paid_after_that_many_calls_and_not_before(cases: list[tuple[float, float, float, float]]) -> None:
    """The definition, in exact arithmetic: S_sparse + n T_sparse <= S_dense + n T_dense from n = reuses on."""
    s_sparse, s_dense, t_sparse, t_dense = (np.array(v) for v in zip(*cases, strict=True))
    found = reuses(s_sparse - s_dense, t_dense - t_sparse)
    for n, case in zip(found, cases, strict=True):
        a, b, t, u = (Fraction(v) for v in case)
        if t >= u:
            assert n == INF
            continue
        assert n >= 0
        assert n == int(n)
        assert a + int(n) * t <= b + int(n) * u
        if n:
            assert a + (int(n) - 1) * t > b + (int(n) - 1) * u


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[1]", "3", "null", "not json", '{"convert": null}', '{"convert": "5"}', '{"convert": -1}',
     '{"convert": NaN}', '{"convert": Infinity}', '{"convert": true}', '{"a": {"b": 1}}',
     '{"convert": 1' + "0" * 400 + "}", None, float("nan")],
)  # fmt: skip
def test_what_is_not_a_setup_is_not_known(text: Any) -> None:
    assert parse_setup(text) is None


def test_only_a_first_launch_is_a_setup_of_nothing() -> None:
    row = one(
        {"time_us": 80.0, "setup_ns": steps(first_launch=500)}, {"time_us": 100.0, "setup_ns": steps(first_launch=1)}
    )
    assert (row["setup_us"], row["reuses"], row["reuses_dynamic"]) == (0, 0, 0)


@pytest.mark.parametrize("missing", ["sparse", "dense", "both"])
def test_records_without_setup_times(missing: str) -> None:
    setups = {side: "" if missing in (side, "both") else steps(convert=5) for side in ("sparse", "dense")}
    pairs = join(
        frame(
            record("dense", time_us=100.0, setup_ns=setups["dense"]),
            record("csr", time_us=80.0, setup_ns=setups["sparse"]),
        )
    )
    row, table = pairs.iloc[0], amortisation_table(pairs).iloc[0]
    assert np.isnan(row["reuses"])
    assert np.isnan(row["host_us"])
    assert not row["host_bound"]
    np.testing.assert_equal(row["reuses_dynamic"], 1.0 if missing == "dense" else NAN)
    assert (table["pairs"], table["unknown"], row["gain_us"]) == (1, 1, 20)
    assert all(np.isnan(table[name]) for name in ("reuses", "never", "within_100", "host_bound"))
    assert message(pairs) == ""


def test_a_table_without_the_columns_still_joins() -> None:
    records = frame(record("dense"), record("csr")).drop(columns=["setup_ns", "host_call_ns", "span_ns"])
    assert set(COLUMNS) <= set(join(records).columns)


def several() -> pd.DataFrame:
    """csr.triton: 10, 50 and 5000 calls, and never; one bsr without setup."""
    dense = record("dense", time_us=1000.0, setup_ns=steps(convert=100, first_launch=3), host_call_ns=20e3)
    sparse = [
        record(time_us=time, density=d, setup_ns=steps(convert=600, plan=plan, first_launch=launch), host_call_ns=h)
        for d, time, plan, launch, h in (
            (0.01, 900.0, 500, 90, 950e3),
            (0.02, 980.0, 500, 10, 30e3),
            (0.05, 999.9, 0, 10, 30e3),
            (0.5, 1200.0, 500, 10, 30e3),
        )
    ]
    return frame(dense, *sparse, record("bsr", time_us=500.0))


def test_table_by_hand() -> None:
    table = amortisation_table(join(several()))
    assert list(table["kernel"]) == ["bsr.triton", "csr.triton"]
    csr = table.iloc[1]
    assert (csr["pairs"], csr["unknown"], csr["setup_us"], csr["setup_dense_us"]) == (4, 0, 1100, 100)
    assert csr["setup_by_step"] == "convert 600, plan 500"
    assert (csr["step_convert_us"], csr["step_plan_us"]) == (600, 500)
    assert (csr["first_launch_us"], csr["first_launch_max_us"]) == (10, 90)
    assert csr["reuses"] == pytest.approx((50 + 5000) / 2, abs=1)  # 10, 50, 5000, never: between the middle two
    assert csr["reuses_paying"] == 50
    assert (csr["never"], csr["within_100"], csr["within_1000"], csr["within_10000"]) == (0.25, 0.5, 0.5, 0.75)
    assert (csr["host_us"], csr["host_dense_us"], csr["host_bound"]) == (30, 20, 0.25)
    assert csr["unclear"] == 0.25  # 999.9 against 1000 us, each +- 1 %
    assert table.iloc[0]["unknown"] == 1


def test_more_than_half_never_is_never() -> None:
    setup = {"setup_ns": steps(convert=10)}
    pairs = join(
        frame(
            record("dense", time_us=100.0, **setup),
            *(record(time_us=t, density=d, **setup) for t, d in ((50.0, 0.1), (150.0, 0.2), (160.0, 0.3))),
        )
    )
    row = for_people(amortisation_table(pairs)).iloc[0]
    assert (row["reuses"], row["reuses_paying"]) == ("never", "0")


def test_steps_by_column() -> None:
    found = setup_steps(join(several()))
    assert list(found.columns) == ["convert", "plan", "first launch"]
    assert found["plan"].tolist()[:4] == [500e3, 500e3, 0, 500e3]
    assert found.iloc[4].isna().all()


def test_nothing_at_all(tmp_path: Path) -> None:
    pairs = join(frame(record("dense")))
    table = amortisation_table(pairs)
    assert table.empty
    assert list(table.columns) == list(TABLE_COLUMNS)
    assert message(pairs) == ""
    assert for_people(table).empty
    validate(frame(record("dense")), tmp_path, plots=False)
    assert "No rows" in (tmp_path / "tables" / "amortisation.md").read_text()


def test_a_step_may_have_any_name() -> None:
    """Third-party kernels name their steps as they like, and no name may hide a column of the table."""
    odd = json.dumps({"setup": 1e3, "reuses": 2e3, "a|b": 3e3})
    pairs = join(frame(record("dense", setup_ns=odd), record("csr", setup_ns=odd)))
    table = amortisation_table(pairs)
    assert len(set(table.columns)) == len(table.columns)
    assert table.iloc[0]["setup_us"] == 6
    assert table.iloc[0]["step_reuses_us"] == 2


def test_columns_and_notes_of_the_case_table() -> None:
    table = case_table(join(several()))
    assert set(COLUMNS) <= set(table.columns)
    bound = table[table["host_bound"]]
    assert len(bound) == 1
    assert "host-bound (950 us a call)" in bound.iloc[0]["notes"]


def test_files_say_never(tmp_path: Path) -> None:
    validate(several(), tmp_path, plots=False)
    written = pd.read_csv(tmp_path / "tables" / "amortisation.csv")
    assert list(written["kernel"]) == ["bsr.triton", "csr.triton"]
    cases = pd.read_csv(tmp_path / "tables" / "cases.csv")
    assert sorted(cases["reuses"].dropna()) == [10, 50, 5000, INF]
    assert "| csr.triton | fp16 | 4 |" in (tmp_path / "tables" / "amortisation.md").read_text()


@pytest.mark.parametrize(("value", "text"), [(INF, "never"), (NAN, ""), (0.0, "0"), (12.5, "13"), (12345.0, "12,345")])
def test_calls_in_words(value: float, text: str) -> None:
    assert calls(value) == text
