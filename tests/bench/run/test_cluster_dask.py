"""A run on real Dask workers of the CPU: killed workers, a killed run, a killed scheduler; no case lost or doubled."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sparsity_roofline.bench.run import Event, run
from sparsity_roofline.bench.store import read_records
from sparsity_roofline.model.errors import UserError

distributed = pytest.importorskip("distributed")

from sparsity_roofline.bench.cluster_dask import open_cluster  # noqa: E402 - after the check for Dask

# Dask's own, on its way out.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@dataclass
class Cluster:
    """A scheduler and two workers as somebody would start them by hand."""

    address: str
    scheduler: subprocess.Popen[bytes]
    workers: list[subprocess.Popen[bytes]]

    def worker_pids(self) -> list[int]:
        with distributed.Client(self.address, set_as_default=False) as client:
            return sorted(client.run(os.getpid).values())


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("dask")
    file = folder / "scheduler.json"
    environment = {**os.environ, "FAKE_SLOW_S": "0.05", "SPARSITY_ROOFLINE_HOME": str(folder / "home")}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment}
    base = [sys.executable, "-m", "distributed.cli."]
    scheduler = subprocess.Popen(
        [*base[:2], base[2] + "dask_scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)],
        **quiet,
    )
    words = ["--scheduler-file", str(file), "--nthreads", "1", "--no-dashboard", "--local-directory", str(folder)]
    workers = [subprocess.Popen([*base[:2], base[2] + "dask_worker", *words], **quiet) for _ in range(2)]
    try:
        deadline = time.monotonic() + 60
        while not file.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        with distributed.Client(scheduler_file=str(file), set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)
            address = client.scheduler.address
        yield Cluster(address, scheduler, workers)
    finally:
        for process in [*workers, scheduler]:
            process.terminate()
        for process in [*workers, scheduler]:
            process.wait(timeout=30)


@pytest.fixture
def plan(plan_of):
    return plan_of(["csr.fake_slow"], columns=list(range(1, 9)))


def check(folder: Path, plan) -> None:
    records = read_records(folder)
    assert sorted(zip(records.case, records.kernel, strict=True)) == sorted(job.key for job in plan.jobs)
    assert set(records.status) == {"ok"}
    assert read_records(folder / "records.parquet").equals(records)


def test_a_killed_worker_costs_nothing(cluster, plan, tmp_path: Path) -> None:
    pids = cluster.worker_pids()
    assert len(pids) == 2

    def kill(event: Event) -> None:
        if event.kind == "finished" and event.done == 4:
            os.kill(pids[0], signal.SIGKILL)

    with open_cluster(cluster.address, "cpu") as fleet:
        assert fleet.size == 2
        summary = run(plan, tmp_path / "run", fleet=fleet, calibrate=False, on_event=kill)
    check(tmp_path / "run", plan)
    assert summary.exit_code == 0
    assert any("is out" in note for note in summary.notes)


COORDINATE = """
import sys
sys.path[:0] = {path!r}
import importlib.util
spec = importlib.util.spec_from_file_location("c", {conftest!r}); c = importlib.util.module_from_spec(spec)
spec.loader.exec_module(c)
from sparsity_roofline.bench.run import run
from sparsity_roofline.bench.cluster_dask import open_cluster
plan = c.build_plan(["csr.fake_slow"], columns=range(1, 9))
with open_cluster({address!r}, "cpu") as fleet:
    print(run(plan, {folder!r}, calibrate=False, fleet=fleet).exit_code)
