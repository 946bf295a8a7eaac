"""Tables for people and programs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sparsity_roofline.validation import tables
from sparsity_roofline.validation.join import join, pair
from sparsity_roofline.validation.summary import SUMMARY_COLUMNS, by_kernel, headline, summarise

from ._records import frame, record, sweep


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.23456, "1.23"), (0.0123456, "0.0123"), (12.3456, "12.3"), (1234.5, "1234"), (123456.0, "1.23e+05"),
        (0.000123, "1.23e-04"), (0.0, "0"), (float("nan"), ""), (None, ""), (True, "yes"), (False, ""), (7, "7"),
        ("x", "x"), (-0.5, "-0.500"), (float("inf"), "inf"), (np.float64(2.0), "2.00"), (np.bool_(True), "yes"),
        (0.9999, "1.00"), (9.996, "10.0"), (9999.6, "1.00e+04"),
    ],
)  # fmt: skip
def test_number(value: object, text: str) -> None:
    assert tables.number(value) == text


def test_markdown_escapes_and_aligns() -> None:
    table = pd.DataFrame({"a": ["x|y", "two\nlines"], "b": [1.5, float("nan")]})
    assert tables.to_markdown(table, {"a": "A", "b": "B"}) == (
        "| A | B |\n|---|---:|\n| x\\|y | 1.50 |\n| two lines |  |\n"
    )


def test_case_table_shows_what_was_promised() -> None:
    pairs = join(frame(record("dense", time_us=100.0), record("bsr", time_us=50.0, synthetic=True)))
    table = tables.case_table(pairs)
    text = tables.to_markdown(table, tables.CASE_COLUMNS)
    heading = text.splitlines()[0]
    for column in ("case", "kernel", "predicted speedup", "measured speedup", "fraction of SoL dense",
                   "fraction of SoL sparse", "parity"):  # fmt: skip
        assert f" {column} |" in heading
    assert "512 x 4608 x 2048" in text
    assert "bsr 16x16" in text
    assert "| synthetic" in text.splitlines()[2]
    assert " 2.00 |" in text


def test_csv_reads_back_with_full_figures(tmp_path: Path) -> None:
    pairs = join(sweep())
    path = tables.write_csv(tables.case_table(pairs), tmp_path / "cases.csv")
    back = pd.read_csv(path)
    assert len(back) == len(pairs)
    np.testing.assert_allclose(np.log(back["measured_speedup"] / back["predicted_speedup"]), np.log(back["parity"]),
                               atol=1e-5)  # fmt: skip
    assert b"\r" not in path.read_bytes()


def test_an_empty_table_says_so(tmp_path: Path) -> None:
    empty = tables.case_table(join(frame(record("dense"))))
    assert "No rows." in tables.write_markdown(empty, tmp_path / "a.md", "Title").read_text()
    assert list(pd.read_csv(tables.write_csv(empty, tmp_path / "a.csv")).columns) == list(empty.columns)


def test_unpaired_are_counted_by_reason() -> None:
    rows = [record("dense"), *(record("nm", status="unsupported", reason="K % 32", N=n) for n in (1, 2, 3))]
    rows += [record("bsr", status="error", reason="boom")]
    table = tables.unpaired_table(pair(frame(*rows)).unpaired)
    assert table[["kernel", "status", "why", "records"]].to_numpy().tolist() == [
        ["nm.triton", "unsupported", "unsupported: K % 32", 3],
        ["bsr.triton", "error", "error: boom", 1],
        ["dense.cublas", "ok", "dense, partner of no sparse record", 1],
    ]


@pytest.mark.parametrize("limit", [5, 10, 24, 1000])
def test_console_rows_keep_every_kernel_and_its_extremes(limit: int) -> None:
    pairs = join(sweep())
    headings, rows = tables.console_rows(pairs, limit)
    assert len(rows) == min(limit, len(pairs))
    assert all(len(row) == len(headings) for row in rows)
    kernels = [row[headings.index("kernel")] for row in rows]
    assert set(kernels) == set(pairs["kernel"])
    if limit >= 10:
        for kernel, mine in pairs.groupby("kernel"):
            shown = {r[headings.index("parity")] for r, k in zip(rows, kernels, strict=True) if k == kernel}
            assert {tables.number(float(mine["parity"].min())), tables.number(float(mine["parity"].max()))} <= shown


def test_console_rows_of_nothing() -> None:
    empty = join(frame(record("dense")))
    assert tables.console_rows(empty)[1] == []
    assert tables.console_summary(empty)[1] == []


def test_summary_has_a_row_per_stratum_and_leaves_the_floor_out() -> None:
    small = {"M": 256, "K": 256, "N": 16}
    records = pd.concat([sweep(), frame(record("dense", **small, time_us=3.0), record("csr", **small, time_us=30.0))])
    pairs = join(records)
    table = summarise(pairs, resamples=50)
    assert list(table.columns) == list(SUMMARY_COLUMNS)
    every = table.iloc[0]
    assert (every["stratum"], every["pairs"], every["below_floor"]) == ("all", len(pairs) - 1, 1)
    assert every["parity"] == pytest.approx(float(np.exp(headline(pairs)["log_error"].mean())))
    last = table.iloc[-1]
    assert (last["stratum"], last["pairs"]) == ("below floor", 1)
    assert last["parity"] == pytest.approx(float(pairs.loc[pairs["below_floor"], "parity"].iloc[0]))
    kernels = table[table["stratum"] == "kernel"]
    assert kernels["value"].tolist() == sorted(set(pairs["kernel"]))
    assert kernels["pairs"].sum() == len(pairs) - 1


def test_a_kernel_wholly_below_the_floor_is_shown_without_averages() -> None:
    small = {"M": 256, "K": 256, "N": 16}
    pairs = join(frame(record("dense", **small, time_us=3.0), record("csr", **small, time_us=2.0)))
    row = by_kernel(pairs).iloc[0]
    assert (row["value"], row["pairs"], row["below_floor"]) == ("csr.triton fp16", 0, 1)
    assert np.isnan(row["parity"])
    headings, rows = tables.console_summary(pairs)
    assert rows[0][headings.index("parity")] == ""
    assert rows[0][headings.index("best speedup")] == "1.50"
