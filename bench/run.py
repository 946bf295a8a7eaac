"""The supervisor: hands jobs to a worker, writes each record down at once, and outlives whatever a kernel does."""

from __future__ import annotations

import contextlib
import platform
import secrets
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from os import PathLike
from typing import Any

from sparsity_roofline.bench import rows
from sparsity_roofline.bench.child import Child, ChildDied, ChildTimeout
from sparsity_roofline.bench.estimate import Correction
from sparsity_roofline.bench.events import Event, OnEvent, RunSummary
from sparsity_roofline.bench.folder import RunFolder
from sparsity_roofline.bench.plan import Job, Plan
from sparsity_roofline.bench.redact import redact, redact_argv
from sparsity_roofline.kernels.protocol import Kernel
from sparsity_roofline.kernels.registry import load_kernels
from sparsity_roofline.model.ceilings import Ceilings
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.record import SCHEMA_VERSION, Record, Status

__all__ = ["Event", "RunSummary", "run"]

START_TIMEOUT_S = 600.0
"""For imports, the device context and, where it is missing, the calibration."""


def run(
    plan: Plan,
    folder: str | PathLike[str],
    *,
    resume: bool = False,
    case_timeout_s: float = 120.0,
    budget_s: float | None = None,
    on_event: OnEvent | None = None,
    argv: Sequence[str] = (),
    calibrate: bool = True,
) -> RunSummary:
    """Carry out a plan into a run folder.

    Args:
        folder: new or empty; with ``resume`` also the folder of the same plan, whose finished jobs are skipped.
        case_timeout_s: a job that takes longer is ended and recorded as ``timeout``.
        budget_s: wall time of this sitting; a job that is expected not to fit any more is left for ``resume``.
        on_event: called for progress; what it raises ends the run.
        argv: the command line, kept in run.json without its paths.
        calibrate: measure this machine's ceilings where none are kept.

    Returns:
        What was done; ``exit_code`` says how it ended. After an interrupt (SIGINT, SIGTERM) everything finished is on
        disk and in Parquet, and the code is 130.

    Raises:
        UserError: the folder is not usable, the disk is full, or no worker can be started. What was written stays.
    """
    start = time.monotonic()
    meta = _meta(plan, argv, budget_s)
    with RunFolder.open(folder, meta, resume=resume) as where, _interrupts():
        supervisor = _Supervisor(plan, where, case_timeout_s, budget_s, on_event, calibrate, start)
        try:
            supervisor.work()
        except KeyboardInterrupt:
            supervisor.interrupted = True
        finally:
            supervisor.stop()
        return supervisor.conclude()


