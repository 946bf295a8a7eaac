"""``report`` as a user types it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparsity_roofline.bench.store import write_records
from sparsity_roofline.cli import main

from .validation._records import sweep


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "mine"
    path.mkdir()
    write_records(sweep(), path / "records.parquet")
    return path


def test_report_writes_a_page_and_says_the_answer(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report", str(run), "--out", "r.html"]) == 0
    out = capsys.readouterr().out
    assert "As a limit" in out
    assert "As a prediction" in out
    page = Path("r.html").read_text()
    assert "sparsity-roofline report mine --out r.html" in page
    assert str(run.parent) not in page  # a path is the reader's own business


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["report"], "Missing argument"),
        (["report", "RUN"], "say what to write"),
        (["report", "no/such/run", "--out", "x.html"], "no/such/run"),
        (["report", "RUN", "--out", "x.txt"], ".html"),
        (["report", "RUN", "--out", "x.html", "--accuracy", "none.csv"], "none.csv"),
        (["report", "RUN", "--out", "x.html", "--dense", "dense.none"], "matched"),
    ],
)
def test_a_users_fault_is_one_line(
    run: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert main([str(run) if a == "RUN" else a for a in arguments]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
