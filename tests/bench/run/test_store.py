"""Records on disk: what is written is what is read, whichever file it lies in."""

from __future__ import annotations

import json
import math
import os
from dataclasses import fields
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sparsity_roofline.bench.frames import COLUMNS, records_frame
from sparsity_roofline.bench.redact import redact, redact_argv
from sparsity_roofline.bench.store import RunFolder, read_records, read_samples, write_records
from sparsity_roofline.model.case import Case
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.record import Record

KEYS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=12)


def values(field) -> st.SearchStrategy:
    kind = str(field.type)
    base = {
        "str": st.text(st.characters(codec="utf-8"), max_size=8),
        "int": st.integers(-(2**60), 2**60),
        "float": st.floats(allow_nan=False, allow_infinity=False),
        "bool": st.booleans(),
        "Status": st.just("error"),
        "list[float]": st.lists(st.floats(0, 1e12), max_size=5),
    }[kind.removesuffix(" | None")]
    return st.one_of(st.none(), base) if kind.endswith("| None") else base


RECORDS = st.builds(Record, **{f.name: values(f) for f in fields(Record)})


def same(frame: pd.DataFrame, record: Record, row: int) -> None:
    for name in COLUMNS:
        want, got = getattr(record, name), frame[name].iloc[row]
        if want is None:
            assert pd.isna(got), name
        else:
            assert got == want, name


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(RECORDS, max_size=4))
def test_lines_parquet_and_frame_agree(tmp_path_factory, records: list[Record]) -> None:
    path = tmp_path_factory.mktemp("r") / "run"
    with RunFolder.open(path, {"plan": "p"}) as folder:
        for record in records:
            folder.append(record)
        folder.finish()
    lines, parquet = read_records(path / "records.jsonl"), read_records(path / "records.parquet")
    assert list(lines.columns) == list(COLUMNS)
    pd.testing.assert_frame_equal(lines, parquet)
    pd.testing.assert_series_equal(lines.dtypes, records_frame([]).dtypes)
    for row, record in enumerate(records):
        same(lines, record, row)
    write_records(lines, path / "again.parquet")
    pd.testing.assert_frame_equal(read_records(path / "again.parquet"), lines)
    samples = read_samples(path)
    assert samples.time_ns.tolist() == [v for r in records for v in r.raw_samples_ns]
    pd.testing.assert_frame_equal(samples, read_samples(path / "samples.parquet"))


def test_a_published_run_without_lines_can_be_read_and_resumed(tmp_path: Path, make_record) -> None:
    case = Case("c", "m", 4, 4, 1, "unstructured", "csr", "fp32", nnz=3)
    with RunFolder.open(tmp_path / "run", {"plan": "p"}) as folder:
        folder.append(make_record(case, "csr.a"))
        folder.finish()
    before, samples = read_records(tmp_path / "run"), read_samples(tmp_path / "run")
    (tmp_path / "run" / "records.jsonl").unlink()
    pd.testing.assert_frame_equal(read_records(tmp_path / "run"), before)
    pd.testing.assert_frame_equal(read_samples(tmp_path / "run"), samples)
    with RunFolder.open(tmp_path / "run", {"plan": "p"}, resume=True) as folder:
        assert folder.done() == {(case.key, "csr.a")}
        folder.append(make_record(case, "csr.b"))
    assert list(read_records(tmp_path / "run").kernel) == ["csr.a", "csr.b"]
    assert set(read_samples(tmp_path / "run").kernel) == {"csr.a", "csr.b"}


def test_torn_tail_is_ignored_when_read_and_cut_when_resumed(tmp_path: Path, make_record) -> None:
    case = Case("c", "m", 4, 4, 1, "unstructured", "csr", "fp32", nnz=3)
    with RunFolder.open(tmp_path / "run", {"plan": "p"}) as folder:
        folder.append(make_record(case, "csr.a"))
    log = tmp_path / "run" / "records.jsonl"
    whole = log.read_bytes()
    log.write_bytes(whole + whole[: len(whole) // 2])
    assert len(read_records(tmp_path / "run")) == 1
    RunFolder.open(tmp_path / "run", {"plan": "p"}, resume=True).close()
    assert log.read_bytes() == whole
    log.write_bytes(b"garbage\n" + whole)
    with pytest.raises(UserError, match=r"records.jsonl:1: not a record"):
        read_records(tmp_path / "run")


def test_a_newer_record_can_be_read_and_an_older_one_gets_defaults(tmp_path: Path, make_record) -> None:
    case = Case("c", "m", 4, 4, 1, "unstructured", "csr", "fp32", nnz=3)
    data = make_record(case, "csr.a").to_dict()
    del data["used_columns"], data["layer"], data["threads"], data["empty_rows"]
    data["from_the_future"] = 1
    (tmp_path / "r.jsonl").write_text(json.dumps(data) + "\n")
    frame = read_records(tmp_path / "r.jsonl")
    assert list(frame.columns) == list(COLUMNS)
    assert frame.used_columns[0] == 0
    assert frame.layer[0] is None
    assert frame.threads[0] is pd.NA


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda p: p / "absent", "no such file or folder"),
        (lambda p: p, "holds no run"),
        (lambda p: _file(p / "x.csv"), "cannot tell what"),
        (lambda p: _file(p / "x.parquet"), "cannot read .* as Parquet"),
        (lambda p: _table(p / "t.parquet"), "holds no records: column status, case, kernel"),
    ],
)
def test_unreadable_sources_are_one_line(tmp_path: Path, make, match: str) -> None:
    with pytest.raises(UserError, match=match) as error:
        read_records(make(tmp_path))
    assert "\n" not in str(error.value)


