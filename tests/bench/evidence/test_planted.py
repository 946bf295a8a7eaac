"""How often planted slowdowns are seen: hand-worked tables, and a process that answers without a GPU."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from sparsity_roofline.bench.evidence import planted
from sparsity_roofline.model.errors import UserError


def table(times: dict[int, list[list[float]]], width: float = 0.001) -> pd.DataFrame:
    """``times``: percent -> a list for each process -> us for each cell."""
    rows = [
        {
            "kernel": "k",
            "case": f"c{cell}",
            "percent": percent,
            "process": process,
            "work_ratio": 1 + percent / 100,
            "time_ns": us * 1e3,
            "low_ns": us * 1e3 * (1 - width),
            "high_ns": us * 1e3 * (1 + width),
        }
        for percent, processes in times.items()
        for process, cells in enumerate(processes)
        for cell, us in enumerate(cells)
    ]
    return pd.DataFrame(rows)


def test_shares_by_rule_size_and_percentage() -> None:
    """Only measurements of different processes are compared: 105 us against 100 of the other one."""
    found = planted.judge(table({0: [[100.0, 10.0], [100.5, 10.0]], 5: [[105.0, 10.05], [105.0, 10.0]]}))
    seen = {(part.name, part.percent): part for part in found}
    zero, five = seen["20 us and more", 0.0], seen["20 us and more", 5.0]
    assert (zero.cells, zero.processes, zero.work) == (1, 2, 1.0)
    assert zero.intervals == 0.5  # 100.5 against 100, of two ordered pairs: a false alarm
    assert zero.beyond == 0.0
    assert zero.two != zero.two  # two a side would take four processes
    assert (five.intervals, five.beyond) == (1.0, 1.0)
    assert five.work == pytest.approx(1.05)
    assert five.time == pytest.approx(105 / 100.25)
    short = seen["below 20 us", 5.0]
    assert (short.intervals, short.beyond) == (0.5, 0.0)


def test_two_a_side_needs_both_beyond_both_of_other_processes() -> None:
    zeros, twos = [[100.0], [100.0], [102.0], [102.0]], [[102.5], [102.5], [104.0], [101.5]]
    found = {part.percent: part for part in planted.judge(table({0: zeros, 2: twos}))}
    assert found[0].two == pytest.approx(1 / 6)  # the last two after the first two
    # Of six splits: {102.5, 102.5} after {102, 102} no; {104, 101.5} after {100, 100} yes; mixed ones not beyond 102.
    assert found[2].two == pytest.approx(1 / 6)


@pytest.mark.parametrize("drop", ["baseline", "cell"])
def test_an_incomplete_table_is_refused(drop: str) -> None:
    rows = table({0: [[100.0, 10.0], [100.5, 10.0]], 5: [[105.0, 10.05], [105.0, 10.0]]})
    rows = rows[rows["percent"] > 0] if drop == "baseline" else rows.iloc[1:]
    with pytest.raises(UserError, match="baseline"):
        planted.judge(rows)


def test_steps_are_whole_for_every_percentage() -> None:
    """The GEMM's cells: planted and realised work are the same."""
    for kernel, case in planted.cases():
        if kernel == "dense.slowed":
            steps = case.K / 32
            assert steps.is_integer()
            assert all((steps * percent / 100).is_integer() for percent in planted.PERCENTS)


def test_processes_take_turns_and_tell_their_faults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "answers.py"
    script.write_text(
        "import json, sys\n"
        "print('ready', flush=True); input()\n"
        "row = dict(kernel='k', case='c', percent=0, work_ratio=1, time_ns=int(sys.argv[2]), low_ns=1, high_ns=1)\n"
        "print(json.dumps([row] if int(sys.argv[2]) < 2 else {'error': 'two is too much', 'exit_code': 3}))\n"
    )
    real = planted.subprocess.Popen
    monkeypatch.setattr(
        planted.subprocess, "Popen", lambda command, **more: real([command[0], str(script), *command[3:]], **more)
    )
    rows = planted.processes(0.0)
    assert rows["process"].tolist() == rows["time_ns"].tolist() == [0, 1]
    with pytest.raises(UserError, match="too much") as caught:
        planted.processes(60.0)
    assert caught.value.exit_code == 3


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(planted, "cases", list)
    monkeypatch.setattr("sys.stdin", __import__("io").StringIO("go\n"))
    assert planted.child(0) == 6
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "ready"
    assert json.loads(said[1])["exit_code"] == 6


def test_judging_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table({0: [[100.0], [100.5]], 5: [[105.0], [105.0]]}).to_csv(tmp_path / "t.csv", index=False)
    assert planted.main(["--judge", str(tmp_path / "t.csv")]) == 0
    assert capsys.readouterr().out.splitlines()[0] == planted.HEADING
    assert planted.main(["--judge", str(tmp_path / "absent.csv")]) == 2
    assert planted.main([]) == 2
