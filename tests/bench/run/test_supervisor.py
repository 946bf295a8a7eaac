"""The supervisor alone, with a worker that answers at once: resume, budget, full disks, lost devices."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sparsity_roofline.bench.child import ChildDied
from sparsity_roofline.bench.run import Event, run
from sparsity_roofline.bench.store import RunFolder, read_records
from sparsity_roofline.model.errors import UserError

COLUMNS = [1, 2, 3, 4]


@pytest.fixture
def plan(plan_of):
    return plan_of(["csr.fake_a", "csr.fake_z", "csr.fake_refusing"], columns=COLUMNS)


@pytest.fixture
def whole(plan, fake_child, tmp_path: Path) -> bytes:
    """records.jsonl of a finished run of ``plan``, and its run.json beside in ``tmp_path / 'whole'``."""
    run(plan, tmp_path / "whole")
    fake_child.jobs.clear()
    return (tmp_path / "whole" / "records.jsonl").read_bytes()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 20_000), torn=st.sampled_from([b"", b"\x00\x00\x00", b'{"status": "ok"', b"{}\n", b"\n"]))
def test_any_prefix_resumes_to_the_same_set(plan, fake_child, whole, tmp_path_factory, cut, torn) -> None:
    fake_child.jobs.clear()
    folder = tmp_path_factory.mktemp("prefix") / "run"
    folder.mkdir()
    source = tmp_path_factory.getbasetemp()
    prefix = whole[: cut % (len(whole) + 1)]
    kept = prefix[: prefix.rfind(b"\n") + 1]
    (folder / "records.jsonl").write_bytes(prefix + (torn if prefix.endswith(b"\n") or not prefix else b""))
    meta = next(source.glob("**/whole/run.json"))
    (folder / "run.json").write_bytes(meta.read_bytes())
    summary = run(plan, folder, resume=True)
    records = read_records(folder)
    assert sorted(zip(records.case, records.kernel, strict=True)) == sorted(job.key for job in plan.jobs)
    assert (folder / "records.jsonl").read_bytes().startswith(kept)
    done = {(r["case"], r["kernel"]) for r in map(json.loads, kept.splitlines())}
    assert not done & set(fake_child.jobs), "a finished job was run again"
    assert summary.left == 0
    assert read_records(folder / "records.parquet").equals(records)


def test_a_finished_run_resumes_to_nothing(plan, fake_child, tmp_path: Path) -> None:
    run(plan, tmp_path / "run")
    before = (tmp_path / "run" / "records.jsonl").read_bytes()
    started = fake_child.started
    summary = run(plan, tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "records.jsonl").read_bytes() == before
    assert fake_child.started == started
    assert summary.done == len(plan.jobs)


def test_new_run_in_a_used_folder_is_refused(plan, fake_child, tmp_path: Path) -> None:
    run(plan, tmp_path / "run")
    with pytest.raises(UserError, match=r"is not empty.*--resume"):
        run(plan, tmp_path / "run")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("x")
    for resume in (False, True):
        with pytest.raises(UserError, match="choose another folder"):
            run(plan, tmp_path / "other", resume=resume)
    assert [p.name for p in (tmp_path / "other").iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("made", [False, True])
def test_resume_into_nothing_is_a_mistyped_folder(plan, fake_child, tmp_path: Path, made: bool) -> None:
    if made:
        (tmp_path / "rnu").mkdir()
    with pytest.raises(UserError, match=r"rnu holds no run to go on with: check --out") as error:
        run(plan, tmp_path / "rnu", resume=True)
    assert error.value.exit_code == 2
    assert list(tmp_path.glob("rnu/*")) == []


def test_a_torn_line_is_told(plan, fake_child, tmp_path: Path) -> None:
    run(plan, tmp_path / "run")
    log = tmp_path / "run" / "records.jsonl"
    log.write_bytes(log.read_bytes()[:-30])
    assert read_records(tmp_path / "run").attrs["torn"] is True
    summary = run(plan, tmp_path / "run", resume=True)
    assert any("torn by a kill" in note for note in summary.notes)
    assert read_records(tmp_path / "run").attrs["torn"] is False


def test_withdrawn_records_leave_no_trace(plan, fake_child, tmp_path: Path) -> None:
    run(plan, tmp_path / "run")
    log = tmp_path / "run" / "records.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    meta = json.loads((tmp_path / "run" / "run.json").read_text())
    with RunFolder.open(tmp_path / "run", meta, resume=True) as folder:
        gone = {plan.jobs[0].key, plan.jobs[3].key, ("no", "such")}
        assert folder.withdraw(gone) == 2
        assert [line for i, line in enumerate(lines) if i not in (0, 3)] == log.read_bytes().splitlines(keepends=True)
        assert gone & folder.done() == set()
        with pytest.raises(UserError, match="being written by another process"):
            RunFolder.open(tmp_path / "run", meta, resume=True)
    assert run(plan, tmp_path / "run", resume=True).left == 0
    assert len(read_records(tmp_path / "run")) == len(plan.jobs)


def test_another_plan_version_or_device_is_refused(plan, plan_of, fake_child, tmp_path: Path) -> None:
    run(plan, tmp_path / "run")
    with pytest.raises(UserError, match="another plan"):
        run(plan_of(["csr.fake_a"], columns=[5]), tmp_path / "run", resume=True)
    meta = json.loads((tmp_path / "run" / "run.json").read_text())
    log = tmp_path / "run" / "records.jsonl"
    log.write_bytes(log.read_bytes()[:-1])  # something is left to do
    (tmp_path / "run" / "run.json").write_text(json.dumps({**meta, "version": "0.0.1"}))
    with pytest.raises(UserError, match=r"another version of the program: 0.0.1 there"):
        run(plan, tmp_path / "run", resume=True)
    (tmp_path / "run" / "run.json").write_text(json.dumps({**meta, "device": "NVIDIA H100"}))
    with pytest.raises(UserError, match="was made on NVIDIA H100, this is Fake CPU"):
        run(plan, tmp_path / "run", resume=True)


def test_two_processes_cannot_write_one_run(plan, fake_child, tmp_path: Path) -> None:
    run(plan, tmp_path / "run")
    meta = json.loads((tmp_path / "run" / "run.json").read_text())
    with (
        RunFolder.open(tmp_path / "run", meta, resume=True),
        pytest.raises(UserError, match="being written by another process"),
    ):
        run(plan, tmp_path / "run", resume=True)
    run(plan, tmp_path / "run", resume=True)  # free again


def test_budget_leaves_the_rest_for_resume(plan, fake_child, tmp_path: Path) -> None:
    clock = iter(range(10_000))

    def slow(event: Event) -> None:
        if event.kind == "finished" and event.record is not None and event.record.status == "ok":
            seen.append(event)

    seen: list[Event] = []
    import sparsity_roofline.bench.supervisor as module

    real = module.time.monotonic
    module.time.monotonic = lambda: float(next(clock))  # every look at the clock takes a second
    try:
        summary = run(plan, tmp_path / "run", budget_s=12, on_event=slow)
    finally:
        module.time.monotonic = real
    assert 0 < summary.done < len(plan.jobs)
    assert summary.left == len(plan.jobs) - summary.done
    assert any("jobs left; go on with --resume" in note for note in summary.notes)
    assert summary.exit_code == 0
    assert run(plan, tmp_path / "run", resume=True).left == 0


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_is_one_line_and_resumes(plan, fake_child, tmp_path: Path, monkeypatch, code: int) -> None:
    real, calls = os.write, 0

    def write(fd: int, data: bytes) -> int:
        nonlocal calls
        calls += 1
        if calls == 4:
            return real(fd, bytes(data)[:100])  # part of a record still fits
        if calls > 4:
            raise OSError(code, os.strerror(code))
        return real(fd, data)

    with monkeypatch.context() as patch:
        patch.setattr("sparsity_roofline.bench.folder.os.write", write)
        with pytest.raises(UserError, match=r"no space left to write .*records.jsonl.*--resume"):
            run(plan, tmp_path / "run")
    assert (tmp_path / "run" / "records.jsonl").read_bytes().endswith(b"}\n")
    assert len(read_records(tmp_path / "run")) == 3
    assert run(plan, tmp_path / "run", resume=True).left == 0
    assert len(read_records(tmp_path / "run")) == len(plan.jobs)


def test_file_size_limit_behaves_like_a_full_disk(tmp_path: Path, make_record, plan) -> None:
    """The real thing, in a process of its own: the system refuses to let the file grow."""
    script = (
        "import resource, sys, importlib.util\n"
        f"sys.path[:0] = {[p for p in sys.path if p]!r}\n"
        f"spec = importlib.util.spec_from_file_location('c', {str(Path(__file__).with_name('conftest.py'))!r})\n"
        "c = importlib.util.module_from_spec(spec); spec.loader.exec_module(c)\n"
        "from sparsity_roofline.bench.folder import RunFolder\n"
        "from sparsity_roofline.model.errors import UserError\n"
        "plan = c.build_plan(['csr.fake_a'], columns=range(1, 40))\n"
        f"folder = RunFolder.open({str(tmp_path / 'run')!r}, {{'plan': 'x'}})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, resource.RLIM_INFINITY))\n"
        "try:\n"
        "    for job in plan.jobs: folder.append(c.ok_record(job.case, job.kernel))\n"
        "except UserError as error: print(len(folder.records), error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    count, message = done.stdout.split(" ", 1)
    assert "no space left" in message
    assert len(read_records(tmp_path / "run")) == int(count) > 3
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 20000


def test_lost_device_costs_its_row_and_a_new_worker(plan, fake_child, tmp_path: Path, make_record) -> None:
    lost = next(job for job in plan.jobs if job.kernel == "csr.fake_a")
    record = make_record(lost.case, lost.kernel).to_dict()
    for name in [n for n, v in record.items() if n.startswith("time_") or n in ("span_ns", "samples")]:
        record[name] = None
    record |= {"status": "error", "reason": "an illegal memory access", "stop_reason": None, "kernels_per_call": None}
    fake_child.script["csr.fake_a"] = {"kind": "record", "record": record, "wall_s": 0.1, "lost": True}
    events: list[Event] = []
    plan_jobs = [j for j in plan.jobs if j.case.N == lost.case.N]
    from dataclasses import replace

    run(replace(plan, jobs=plan_jobs), tmp_path / "run", on_event=events.append)
    assert fake_child.started == 2
    assert [e.text for e in events if e.kind == "restarted"] == [
        "the device context was lost: an illegal memory access"
    ]


def test_deaths_in_a_row_do_not_end_the_run(plan, fake_child, tmp_path: Path) -> None:
    fake_child.script["csr.fake_a"] = ChildDied("worker killed by SIGABRT", "terminate called\nwhat(): bad")
    summary = run(plan, tmp_path / "run")
    assert summary.counts["error"] == len(COLUMNS)
    assert summary.left == 0
    assert set(read_records(tmp_path / "run").query("status == 'error'").reason) == {"worker killed by SIGABRT"}


def test_unsupported_rows_need_no_worker_but_carry_the_model(plan, fake_child, tmp_path: Path) -> None:
    run(plan, tmp_path / "run")
    records = read_records(tmp_path / "run")
    refused = records[records.status == "unsupported"]
    assert set(refused.kernel) == {"csr.fake_refusing"}
    assert refused.sol_paper_measured_ns.notna().all()
    assert refused.ceilings_datasheet.isna().all()
    assert "csr.fake_refusing" not in {kernel for _, kernel in fake_child.jobs}


def test_an_interrupt_between_write_and_bookkeeping_keeps_the_record(plan, fake_child, tmp_path: Path) -> None:
    seen = 0

    def stop(event: Event) -> None:
        nonlocal seen
        seen += event.kind == "finished"
        if event.kind == "finished" and seen == 3:
            raise KeyboardInterrupt

    summary = run(plan, tmp_path / "run", on_event=stop)
    assert summary.exit_code == 130
    assert summary.done == 3
    assert len(read_records(tmp_path / "run" / "records.parquet")) == 3
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_eta_follows_what_was_seen(plan, fake_child, tmp_path: Path) -> None:
    etas: list[float] = []
    run(plan, tmp_path / "run", on_event=lambda e: etas.append(e.eta_s or 0.0))
    assert etas[0] == pytest.approx(sum(job.estimate_s for job in plan.jobs))
    assert etas[-1] == 0.0
    assert etas[len(etas) // 2] < etas[0] / 2  # the fake worker is far quicker than estimated


def test_ceilings_and_environment_are_kept(plan, fake_child, tmp_path: Path) -> None:
    run(plan, tmp_path / "run")
    ceilings = json.loads((tmp_path / "run" / "ceilings.json").read_text())
    assert ceilings["datasheet"] is None
    assert ceilings["measured"]["dram_bandwidth"] == 1e10
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["hash"] == "env"
    meta = json.loads((tmp_path / "run" / "run.json").read_text())
    assert meta["summary"]["counts"]["ok"] == 12
    assert meta["plan"] == plan.identity
    assert (meta["timer"], meta["regime"]["l2"]) == ("monotonic", "cold-clean")
    assert meta["finished"]


def test_a_resumed_run_adds_what_it_finds_changed(plan, fake_child, tmp_path: Path) -> None:
    run(plan, tmp_path / "run")
    log = tmp_path / "run" / "records.jsonl"
    log.write_bytes(log.read_bytes()[:-1])  # the last record is torn
    first = (tmp_path / "run" / "environment.json").read_bytes()
    send = fake_child.send

    def other(self, message) -> None:
        send(self, message)
        if "case" not in message:
            self._answers[-1]["environment_hash"] = "env2"

    fake_child.send = other
    run(plan, tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "environment.json").read_bytes() == first
    assert json.loads((tmp_path / "run" / "environment-env2.json").read_text())["hash"] == "env2"
    assert not list((tmp_path / "run").glob("ceilings-*"))


def test_kept_ceilings_may_be_replaced_before_the_first_record_only(plan, fake_child, tmp_path: Path) -> None:
    """Neither a resumed run nor a second worker of one sitting may come to other ceilings than its records have."""
    greetings: list[bool] = []
    send = fake_child.send

    def listen(self, message):
        if "case" not in message:
            greetings.append(message["fresh"])
        send(self, message)

    fake_child.send = listen
    fake_child.script["csr.fake_z"] = ChildDied("killed", "")
    run(plan, tmp_path / "run")
    assert greetings[0]
    assert len(greetings) > 1
    assert not any(greetings[1:])
    log = tmp_path / "run" / "records.jsonl"
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:3]))
    fake_child.script.clear()
    greetings.clear()
    run(plan, tmp_path / "run", resume=True)
    assert greetings == [False]