def _file(path: Path) -> Path:
    path.write_bytes(b"nothing useful")
    return path


def _table(path: Path) -> Path:
    pd.DataFrame({"a": [1]}).to_parquet(path)
    return path


def test_write_refuses_other_tables_and_leaves_no_debris(tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(UserError, match="column status, case, kernel is missing"):
        write_records(pd.DataFrame({"a": [1]}), tmp_path / "r.parquet")
    with pytest.raises(UserError, match="cannot write"):
        write_records(records_frame([]), tmp_path / "no" / "r.parquet")

    def full(*args, **kwargs):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("sparsity_roofline.bench.frames.pq.write_table", full)
    with pytest.raises(UserError, match="no space left") as caught:
        write_records(records_frame([]), tmp_path / "r.parquet")
    assert caught.value.exit_code == 4
    assert list(tmp_path.iterdir()) == []


def test_infinite_figures_do_not_reach_the_file(tmp_path: Path, make_record) -> None:
    case = Case("c", "m", 4, 4, 1, "unstructured", "csr", "fp32", nnz=3)
    record = make_record(case, "csr.a")
    record.error_max = math.inf
    with RunFolder.open(tmp_path / "run", {}) as folder, pytest.raises(ValueError, match="not JSON compliant"):
        folder.append(record)
    assert read_records(tmp_path / "run").empty


def test_parquet_is_small_and_typed(tmp_path: Path, make_record) -> None:
    with RunFolder.open(tmp_path / "run", {}) as folder:
        for n in range(1, 301):
            record = make_record(Case("c", "m", 4, 4, n, "unstructured", "csr", "fp32", nnz=3), "csr.a")
            record.raw_samples_ns = [1000.0 + (n * i) % 97 * 32 for i in range(100)]
            folder.append(record)
        folder.finish()
    size = (tmp_path / "run" / "records.jsonl").stat().st_size
    both = sum((tmp_path / "run" / name).stat().st_size for name in ("records.parquet", "samples.parquet"))
    assert both < size / 5
    schema = pq.read_schema(tmp_path / "run" / "records.parquet")
    assert schema.names == list(COLUMNS)
    assert str(schema.field("M").type) == "int64"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("cannot open /home/x/data/a.smtx: truncated", "cannot open a.smtx: truncated"),
        ("dlmc:/data/dlmc", "dlmc:dlmc"),
        ("--out=/a/b/c", "--out=c"),
        ("~/results/run", "run"),
        ("3 / 4 blocks, 1/2", "3 / 4 blocks, 1/2"),
        ("rn50/magnitude_pruning/0.9/x", "rn50/magnitude_pruning/0.9/x"),
        ("see https://example.org/a/b", "see https://example.org/a/b"),
        ('File "/usr/lib/x.py", line 3', 'File "x.py", line 3'),
        ("", ""),
    ],
)
def test_redact(text: str, clean: str) -> None:
    assert redact(text) == clean


def test_redact_argv_and_names(monkeypatch) -> None:
    assert redact_argv(["run", "--out=/a/b/c", "/a/b", "--n", "3"]) == ["run", "--out=c", "b", "--n", "3"]
    from sparsity_roofline.bench import redact as module

    monkeypatch.setattr(module.socket, "gethostname", lambda: "gpubox17.lab")
    monkeypatch.setattr(module.getpass, "getuser", lambda: "mariecurie")
    module._names.cache_clear()
    try:
        assert redact("mariecurie on gpubox17.lab, gpubox17x") == "(hidden) on (hidden), gpubox17x"
    finally:
        module._names.cache_clear()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "full")], ids=["interrupt", "full disk"])
def test_a_write_cut_short(tmp_path: Path, make_record, monkeypatch, error: BaseException) -> None:
    """An interrupt while the disk is waited for keeps the finished case; a failing disk what was there before."""
    case = Case("c", "m", 4, 4, 1, "unstructured", "csr", "fp32", nnz=3)
    first, second, third = (make_record(case, f"csr.{name}") for name in "abc")
    with RunFolder.open(tmp_path / "run", {"plan": "p"}) as folder:
        folder.append(first)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", _raise(error))
            with pytest.raises((KeyboardInterrupt, UserError)):
                folder.append(second)
        kept = len(read_records(tmp_path / "run" / "records.jsonl"))
        assert kept == len(folder.records) == (2 if isinstance(error, KeyboardInterrupt) else 1)
        folder.append(third)
        assert len(read_records(tmp_path / "run" / "records.jsonl")) == kept + 1


def _raise(error: BaseException):
    def fail(fd: int) -> None:
        raise error

    return fail
