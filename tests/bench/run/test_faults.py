"""A real worker process and kernels that fail in every way: each costs its own row, never the run."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sparsity_roofline.bench.run import Event, run
from sparsity_roofline.bench.store import read_records, read_samples
from sparsity_roofline.model.record import TIMING_FIELDS, Record


@pytest.fixture(scope="module")
def faulty(plan_of, tmp_path_factory):
    """One run over every fault; 8 columns, one matrix."""
    folder = tmp_path_factory.mktemp("faulty") / "run"
    plan = plan_of(["csr.fake_a", "csr.fault_*", "csr.fake_refusing", "csr.fake_z"])
    events: list[Event] = []
    os.environ["SPARSITY_ROOFLINE_HOME"] = str(folder.parent / "home")
    try:
        summary = run(
            plan, folder, case_timeout_s=4, on_event=events.append, argv=["x", "/home/someone/a"], calibrate=False
        )
    finally:
        del os.environ["SPARSITY_ROOFLINE_HOME"]
    return folder, plan, summary, events, read_records(folder).set_index("kernel")


EXPECTED = {
    "dense.fake": ("ok", ""),
    "csr.fake_a": ("ok", ""),
    "csr.fault_wrong": ("incorrect", r"exceeds"),
    "csr.fault_unwritten": ("incorrect", r"8 of 4096 elements are NaN"),
    "csr.fault_stale": ("incorrect", r"^with other input: .*exceeds"),
    "csr.fault_later": ("incorrect", r"^after timing: .*exceeds"),
    "csr.fault_segv": ("error", r"worker killed by SIGSEGV"),
    "csr.fault_hang": ("timeout", r"no result after 4 s"),
    "csr.fault_exit": ("error", r"exit code 7"),
    "csr.fault_raise": ("error", r"^ValueError: tile of tile.cu is odd$"),
    "csr.fault_memory": ("out_of_memory", r"allocate"),
    "csr.fault_interpreted": ("unsupported", r"interpreter"),
    "csr.fake_refusing": ("unsupported", r"multiple of 1000"),
    "csr.fake_z": ("ok", ""),
}


def test_every_fault_is_one_row(faulty) -> None:
    *_, records = faulty
    assert set(records.index) == set(EXPECTED)
    for kernel, (status, reason) in EXPECTED.items():
        assert records.status[kernel] == status, (kernel, records.reason[kernel])
        assert re.search(reason, records.reason[kernel]), records.reason[kernel]


def test_times_only_where_the_check_passed(faulty) -> None:
    folder, *_, records = faulty
    good = records[records.status == "ok"]
    assert good[list(TIMING_FIELDS)].notna().all().all()
    assert (good.time_ns > 0).all()
    assert (good.error_rms <= good.tolerance_rms).all()
    bad = records[records.status != "ok"]
    assert bad[list(TIMING_FIELDS)].isna().all().all()
    assert set(read_samples(folder).kernel) == set(good.index)
    assert records.error_max["csr.fault_wrong"] > records.tolerance_max["csr.fault_wrong"]


def test_case_columns_are_the_loaded_matrix(faulty) -> None:
    *_, records = faulty
    row = records.loc["csr.fake_a"]
    assert row.nnz == round(512 * 512 * 0.1)
    assert row.digest
    assert row.max_row_nnz >= row.nnz / 512
    assert json.loads(row.setup_ns).keys() == {"convert", "first launch"}
    assert json.loads(row.kernel_config) == {"tile": 16}
    assert records.loc["dense.fake"].nnz == 512 * 512


def test_worker_is_replaced_once_per_death(faulty) -> None:
    *_, events, _ = faulty
    assert sum(e.kind == "ready" for e in events) == 4  # at first, after the crash, the hang and the exit
    assert sum(e.kind == "restarted" for e in events) == 3
    assert events[0].kind == "planned"
    assert [e.done for e in events if e.kind == "finished"] == list(range(1, len(EXPECTED) + 1))


def test_summary_and_exit_code(faulty) -> None:
    _, plan, summary, *_ = faulty
    assert summary.exit_code == 3
    assert (summary.planned, summary.done, summary.left) == (len(plan.jobs), len(plan.jobs), 0)
    assert summary.counts == {"ok": 3, "incorrect": 4, "error": 3, "timeout": 1, "out_of_memory": 1, "unsupported": 2}


def test_nothing_written_names_a_path_host_or_user(faulty) -> None:
    folder, *_ = faulty
    for path in folder.iterdir():
        text = path.read_bytes().decode(errors="replace")
        assert "/home/" not in text, path
        assert str(Path(__file__).parent) not in text, path
        assert str(Path.home()) + "/" not in text, path
    assert json.loads((folder / "run.json").read_text())["argv"] == ["x", "a"]


def test_records_keep_their_own_rules(faulty) -> None:
    folder, *_ = faulty
    for line in (folder / "records.jsonl").read_text().splitlines():
        Record.from_dict(json.loads(line)).check()


# A shell starts its background jobs with SIGINT ignored, and so would be the child of tests that run in one.
SUPERVISE = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path[:0] = {path!r}
sys.argv = ["supervise"]
import importlib.util
spec = importlib.util.spec_from_file_location("c", {conftest!r}); c = importlib.util.module_from_spec(spec)
spec.loader.exec_module(c)
from sparsity_roofline.bench.run import run
plan = c.build_plan(["csr.fake_slow"], columns=[1, 2, 3, 4, 5])
print(run(plan, {folder!r}, calibrate=False, on_event=lambda e: print(e.kind, flush=True)).exit_code)
"""