"""


def coordinator(cluster: Cluster, folder: Path) -> subprocess.Popen[str]:
    code = COORDINATE.format(
        path=[p for p in sys.path if p],
        conftest=str(Path(__file__).with_name("conftest.py")),
        address=cluster.address,
        folder=str(folder),
    )
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def await_records(folder: Path, count: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 90
    log = folder / "records.jsonl"
    while time.monotonic() < deadline and process.poll() is None:
        if log.exists() and log.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.01)
    raise AssertionError(f"{count} records did not come: exit {process.poll()}")


def test_a_killed_run_is_taken_up_by_the_next(cluster, plan, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with coordinator(cluster, folder) as process:
        await_records(folder, 3, process)
        with (
            open_cluster(cluster.address, "cpu") as fleet,
            pytest.raises(UserError, match="is measuring for another run"),
        ):
            run(plan, tmp_path / "second", fleet=fleet, calibrate=False)
        process.send_signal(signal.SIGKILL)
    kept = len(read_records(folder))
    assert 3 <= kept < len(plan.jobs)
    with open_cluster(cluster.address, "cpu") as fleet:
        run(plan, folder, fleet=fleet, calibrate=False, resume=True)
    check(folder, plan)


def test_interrupt_leaves_no_worker_process_behind(cluster, plan, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with coordinator(cluster, folder) as process:
        await_records(folder, 3, process)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
    assert out.split()[-1] == "130"
    deadline = time.monotonic() + 20
    while (left := children_of(cluster.worker_pids())) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left
    assert 3 <= len(read_records(folder / "records.parquet")) < len(plan.jobs)


def children_of(pids: list[int]) -> list[int]:
    """Measuring processes below these."""
    import psutil

    found = []
    for pid in pids:
        for child in psutil.Process(pid).children(recursive=True):
            if "sparsity_roofline.bench.worker" in " ".join(child.cmdline()):
                found.append(child.pid)
    return found


def test_the_command_line_plans_where_it_measures(cluster, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from sparsity_roofline.cli import main

    suite = Path(__file__).with_name("conftest.py").read_text().partition('SUITE = """')[2].partition('"""')[0]
    suite = suite.format(sparsities=[0.9], columns=[1, 2, 3], kernels='["csr.fake_a"]', dense='["dense.fake"]')
    (tmp_path / "suite.toml").write_text(suite)
    fakes = f"{Path(__file__).parent / '_fakes.py'}:KERNELS"
    words = ["--suite", str(tmp_path / "suite.toml"), "--kernel", fakes, "--device", "cpu", "--no-calibrate"]
    folder = str(tmp_path / "run")
    where = ["--cluster", cluster.address]
    assert main(["measure", *words, *where, "--dry-run"]) == 0
    assert main(["measure", *words, *where, "--out", folder]) == 0
    assert "about" in (said := capfd.readouterr().err)
    assert "on 2 workers" in said
    assert len(read_records(folder)) == 6
    assert main(["measure", *words, "--out", folder, "--resume"]) == 0
    assert main(["measure", *words, *where, "--devices", "all", "--out", folder]) == 2
    assert "choose one of them" in capfd.readouterr().err


def test_a_killed_scheduler_is_one_line_and_resumes(cluster, plan, tmp_path: Path) -> None:
    """The last one: nothing is left of the cluster after it."""

    def kill(event: Event) -> None:
        if event.kind == "finished" and event.done == 4:
            cluster.scheduler.send_signal(signal.SIGKILL)

    with open_cluster(cluster.address, "cpu") as fleet, pytest.raises(UserError, match=r"gone.*--resume") as error:
        run(plan, tmp_path / "run", fleet=fleet, calibrate=False, on_event=kill)
    assert error.value.exit_code == 6
    assert 4 <= len(read_records(tmp_path / "run")) < len(plan.jobs)
    assert run(plan, tmp_path / "run", calibrate=False, resume=True).left == 0
    check(tmp_path / "run", plan)


SBATCH = """#!/bin/bash
cp "$1" {folder}/job.sh
setsid bash {folder}/job.sh >/dev/null 2>&1 </dev/null &
echo $! > {folder}/job.pid
echo "Submitted batch job 17"
"""
SCANCEL = """#!/bin/bash
kill -- -$(cat {folder}/job.pid)
"""


def test_batch_jobs_through_slurm(plan_of, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With commands in Slurm's place that start the job on this machine."""
    pytest.importorskip("dask_jobqueue")
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (tmp_path / name).write_text(text.format(folder=tmp_path))
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    plan = plan_of(["csr.fake_a"], columns=[1, 2])
    with open_cluster("slurm", "cpu") as fleet:
        run(plan, tmp_path / "run", fleet=fleet, calibrate=False)
    check(tmp_path / "run", plan)
    assert "#SBATCH" in (tmp_path / "job.sh").read_text()
    assert "gres" not in (tmp_path / "job.sh").read_text()


def test_a_slurm_job_asks_for_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dask_jobqueue")
    (tmp_path / "sbatch").write_text(f'#!/bin/bash\ncp "$1" {tmp_path}/job.sh\necho "Submitted batch job 17"\n')
    (tmp_path / "scancel").write_text("#!/bin/bash\n")
    for name in ("sbatch", "scancel"):
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with open_cluster("slurm:3", "cuda") as fleet:
        assert fleet.size == 3
        deadline = time.monotonic() + 20
        while not (tmp_path / "job.sh").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
    assert "#SBATCH --gres=gpu:1" in (tmp_path / "job.sh").read_text()


def test_no_cluster_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparsity_roofline.bench.cluster_dask.CONNECT_S", 0.5)
    for text, message in [
        ("tcp://127.0.0.1:9", "no Dask scheduler answers there"),
        ("nonsense://x", "unknown address scheme"),
        ("nonsense", "missing port number"),
        ("/nowhere/scheduler.json", "no such file"),
        ("local:none", "write the number of workers"),
        ("local:0", "write the number of workers"),
    ]:
        with pytest.raises(UserError, match=message), open_cluster(text, "cpu"):
            pass
