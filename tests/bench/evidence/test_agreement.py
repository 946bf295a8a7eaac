"""Another tool's times beside ours: the table on disk and what is told, and a path that cannot be written."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from sparsity_roofline.bench.evidence import profiles
from sparsity_roofline.bench.evidence.agreement import Row, write_and_tell
from sparsity_roofline.model.errors import UserError


def row(time: float, off: float) -> Row:
    return {"kernel": "k", "ours_us": time, "x_us": time + off, "difference_us": off, "difference_share": off / time}


def test_the_table_is_written_and_what_lies_outside_is_marked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_and_tell([row(100.0, 1.0), row(100.0, 4.0), row(5.0, 0.4)], tmp_path / "t.csv", "X", "x_us", "calls")
    told = capsys.readouterr().out
    assert told.startswith("2 of 3 calls within 3 % (from 20 us up) or 0.5 us (below)\n")
    assert told.count("<-- outside") == 1
    rows = list(csv.DictReader((tmp_path / "t.csv").read_text().splitlines()))
    assert [r["x_us"] for r in rows] == ["101", "104", "5.4"]


def test_a_path_that_cannot_be_written_is_one_line_and_loses_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=r"cannot write .*t\.csv: No such file or directory"):
        write_and_tell([row(100.0, 1.0)], tmp_path / "none" / "t.csv", "X", "x_us", "calls")
    assert "ours     100.00 us" in capsys.readouterr().out
    (tmp_path / "file").write_text("x")
    assert profiles.main([str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err.startswith("error: ")