def _supervisor(folder: Path) -> subprocess.Popen[str]:
    conftest = str(Path(__file__).with_name("conftest.py"))
    code = SUPERVISE.format(path=[p for p in sys.path if p], conftest=conftest, folder=str(folder))
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def _await_lines(log: Path, count: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if log.exists() and log.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.005)
    raise AssertionError(f"{count} records did not come: exit {process.poll()}")


def _workers(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"sparsity_roofline.bench.worker" in words and str(parent).encode() in words:
            found.append(int(entry.name))
    return found


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")")[-1].split()[0] not in "ZX"  # ended, not yet reaped
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_sigkill_of_the_supervisor_loses_only_the_case_in_flight(plan_of, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    log = folder / "records.jsonl"
    with _supervisor(folder) as process:
        _await_lines(log, 3, process)
        workers = _workers(process.pid)
        process.send_signal(signal.SIGKILL)
    assert len(workers) == 1
    deadline = time.monotonic() + 10
    while _alive(workers[0]) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _alive(workers[0]), "the worker outlived its supervisor"
    before = log.read_bytes()

    plan = plan_of(["csr.fake_slow"], columns=[1, 2, 3, 4, 5])
    summary = run(plan, folder, resume=True, calibrate=False)
    assert log.read_bytes().startswith(before[: before.rfind(b"\n") + 1]), "a finished record was changed"
    records = read_records(folder)
    assert sorted(zip(records.case, records.kernel, strict=True)) == sorted(job.key for job in plan.jobs)
    assert summary.exit_code == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_ends_cleanly(plan_of, tmp_path: Path, number: signal.Signals) -> None:
    folder = tmp_path / "run"
    with _supervisor(folder) as process:
        _await_lines(folder / "records.jsonl", 2, process)
        process.send_signal(number)
        out, _ = process.communicate(timeout=60)
    assert out.split()[-1] == "130"
    assert not _workers(process.pid)
    parquet, lines = read_records(folder / "records.parquet"), read_records(folder / "records.jsonl")
    assert parquet.equals(lines)
    assert 2 <= len(parquet) < 10
    assert json.loads((folder / "run.json").read_text())["summary"]["interrupted"] is True


def test_a_worker_that_cannot_start_is_one_clear_line(plan_of, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sparsity_roofline.model.errors import UserError

    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(UserError, match="worker process cannot be started: worker ended with exit code 1") as error:
        run(plan_of(["csr.fake_a"]), tmp_path / "run", calibrate=False)
    assert error.value.exit_code == 6
