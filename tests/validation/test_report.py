"""The whole validation: files, JSON, messages, and inputs with little or nothing in them."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from sparsity_roofline.bench.store import write_records
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.validation import report
from sparsity_roofline.validation.report import validate

from ._records import frame, record, sweep

TABLES = ("cases", "kernels", "summary", "unpaired", "break-even", "violations", "amortisation", "refined")
PLOTS = ("parity", "parity-by-bound", "roofline", "fraction")


def strict(path: Path) -> dict[str, Any]:
    """Parse JSON as a strict reader would: no NaN, no Infinity."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} in {path}")

    loaded: dict[str, Any] = json.loads(path.read_text(), parse_constant=refuse)
    return loaded


def few() -> pd.DataFrame:
    """Enough for every table and plot, little enough to be quick."""
    return frame(
        record("dense", time_us=150.0),
        *(record("csr", density=d, time_us=9000 * d, synthetic=True) for d in (0.5, 0.1, 0.02)),
        record("bsr", status="unsupported"),
    )


def test_writes_everything_and_says_what(tmp_path: Path) -> None:
    result = validate(sweep(), tmp_path, resamples=100)
    expected = {f"tables/{name}.{suffix}" for name in TABLES for suffix in ("csv", "md")}
    expected |= {f"plots/{name}.{suffix}" for name in PLOTS for suffix in ("png", "svg")}
    expected |= {"validation.json"}
    assert {str(path.relative_to(tmp_path)) for path in result.written} == expected
    assert all(path.stat().st_size > 0 for path in result.written)
    held = strict(tmp_path / "validation.json")
    assert held["counts"] == {
        "records": 138, "pairs": 126, "below_floor": 0, "above_one": 0, "violations": 0, "unpaired": 6,
        "status": {"unsupported": 6},
    }  # fmt: skip
    assert held["options"]["preset"] == "paper"
    assert set(held["errors"]) == {"dense", "sparse", "ratio"}
    assert held["errors"]["dense"]["n"] == 6


def test_repeats_byte_by_byte(tmp_path: Path) -> None:
    first, second = (validate(few(), tmp_path / name, resamples=100) for name in "ab")
    for one, other in zip(first.written, second.written, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name


def test_a_run_folder_and_its_file_give_what_the_frame_gives(tmp_path: Path) -> None:
    records = sweep()
    write_records(records, tmp_path / "records.parquet")
    of_frame = validate(records, resamples=10).summary
    for source in (tmp_path, str(tmp_path / "records.parquet")):
        pd.testing.assert_frame_equal(validate(source, resamples=10).summary, of_frame)


def test_nothing_is_written_unless_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert validate(sweep(), resamples=10).written == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("records", "message"),
    [
        (frame(record("dense")).iloc[:0], "No records at all"),
        (frame(record("csr", status="unsupported"), record("dense", status="error")), "No record has a time: 1 unsup"),
        (frame(record("dense")), "Only dense records have a time"),
        (frame(record("csr")), "No sparse record found its dense partner"),
        (frame(record("dense", regime_l2="hot"), record("csr")), "L2 state hot instead of cold-clean"),
        (frame(record("dense", N=16, time_us=9.0), record("csr", N=16, time_us=9.0)), "1 of 1 pairs lie below"),
        (frame(record("dense", time_us=1.0), record("csr")), "1 of 1 pairs beat the bound"),
        (frame(record("dense"), record("csr", synthetic=True)), "1 of 1 pairs use synthetic weights"),
        (frame(record("dense"), record("csr", time_us=1.0, status="ok")), "beat the bound"),
    ],
)
def test_little_or_nothing_to_validate(records: pd.DataFrame, message: str, tmp_path: Path) -> None:
    draw = message.startswith(("No rec", "Only", "No sparse", "1 of 1 pairs lie"))  # the distinct kinds of empty figure
    result = validate(records, tmp_path, resamples=20, plots=draw)
    assert any(message in line for line in result.messages), result.messages
    assert len(result.written) == 2 * len(TABLES) + 2 * len(PLOTS) * draw + 1
    assert strict(tmp_path / "validation.json")["messages"] == result.messages
    for name in TABLES:
        pd.read_csv(tmp_path / "tables" / f"{name}.csv")


def test_records_without_any_ceilings_say_calibrate() -> None:
    bare = {
        f"sol_{p}_{kind}_ns": None for p in ("paper", "unit", "bound") for kind in ("datasheet", "measured")
    } | {"unit": "cpu", "dtype": "fp32", "ceilings_measured": None}  # fmt: skip
    messages = validate(frame(record("dense", **bare), record("csr", **bare)), plots=False).messages
    assert len(messages) == 1
    assert messages[0].startswith("No ceilings in the records: run `sparsity-roofline hardware calibrate`")
    assert any("No ceilings" in line for line in validate(frame(record("csr", **bare)), plots=False).messages)


def test_records_without_the_ceilings_asked_for_name_them() -> None:
    cpu = {"unit": "cpu", "dtype": "fp32"}
    messages = validate(frame(record("dense", **cpu), record("csr", **cpu)), ceilings="datasheet", plots=False).messages
    assert messages == ["No record has a speed of light under datasheet ceilings: leave --ceilings out."]


def test_host_bound_pairs_are_told() -> None:
    host = [record("dense", time_us=200.0, host_call_ns=9e3), record("csr", time_us=150.0, host_call_ns=3e5)]
    result = validate(frame(*host), plots=False)
    assert [line for line in result.messages if "host-bound" in line and "300 us beside 150.0 us (csr.triton)" in line]


def test_beaten_measured_ceilings_say_calibrate() -> None:
    cpu = {"unit": "cpu", "dtype": "fp32", "time_us": 1.0}
    messages = validate(frame(record("dense", **cpu), record("csr", **cpu)), plots=False).messages
    assert any("hardware calibrate" in line for line in messages)
    sheet = validate(frame(record("dense", time_us=1.0), record("csr")), plots=False).messages
    assert not any("hardware calibrate" in line for line in sheet)


def test_a_plain_good_run_has_nothing_to_say() -> None:
    assert validate(frame(record("dense", time_us=200.0), record("csr", time_us=1000.0)), plots=False).messages == []


def test_options_reach_the_join() -> None:
    records = frame(record("dense", time_us=200.0), record("dense", time_us=100.0, kernel="dense.triton"), record())
    result = validate(records, dense_kernel="best", preset="unit", ceilings="measured", floor_ns=0.0)
    row = result.pairs.iloc[0]
    assert (row["dense_kernel"], row["preset"], row["ceilings"]) == ("dense.triton", "unit", "measured")


def test_user_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file or folder"):
        validate(tmp_path / "nowhere")
    with pytest.raises(UserError, match="unknown preset"):
        validate(sweep(), preset="x")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to"):
        validate(frame(record("dense"), record("csr")), tmp_path / "file", plots=False)


def test_a_full_disk_has_a_code_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(report, "_write", full)
    with pytest.raises(UserError, match="No space left") as caught:
        validate(few(), tmp_path)
    assert caught.value.exit_code == 4
