"""Time over commits: order, points of several processes, change points of known place and size, files written."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sparsity_roofline.bench.history import history, steps, to_frame
from sparsity_roofline.bench.store import write_records
from sparsity_roofline.cli import main
from sparsity_roofline.model.errors import UserError

from ._runs import side


def store(folder: Path, times_us: list[float], *, processes: int = 1, cells: int = 2, spread: float = 0.002) -> Path:
    """One run folder a process, under a folder for each commit; commit i is ``c`` and i in hexadecimal, 12 digits."""
    for number, us in enumerate(times_us):
        commit = f"{number:x}".rjust(12, "c") + "0" * 28
        for process in range(processes):
            made = side(
                f"r{number}-{process}", seed=100 * number + process, processes=1, cells=cells, spread=spread,
                time_ns=us * 1e3, recorded_at=f"2026-01-{number + 1:02d}T00:00:00+00:00",
            )  # fmt: skip
            run = folder / f"{99 - number}-x" / str(process)  # names in an order of their own
            run.mkdir(parents=True)
            write_records(made.records.drop(columns="process"), run / "records.parquet")
            (run / "run.json").write_text(json.dumps({"started": f"2026-01-{number + 1:02d}T00:00:00+00:00"}))
            (run / "environment.json").write_text(json.dumps({"source": {"commit": commit, "dirty": False}}))
    return folder


def test_points_are_commits_in_the_order_of_their_first_run(tmp_path: Path) -> None:
    found = history(store(tmp_path, [10, 11, 12], processes=3))
    assert len(found) == 2
    assert found[0].commits == ["ccccccccccc0", "ccccccccccc1", "ccccccccccc2"]
    assert found[0].runs == [3, 3, 3]
    np.testing.assert_allclose(found[0].us, [10, 11, 12], rtol=0.02)


def test_a_step_is_found_where_it_is_and_as_large_as_it_is(tmp_path: Path) -> None:
    found = history(store(tmp_path, [20.0] * 8 + [21.0] * 8))
    for series in found:
        assert [(step.at, step.commit) for step in series.steps] == [(8, "ccccccccccc8")]
        assert series.steps[0].change == pytest.approx(0.05, abs=0.005)
    frame = to_frame(found)
    assert frame["steps"].str.contains("at ccccccccccc8").all()
    assert frame["change"].to_numpy() == pytest.approx(0.05, abs=0.01)


def test_a_slow_drift_that_no_pair_shows_is_a_step_in_the_end() -> None:
    log = np.log(np.linspace(20.0, 22.0, 40)) + np.random.default_rng(3).normal(0, 0.002, 40)
    assert np.abs(np.diff(log)).max() < 0.02
    found = steps(log, [str(i) for i in range(40)], 0.02)
    assert found
    assert all(step.change > 0 for step in found)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(4, 60), sigma=st.floats(0.0005, 0.02))
def test_noise_alone_has_no_step_beyond_its_size(seed: int, n: int, sigma: float) -> None:
    log = np.random.default_rng(seed).normal(3.0, sigma, n)
    assert steps(log, [str(i) for i in range(n)], max(0.02, 4 * sigma)) == []


def test_one_outlier_is_no_step() -> None:
    log = np.log(np.full(20, 10.0)) + np.random.default_rng(1).normal(0, 0.002, 20)
    log[9] += 0.3
    assert steps(log, [str(i) for i in range(20)], 0.02) == []


def test_few_points_have_none() -> None:
    assert steps(np.log(np.array([1.0, 2.0, 4.0])), ["a", "b", "c"], 0.02) == []


def test_other_devices_and_timers_are_series_of_their_own(tmp_path: Path) -> None:
    store(tmp_path / "one", [10.0] * 4, cells=1)
    run = tmp_path / "two" / "run"
    run.mkdir(parents=True)
    other = side(processes=1, cells=1, device="Other GPU").records.drop(columns="process")
    write_records(other, run / "records.parquet")
    (run / "run.json").write_text('{"started": "2026-02-01T00:00:00+00:00"}')
    found = history(tmp_path)
    assert sorted(len(series.us) for series in found) == [1, 4]
    assert found[-1].commits[0].startswith("2026-02") or found[0].commits[0].startswith("2026-02")


def test_nothing_to_show_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="no folder"):
        history(tmp_path / "none")
    with pytest.raises(UserError, match="no runs"):
        history(tmp_path)
    store(tmp_path, [10.0] * 5)
    with pytest.raises(UserError, match="matches"):
        history(tmp_path, kernels=("bsr.*",))
    monkeypatch.setitem(sys.modules, "ruptures", None)
    with pytest.raises(UserError, match="history") as refusal:
        history(tmp_path)
    assert refusal.value.exit_code == 6


def test_the_verb_writes_a_table_and_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store(tmp_path / "store", [20.0] * 6 + [25.0] * 6)
    out = tmp_path / "out"
    assert main(["history", str(tmp_path / "store"), "--kernel", "csr.*", "--out", str(out)]) == 0
    assert "+25." in capsys.readouterr().out
    assert (out / "history.csv").read_text().count("\n") == 3
    with Image.open(out / "history.png") as image:
        assert min(image.size) > 200
    assert "csr.fake" in (out / "history.svg").read_text() or "<path" in (out / "history.svg").read_text()
    assert main(["history", str(tmp_path / "store"), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data[0]["steps"][0]["at"] == 6
