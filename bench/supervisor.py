"""Job after job through a worker: what a kernel's crash, hang or lost device costs is its own row."""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from sparsity_roofline.bench import rows
from sparsity_roofline.bench.child import Child, ChildDied, ChildTimeout
from sparsity_roofline.bench.estimate import Correction
from sparsity_roofline.bench.events import Event, EventKind, OnEvent, RunSummary
from sparsity_roofline.bench.folder import RunFolder
from sparsity_roofline.bench.plan import Job, Plan
from sparsity_roofline.bench.redact import redact
from sparsity_roofline.kernels.protocol import Kernel
from sparsity_roofline.kernels.registry import load_kernels
from sparsity_roofline.model.ceilings import Ceilings
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.record import Record, Status

START_TIMEOUT_S = 600.0
"""For imports, the device context and, where it is missing, the calibration."""


def now() -> str:
    """UTC, ISO 8601, whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class Supervisor:
    """One sitting of a run: ``work``, then ``stop`` in any case, then ``conclude``.

    Attributes:
        interrupted: set by the caller when a signal ended ``work``; ``conclude`` tells of it.
    """

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
        """Carry out what is left of the plan.

        Raises:
            UserError: the disk is full, or no worker can be started.
        """
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
                "timer": self.plan.timer,
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
        """End the worker, if there is one."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    # -- the end

    def conclude(self) -> RunSummary:
        """Write the tables and the summary of what is on disk."""
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
            finished=now(),
            seconds=round(self.folder.meta.get("seconds", 0.0) + summary.seconds, 3),
            summary={**told, "notes": [redact(note) for note in summary.notes]},
        )
        return summary

    # -- telling

    def _note(self, text: str) -> None:
        self.notes.append(text)
        self._emit("note", text=text)

    def _emit(self, kind: EventKind, **more: Any) -> None:
        if self._on_event is not None:
            total = len(self.plan.jobs)
            self._on_event(Event(kind, done=total - len(self._pending), total=total, eta_s=self._eta(), **more))

    def _eta(self) -> float:
        if not self._pending:
            return 0.0
        return sum(max(left, 0.0) * self._correction.factor(kernel) for kernel, left in self._left_s.items())
