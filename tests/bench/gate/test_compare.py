"""From records to a comparison: clocks, refusals, lost cells, exit codes, one process a side, runs on disk."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from sparsity_roofline.bench.compare import Comparison, Rule, Side, compare, compare_sides, read_side
from sparsity_roofline.bench.store import write_records
from sparsity_roofline.cli import main
from sparsity_roofline.model.errors import UserError

from ._runs import both, side

ROOT = Path(__file__).resolve().parents[3]


def few(label: str = "base", **more: object) -> Side:
    return side(label, **{"cells": 6, "seed": 1 if label == "base" else 2, "spread": 0.001, **more})


def with_status(one: Side, cell: int, status: str, reason: str = "why") -> Side:
    records = one.records.copy()
    hit = records["matrix"] == f"net/m{cell}"
    records.loc[hit, ["status", "reason"]] = [status, reason]
    records.loc[hit, ["time_ns", "time_ci_low_ns", "time_ci_high_ns"]] = float("nan")
    return Side(one.label, records)


def test_a_slower_cell_comes_first_with_its_figures() -> None:
    slower = [0, 0, 0.1, 0, -0.2, 0]
    found = compare_sides(few(), few("head", slower=slower))
    worst = found.cells.iloc[0]
    assert (worst["matrix"], worst["verdict"], worst["kernel"]) == ("net/m2", "REGRESSED", "csr.fake")
    assert worst["change"] == pytest.approx(0.1, abs=0.01)
    assert worst["low"] < worst["change"] < worst["high"]
    assert (worst["base_processes"], worst["head_processes"]) == (5, 5)
    assert worst["head_us"] == pytest.approx(55, rel=0.01)
    assert found.counts == {"REGRESSED": 1, "IMPROVED": 1, "SAME": 4, "INCONCLUSIVE": 0}
    assert found.exit_code == 1
    assert compare_sides(few(), few("head", slower=-0.2)).exit_code == 0


# -- clocks


def test_a_slower_clock_explains_a_slower_kernel() -> None:
    found = compare_sides(few(), few("head", slower=0.04, clock=1980 / 1.04))
    assert set(found.cells["verdict"]) == {"INCONCLUSIVE"}
    assert "clock moved" in found.cells["reason"].iloc[0]
    assert found.cells["cycles"].abs().max() < 0.01
    assert found.exit_code == 5


def test_a_regression_that_holds_in_cycles_too_is_one() -> None:
    found = compare_sides(few(), few("head", slower=0.10, clock=1980 / 1.04))
    assert set(found.cells["verdict"]) == {"REGRESSED"}


def test_a_faster_clock_hides_no_slower_kernel() -> None:
    found = compare_sides(few(), few("head", slower=0.0, clock=1980 * 1.05))
    assert set(found.cells["verdict"]) == {"INCONCLUSIVE"}
    assert found.exit_code == 5


def test_clocks_that_kept_still_or_were_not_read_are_not_asked() -> None:
    assert set(compare_sides(few(), few("head", clock=1980 * 1.005)).cells["verdict"]) == {"SAME"}
    unread = compare_sides(few(clock=float("nan")), few("head", clock=float("nan"), slower=0.1))
    assert set(unread.cells["verdict"]) == {"REGRESSED"}
    assert unread.cells["cycles"].isna().all()


def test_a_throttled_process_has_to_agree_in_cycles() -> None:
    throttled = compare_sides(few(), few("head", slower=0.05, clock=1980 / 1.05, clock_state="throttled"))
    assert set(throttled.cells["verdict"]) == {"INCONCLUSIVE"}


# -- what may be compared


@pytest.mark.parametrize(
    ("column", "value", "word"),
    [
        ("device", "Other GPU", "device"),
        ("timer", "cuda-events", "timer"),
        ("regime_l2", "hot", "cache state"),
        ("regime_clocks", "fixed", "clock regime"),
        ("threads", 4, "threads"),
    ],
)
def test_sides_measured_unlike_are_refused(column: str, value: object, word: str) -> None:
    with pytest.raises(UserError, match=word) as refusal:
        compare_sides(few(), few("head", **{column: value}))
    assert refusal.value.exit_code == 4


def test_a_side_that_mixes_conditions_is_refused() -> None:
    mixed = both(few(processes=2), few(processes=2, first=2, timer="cuda-events"))
    with pytest.raises(UserError, match="timer"):
        compare_sides(mixed, mixed)


def test_two_devices_of_one_name_are_refused() -> None:
    base, head = few(), few("head")
    base, head = Side("a", base.records, frozenset({"1" * 12})), Side("b", head.records, frozenset({"2" * 12}))
    with pytest.raises(UserError, match="different devices") as refusal:
        compare_sides(base, head)
    assert refusal.value.exit_code == 4


def test_other_software_is_told_not_refused() -> None:
    base = Side("a", few().records, facts={"torch": frozenset({"2.11"}), "numpy": frozenset({"2"})})
    head = Side("b", few("head").records, facts={"torch": frozenset({"2.12"}), "numpy": frozenset({"2"})})
    assert compare_sides(base, head).notes == ["torch differs: 2.11 in a, 2.12 in b"]


def test_nothing_in_common_is_refused() -> None:
    other = few("head")
    other.records["case"] += "x"
    with pytest.raises(UserError, match="in common") as refusal:
        compare_sides(few(), other)
    assert refusal.value.exit_code == 2


# -- too little, and what no longer runs


def test_one_process_a_side_decides_nothing() -> None:
    found = compare_sides(few(processes=1), few("head", processes=1, slower=0.5))
    assert set(found.cells["verdict"]) == {"INCONCLUSIVE"}
    assert "several fresh processes" in found.notes[-1]
    assert found.exit_code == 5


@pytest.mark.parametrize(
    ("status", "code"),
    [("incorrect", 3), ("invalid_environment", 4), ("error", 1), ("timeout", 1), ("unsupported", 0)],
)
def test_what_no_longer_runs(status: str, code: int) -> None:
    found = compare_sides(few(), with_status(few("head"), 3, status))
    assert found.exit_code == code
    assert list(found.lost["status"]) == ([status] if code else [])
    assert len(found.cells) == 5


def test_a_cell_that_failed_in_some_processes_is_judged_by_the_others() -> None:
    head = few("head")
    bad = head.records["process"].isin([0, 1]) & (head.records["matrix"] == "net/m0")
    head.records.loc[bad, "status"] = "error"
    found = compare_sides(few(), head)
    assert found.lost.empty
    assert found.cells.set_index("matrix").loc["net/m0", "head_processes"] == 3


def test_an_open_cell_decides_the_exit_code_only_if_it_may_be_slower() -> None:
    noisy = compare_sides(few(spread=0.05), few("head", spread=0.05))
    assert set(noisy.cells["verdict"]) == {"INCONCLUSIVE"}
    assert noisy.exit_code == 5
    cells = noisy.cells.assign(high=noisy.cells["threshold"] / 2)
    harmless = Comparison(cells, noisy.lost, "a", "b", noisy.rule)
    assert harmless.exit_code == 0


# -- on disk


def test_runs_are_read_from_files_folders_and_folders_of_folders(tmp_path: Path) -> None:
    for label in ("base", "head"):
        records = few(label, processes=3, slower=0.1 if label == "head" else 0.0).records.drop(columns="process")
        write_records(records, tmp_path / f"{label}.parquet")
        for name, run in records.groupby("run_id"):
            folder = tmp_path / label / str(name)
            folder.mkdir(parents=True)
            write_records(run, folder / "records.parquet")
            device = {"uuid_hash": "1" * 12, "driver": "580"}
            (folder / "environment.json").write_text(json.dumps({"device": device, "software": {"torch": label}}))
    files = compare(tmp_path / "base.parquet", tmp_path / "head.parquet")
    folders = compare(tmp_path / "base", tmp_path / "head")
    for found in (files, folders):
        assert found.counts["REGRESSED"] == 6
        assert set(found.cells["base_processes"]) == {3}
    pd.testing.assert_frame_equal(files.cells, folders.cells)
    assert folders.notes == ["torch differs: base in base, head in head"]
    assert (files.base, folders.head) == ("base.parquet", "head")


def test_nothing_there_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(tmp_path / "none"), str(tmp_path)]) == 2
    assert "add --worktree" in capsys.readouterr().err
    assert main(["compare", str(tmp_path), str(tmp_path)]) == 2
    assert "holds no run" in capsys.readouterr().err
    with pytest.raises(UserError):
        read_side([])


def test_the_same_binary_measured_twice_on_an_h100_is_not_called_a_regression() -> None:
    found = compare(ROOT / "results/h100-sxm/timing/a", ROOT / "results/h100-sxm/timing/b", Rule())
    assert len(found.cells) == 709
    assert found.counts["REGRESSED"] == found.counts["IMPROVED"] == 0


def test_the_command_line_leaves_with_the_gate_s_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for label, slower in (("base", 0.0), ("head", [0.2, 0, 0, 0, 0, 0]), ("timer", 0.0)):
        more = {"timer": "cuda-events"} if label == "timer" else {}
        records = few(label, slower=slower, **more).records
        write_records(records.drop(columns="process"), tmp_path / f"{label}.parquet")
    base, head, timer = (str(tmp_path / f"{name}.parquet") for name in ("base", "head", "timer"))
    assert main(["compare", base, base]) == 0
    assert "6 SAME" in capsys.readouterr().out
    assert main(["compare", base, head, "--json", "-"]) == 1
    assert json.loads(capsys.readouterr().out)["counts"]["REGRESSED"] == 1
    assert main(["compare", base, timer]) == 4
    assert "timer is cupti-kineto" in capsys.readouterr().err
    assert main(["compare", base, head, "--threshold", "0.5"]) == 0
    assert main(["compare", base, head, "--threshold", "2"]) == 2
