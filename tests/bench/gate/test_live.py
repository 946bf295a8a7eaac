"""Measuring both sides now: the order, what is measured again, worktrees, and the whole way on a small repository."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from sparsity_roofline.bench import compare_live
from sparsity_roofline.bench.compare_live import Arm, Request, compare_arms, measure_arms
from sparsity_roofline.bench.compare_trees import resolve, top, worktrees
from sparsity_roofline.bench.only import only, read_cells, write_cells
from sparsity_roofline.bench.store import write_records
from sparsity_roofline.bench.timing import gpu
from sparsity_roofline.cli import main
from sparsity_roofline.model.errors import UserError

from ._runs import side


class FakeProcess:
    """Leaves a simulated process's records; slower by what its arm's variable SLOWER says, in the first cells."""

    log: ClassVar[list[str]] = []
    cells: ClassVar[dict[str, int]] = {}

    def __init__(self, arm: Arm, folder: Path, arguments: Sequence[str], environment: dict[str, str]) -> None:
        self.name = f"{arm.name}/{folder.name}"
        self.log.append(f"start {self.name}")
        named = read_cells(arguments[arguments.index("--cells") + 1]) if "--cells" in arguments else None
        seed = sum(map(ord, self.name))
        slower = float(arm.environment.get("SLOWER", 0))
        made = side(arm.name, processes=1, cells=20, seed=seed, spread=0.002, slower=[slower] * 5 + [0.0] * 15)
        records = made.records.drop(columns="process").assign(run_id=self.name)
        if named is not None:
            records = records[[(c, k) in named for c, k in zip(records["case"], records["kernel"], strict=True)]]
        self.cells[self.name] = len(records)
        self.environment = environment
        folder.mkdir(parents=True)
        write_records(records, folder / "records.parquet")

    def release(self) -> None:
        self.log.append(f"release {self.name}")

    def wait(self) -> None:
        self.log.append(f"end {self.name}")

    def close(self) -> None:
        pass


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeProcess]:
    fresh = type("Fresh", (FakeProcess,), {"log": [], "cells": {}})
    monkeypatch.setattr(compare_live, "Process", fresh)
    return fresh


def quiet(text: str) -> None:
    pass


def test_sides_take_turns_and_each_begins_as_often(fake: type[FakeProcess], tmp_path: Path) -> None:
    measure_arms([Arm("a"), Arm("b")], tmp_path, Request((), processes=3), say=quiet)
    assert [line for line in fake.log if "release" in line] == [
        "release a/0-00", "release b/0-00", "release b/0-01", "release a/0-01", "release a/0-02", "release b/0-02",
    ]  # fmt: skip
    # Nothing starts while another measures.
    assert fake.log[1:5] == ["release a/0-00", "end a/0-00", "start b/0-00", "release b/0-00"]


def test_ahead_starts_the_next_while_one_measures_and_releases_it_after(
    fake: type[FakeProcess], tmp_path: Path
) -> None:
    measure_arms([Arm("a"), Arm("b")], tmp_path, Request((), processes=2, ahead=True), say=quiet)
    assert fake.log[:5] == ["start a/0-00", "release a/0-00", "start b/0-00", "end a/0-00", "release b/0-00"]


def test_only_what_is_not_same_is_measured_again(fake: type[FakeProcess], tmp_path: Path) -> None:
    slow = Arm("slow", environment={"SLOWER": "0.1"})
    found = compare_arms(Arm("base"), [slow], tmp_path, Request((), processes=3, looks=2), say=quiet)[0]
    assert found.counts["REGRESSED"] == 5
    assert found.counts["SAME"] == 15
    second = {name: count for name, count in fake.cells.items() if "/1-" in name}
    assert len(second) == 6
    assert set(second.values()) == {5}
    again = found.cells.set_index("verdict")["head_processes"]
    assert set(again["REGRESSED"]) == {6}
    assert set(again["SAME"]) == {3}


def test_several_heads_share_one_base(fake: type[FakeProcess], tmp_path: Path) -> None:
    heads = [Arm("same"), Arm("slow", environment={"SLOWER": "0.2"})]
    found = compare_arms(Arm("base"), heads, tmp_path, Request((), processes=3, looks=1), say=quiet)
    assert [one.counts["REGRESSED"] for one in found] == [0, 5]
    assert sum(line.startswith("start base") for line in fake.log) == 3


def test_a_process_that_measures_nothing_ends_it_with_what_it_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a: no suite 'nonesuch'") as refusal:
        measure_arms([Arm("a"), Arm("b")], tmp_path, Request(("--suite", "nonesuch"), processes=2), say=quiet)
    assert refusal.value.exit_code == 2


def test_too_few_processes_are_refused() -> None:
    with pytest.raises(UserError, match="at least 2"):
        Request((), processes=1)


def test_cells_are_read_back_and_refused_if_malformed(tmp_path: Path) -> None:
    cells = [("a|b", "csr.x"), ("c", "dense.y")]
    write_cells(cells, tmp_path / "cells.json")
    assert read_cells(tmp_path / "cells.json") == cells
    for text in ("{}", '[["a"]]', "[1]", "nonsense", '[["a", 1]]'):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(UserError):
            read_cells(tmp_path / "bad.json")
    with pytest.raises(UserError):
        read_cells(tmp_path / "none.json")


def test_a_plan_is_cut_to_cells() -> None:
    from sparsity_roofline.bench.plan import make_plan
    from sparsity_roofline.bench.suites import load_suite
    from sparsity_roofline.kernels.registry import load_kernels

    plan = make_plan(load_suite("gate"), kernels=load_kernels(), device="cpu")
    wanted = [plan.jobs[3].key, plan.jobs[1].key, ("none", "none")]
    assert [job.key for job in only(plan, wanted).jobs] == [plan.jobs[1].key, plan.jobs[3].key]
    with pytest.raises(UserError, match="none of the 1 cells"):
        only(plan, [("none", "none")])


def test_clocks_settle_for_less_time_where_the_device_is_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(gpu.SETTLE, "0")
    gpu.settle_clocks(0, 3.0)  # would need a GPU otherwise


# -- git


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """An empty repository to stand in; calling it commits files and gives the commit."""
    root = tmp_path / "repository"
    root.mkdir()
    monkeypatch.chdir(root)
    monkeypatch.setenv("SPARSITY_ROOFLINE_HOME", str(tmp_path / "home"))

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", *identity, *arguments], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def commit(files: dict[str, str]) -> str:
        for name, text in files.items():
            (root / name).write_text(text)
        git("add", "-A")
        git("commit", "-qm", "change")
        return git("rev-parse", "HEAD")

    git("init", "-q")
    return commit


def test_worktrees_hold_their_revision_and_go_away(repository: Callable[..., str]) -> None:
    first = repository({"a.txt": "one"})
    repository({"a.txt": "two"})
    Path("a.txt").write_text("three")
    root = top(Path())
    with worktrees(root, [first, "HEAD", "."]) as trees:
        assert [(tree / "a.txt").read_text() for tree in trees] == ["one", "two", "three"]
        kept = trees[0]
    assert not kept.exists()
    listed = subprocess.run(["git", "worktree", "list"], check=True, capture_output=True, text=True).stdout
    assert len(listed.splitlines()) == 1


@pytest.mark.parametrize("revision", ["nonesuch", "-x", "--help", "HEAD:a.txt", ""])
def test_what_is_no_commit_is_refused(repository: Callable[..., str], revision: str) -> None:
    repository({"a.txt": "one"})
    with pytest.raises(UserError, match="revision"):
        resolve(top(Path()), revision)


KERNEL = """
import time
from sparsity_roofline.kernels import convert
from sparsity_roofline.kernels.protocol import BaseKernel, no_step

