"""The gate's evidence: what is planted, and how a finished measurement is judged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sparsity_roofline.bench.evidence import gate, slowed
from sparsity_roofline.bench.evidence.slowed_together import KERNELS, WORK
from sparsity_roofline.bench.matrices import synthetic
from sparsity_roofline.bench.store import write_records
from sparsity_roofline.model.case import Case

from ._runs import side


@pytest.mark.parametrize("planted", ["0", "1"])
def test_each_kernel_plants_its_own_percentage_of_whole_steps(planted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(slowed.VARIABLE, planted)
    matrix = synthetic((64, 6400), "unstructured", 0.9)
    case = Case.of(matrix, 8, "fp16", "dense")
    ratios = [kernel.prepare(matrix, case, "cpu").config["work_ratio"] for kernel in KERNELS]
    wanted = [1 + work / 100 for work in WORK.values()] if planted == "1" else [1.0] * 3
    assert ratios == pytest.approx(wanted)


def left_by_a_run(out: Path, *, planted: bool = True) -> None:
    """Two processes a side over 30 cells that are the same and, for each percentage, 10 that are slower in head."""
    for number, name in enumerate(gate.SIDES):
        runs = []
        for process in range(2):
            seed = 10 * number + process
            same = side(name, seed=seed, processes=1, cells=30, first=process, spread=0.001)
            frames = [same.records]
            for percent in WORK if planted else ():
                share = percent / 100 if name == "head" else 0.0
                slow = side(name, seed=100 * percent + seed, processes=1, cells=10, first=process, slower=share,
                            spread=0.001, kernel=f"dense.slowed.{percent}")  # fmt: skip
                frames.append(slow.records)
            runs.append(pd.concat(frames, ignore_index=True).drop(columns="process"))
        for place, run in enumerate(runs):
            folder = out / gate.RUNS / name / f"0-{place:02d}"
            folder.mkdir(parents=True)
            write_records(run, folder / "records.parquet")


def test_a_finished_measurement_is_judged_alike_from_its_runs_and_from_what_is_kept(tmp_path: Path) -> None:
    left_by_a_run(tmp_path)
    found = gate.judge(tmp_path)
    assert found["processes"] == [2, 2]
    assert [row["sides"] for row in found["same"]] == ["1 and 2 against 3 and 4", "1 and 3 against 2 and 4",
                                                       "1 and 4 against 2 and 3"]  # fmt: skip
    assert all(row["cells"] == 30 and row["REGRESSED"] == row["IMPROVED"] == 0 for row in found["same"])
    by_percent = {row["percent"]: row for row in found["planted"]}
    assert set(by_percent) == set(WORK)
    assert by_percent[10]["found"] == by_percent[10]["cells"] == 10
    assert by_percent[3]["median_change"] == pytest.approx(0.03, abs=0.005)
    assert all(row["found_of_allowed"] <= row["allowed"] <= row["cells"] for row in found["planted"])
    assert (tmp_path / "planted-3.json").exists()
    for run in (tmp_path / gate.RUNS).rglob("*.parquet"):
        run.unlink()
    for folder in sorted((tmp_path / gate.RUNS).rglob("*"), reverse=True):
        folder.rmdir()
    (tmp_path / gate.RUNS).rmdir()
    assert gate.judge(tmp_path) == found
    assert "found in 10 of 10 cells" in gate.told(found)


def test_noise_that_hides_a_slowdown_does_not_count_against_the_gate(tmp_path: Path) -> None:
    left_by_a_run(tmp_path)
    for run in (tmp_path / gate.RUNS).rglob("*.parquet"):
        frame = pd.read_parquet(run)
        noisy = frame["kernel"].eq("dense.slowed.3") & frame["matrix"].isin(["net/m0", "net/m1"])
        rng = np.random.default_rng(len(str(run)) + sum(map(ord, str(run.parent))))
        frame.loc[noisy, ["time_ns", "time_ci_low_ns", "time_ci_high_ns"]] *= np.exp(rng.normal(0, 0.1))
        write_records(frame, run)
    row = gate.judge(tmp_path)["planted"][0]
    assert row["cells"] == 10
    assert row["allowed"] <= 8


def test_what_is_committed_of_an_h100_is_judged_as_its_page_says(tmp_path: Path) -> None:
    kept = Path(__file__).resolve().parents[3] / "results/h100-sxm/gate"
    for name in gate.SIDES:
        shutil.copy(kept / f"{name}.parquet", tmp_path)
    found = gate.judge(tmp_path)
    told = json.loads((kept / "gate.json").read_text())
    assert [(row["cells"], row["REGRESSED"], row["IMPROVED"]) for row in found["same"]] == [
        (120, 0, 1), (120, 0, 0), (120, 0, 0),
    ]  # fmt: skip
    for row, before in zip(found["same"], told["same"], strict=True):
        assert row["SAME"] == pytest.approx(before["SAME"], abs=2)
    for row, before in zip(found["simulated_slowdown"], told["simulated_slowdown"], strict=True):
        assert row["found"] == pytest.approx(before["found"], abs=0.03)
        assert row["false"] == 0.0
    assert found["planted"] == []


def test_what_is_there_is_not_measured_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x").write_text("")
    assert gate.main([str(tmp_path), "--device", "cpu"]) == 2
    assert "not empty" in capsys.readouterr().err
    assert gate.main([str(tmp_path / "none"), "--judge"]) == 2