class _Supervisor:
    def __init__(
        self,
        plan: Plan,
        folder: RunFolder,
        case_timeout_s: float,
        budget_s: float | None,
        on_event: OnEvent | None,
        calibrate: bool,
        start: float,
    ) -> None:
        self.plan = plan
        self.folder = folder
        self.interrupted = False
        self.notes = list(plan.notes)
        self._timeout = case_timeout_s
        self._budget = budget_s
        self._on_event = on_event
        self._calibrate = calibrate
        self._start = start
        self._child: Child | None = None
        self._evidence: rows.Evidence | None = None
        self._kernels: dict[str, Kernel] = load_kernels(plan.extra_kernels)
        self._correction = Correction()
        done = folder.done()
        self._pending = deque(job for job in plan.jobs if job.key not in done)
        self._left_s: dict[str, float] = {}
        for job in self._pending:
            self._left_s[job.kernel] = self._left_s.get(job.kernel, 0.0) + job.estimate_s

    # -- the loop

    def work(self) -> None:
        self._emit("planned")
        if not self._pending:
            return
        evidence = self._begin()
        while self._pending:
            job = self._pending[0]
            if self._spent(job):
                self._note(f"budget of {self._budget:g} s spent: {len(self._pending)} jobs left; go on with --resume")
                return
            self._emit("started", job=job)
            began = time.monotonic()
            record = self._unsupported(job, evidence) if job.reason else self._measure(job)
            self.folder.append(record)
            self._pending.popleft()
            self._left_s[job.kernel] -= job.estimate_s
            if not job.reason:
                self._correction.add(job.kernel, job.estimate_s, time.monotonic() - began)
            self._emit("finished", job=job, record=record)

    def _measure(self, job: Job) -> Record:
        """One job on a live worker; the worker's death, hang or loss of the device costs this job alone."""
        if self._child is None:
            self._begin()
        child = self._child
        assert child is not None
        child.send({"case": job.case.to_dict(), "kernel": job.kernel, "source": job.source})
        try:
            answer = child.receive(self._timeout)
        except ChildTimeout:
            return self._failed(job, "timeout", f"no result after {self._timeout:g} s")
        except ChildDied as death:
            return self._failed(job, "error", death.cause, death.tail)
        record = Record.from_dict(answer["record"])
        if answer["lost"]:
            self.stop()
            self._emit("restarted", text=f"the device context was lost: {record.reason}")
        return record

    def _failed(self, job: Job, status: Status, reason: str, tail: str = "") -> Record:
        self.stop()
        assert self._evidence is not None
        said = f"; it last printed: {tail.splitlines()[-1]}" if tail else ""
        self._emit("restarted", text=f"{job.kernel} on {job.case.matrix}: {reason}{said}")
        return rows.blank(job.case, self._kernels[job.kernel], self._evidence, status, reason)

    def _unsupported(self, job: Job, evidence: rows.Evidence) -> Record:
        return rows.blank(job.case, self._kernels[job.kernel], evidence, "unsupported", job.reason)

    def _spent(self, job: Job) -> bool:
        if self._budget is None:
            return False
        expected = job.estimate_s * self._correction.factor(job.kernel)
        return time.monotonic() - self._start + expected > self._budget

    # -- the worker

    def _begin(self) -> rows.Evidence:
        """A worker that is ready, started again once if it dies on the way up."""
        for attempt in (1, 2):
            self._child = Child()
            try:
                return self._greet(self._child)
            except (ChildDied, ChildTimeout) as error:
                cause = error.cause if isinstance(error, ChildDied) else f"no answer after {START_TIMEOUT_S:g} s"
                lines = error.tail.splitlines() if isinstance(error, ChildDied) else []
                self.stop()
                if attempt == 2:
                    said = f"; it last printed: {lines[-1]}" if lines else ""
                    raise UserError(
                        f"the worker process cannot be started: {cause}{said}; run 'sparsity-roofline doctor'", 6
                    ) from None
        raise AssertionError("unreachable")

    def _greet(self, child: Child) -> rows.Evidence:
        suite = self.plan.suite
        child.send(
            {
                "device": self.plan.device,
                "extra_kernels": list(self.plan.extra_kernels),
                "sources": [asdict(source) for source in self.plan.sources],
                "regime": asdict(suite.regime),
                "stopping": asdict(suite.stopping),
                "run_id": self.folder.meta["run_id"],
                "calibrate": self._calibrate,
            }
        )
        while True:
            answer = child.receive(START_TIMEOUT_S)
            if answer["kind"] == "note":
                self._note(answer["text"])
            elif answer["kind"] == "progress":
                self._emit("note", text=answer["text"])
            elif answer["kind"] == "failed":
                raise UserError(answer["reason"], answer["exit_code"])
            else:
                return self._ready(answer)

    def _ready(self, answer: dict[str, Any]) -> rows.Evidence:
        name = answer["device_name"]
        before = self.folder.meta.get("device")
        if before not in (None, name):
            raise UserError(f"{self.folder.path} was made on {before}, this is {name}; start a new folder")
        if before is None:
            self.folder.update(device=name)
        sheet, measured = (Ceilings.from_json(answer[k]) if answer[k] else None for k in ("datasheet", "measured"))
        self._evidence = rows.Evidence(
            run_id=self.folder.meta["run_id"],
            device=self.plan.device,
            device_name=name,
            environment=answer["environment_hash"],
            datasheet=sheet,
            measured=measured,
            threads=answer["threads"],
        )
        self.folder.write_evidence(answer["environment"], answer["environment_hash"], sheet, measured)
        self._emit("ready", text=name)
        return self._evidence

    def stop(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child = None

    # -- the end

    def conclude(self) -> RunSummary:
        self.folder.reload()
        counts = Counter(record["status"] for record in self.folder.records)
        planned = {job.key for job in self.plan.jobs}
        done = len(planned & self.folder.done())
        if self.interrupted:
            self._note(f"interrupted: {done} of {len(planned)} jobs done; go on with --resume")
        summary = RunSummary(
            folder=self.folder.path,
            counts=dict(counts),
            planned=len(planned),
            done=done,
            left=len(planned) - done,
            seconds=time.monotonic() - self._start,
            interrupted=self.interrupted,
            notes=self.notes,
        )
        self.folder.finish()
        told = asdict(summary)
        del told["folder"], told["seconds"]
        self.folder.update(
            finished=_now(),
            seconds=round(self.folder.meta.get("seconds", 0.0) + summary.seconds, 3),
            summary={**told, "notes": [redact(note) for note in summary.notes]},
        )
        return summary

    # -- telling

    def _note(self, text: str) -> None:
        self.notes.append(text)
        self._emit("note", text=text)

    def _emit(self, kind: Any, **more: Any) -> None:
        if self._on_event is not None:
            total = len(self.plan.jobs)
            self._on_event(Event(kind, done=total - len(self._pending), total=total, eta_s=self._eta(), **more))

    def _eta(self) -> float:
        if not self._pending:
            return 0.0
        return sum(max(left, 0.0) * self._correction.factor(kernel) for kernel, left in self._left_s.items())


def _meta(plan: Plan, argv: Sequence[str], budget_s: float | None) -> dict[str, Any]:
    from sparsity_roofline import __version__

    suite = plan.suite
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": secrets.token_hex(6),
        "plan": plan.identity,
        "version": __version__,
        "python": platform.python_version(),
        "device_kind": plan.device,
        "argv": redact_argv(list(argv)),
        "suite": suite.name,
        "suite_text": redact(suite.text),
        "seed": suite.seed,
        "regime": asdict(suite.regime),
        "stopping": asdict(suite.stopping),
        "collections": sorted({job.case.collection for job in plan.jobs}),
        "kernels": plan.kernels,
        "jobs": plan.total,
        "budget_s": budget_s,
        "started": _now(),
        "finished": None,
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextlib.contextmanager
def _interrupts() -> Iterator[None]:
    """Let SIGTERM end a run as Ctrl-C does. Handlers can be set in the main thread only; elsewhere nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handler(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