class Prepared:
    config = {}
    def __init__(self, matrix, case):
        build = convert.dense_operand if case.format == "dense" else convert.stored_as_dense
        self.w = build(matrix, case.dtype, "cpu")
    def launch(self, x, y):
        time.sleep(%s)
        y.copy_(self.w @ x)

class Mine(BaseKernel):
    name, format, devices, dtypes = "csr.mine", "csr", ("cpu",), ("fp32",)
    def prepare(self, matrix, case, device, step=no_step):
        return Prepared(matrix, case)
"""
SUITE = """
devices = ["cpu"]
[timing]
minimum = 6
maximum = 6
seconds = 0.05
[[entries]]
collection = "shapes:32x32"
prune = ["unstructured"]
sparsities = [0.5]
columns = [8]
kernels = ["csr.mine"]
dense = ["dense.torch"]
"""


@pytest.mark.slow
def test_two_commits_of_a_user_s_repository(
    repository: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = repository({"mine.py": KERNEL % 0.02, "suite.toml": SUITE})
    repository({"mine.py": KERNEL % 0.12})
    arguments = ["compare", base, "HEAD", "--worktree", "--suite", "suite.toml", "--kernel", "mine.py:Mine"]
    arguments += ["--device", "cpu", "--processes", "2", "--looks", "1", "--threshold", "0.2"]
    found = tmp_path / "found.json"
    out = tmp_path / "runs"
    code = main([*arguments, "--out", str(out), "--json", str(found), "--junit", str(tmp_path / "junit.xml")])
    told = capsys.readouterr()
    assert code == 1, told
    data: dict[str, Any] = json.loads(found.read_text())
    mine = next(cell for cell in data["cells"] if cell["kernel"] == "csr.mine")
    assert mine["verdict"] == "REGRESSED"
    # A sleep is never shorter than asked for; how much longer it is depends on what else runs.
    assert mine["base_us"] > 20_000
    assert mine["head_us"] > 120_000
    assert mine["change"] == pytest.approx(mine["head_us"] / mine["base_us"] - 1)
    assert sorted(path.name for path in (out / "base").iterdir()) == ["0-00", "0-01"]
    assert main([*arguments, "--out", str(out)]) == 2
    assert "not empty" in capsys.readouterr().err
    assert main(["compare", str(out / "base"), str(out / "head"), "--threshold", "0.2"]) == 1
