"""Job after job through a worker: what a kernel's crash, hang or lost device costs is its own row."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from sparsity_roofline.bench import rows
from sparsity_roofline.bench.child import Child
from sparsity_roofline.bench.estimate import Correction
from sparsity_roofline.bench.events import Event, EventKind, OnEvent, RunSummary
from sparsity_roofline.bench.folder import RunFolder
from sparsity_roofline.bench.plan import Job, Plan
from sparsity_roofline.bench.redact import redact
from sparsity_roofline.bench.station import Station, evidence_of, first_message
from sparsity_roofline.kernels.protocol import Kernel
from sparsity_roofline.kernels.registry import load_kernels
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.record import Record


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
        child: Child | None = None,
    ) -> None:
        self.plan = plan
        self.folder = folder
        self.interrupted = False
        self.notes = list(plan.notes)
        if folder.torn:
            self.notes.append("the last line of records.jsonl was torn by a kill: that case is measured again")
        self._timeout = case_timeout_s
        self._budget = budget_s
        self._on_event = on_event
        self._start = start
        self._spare = child
        self._first = first_message(plan, folder.meta["run_id"], calibrate, fresh=not folder.records)
        self._station: Station | None = None
        self._evidence: rows.Evidence | None = None
        self._kernels: dict[str, Kernel] = load_kernels(plan.extra_kernels)
        self._correction = Correction()
        self._wall_s: dict[str, float] = dict(folder.meta.get("wall_s") or {})
        done = folder.done()
        self._pending = {job.key: job for job in plan.jobs if job.key not in done}
        self._left_s: dict[str, float] = {}
        for job in self._pending.values():
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
        self._station = Station(self._first, self._kernels, self._timeout, self._told, child=self._spare)
        with self._clocked("start-up"):
            self._station.begin()
        for job in list(self._pending.values()):
            if self._spent(job):
                self._note(f"budget of {self._budget:g} s spent: {len(self._pending)} jobs left; go on with --resume")
                return
            self._emit("started", job=job)
            began = time.monotonic()
            record = self._unsupported(job, self._evidence) if job.reason else self._station.measure(job)
            with self._clocked("records"):
                self.folder.append(record)
            self._finished(job, record, time.monotonic() - began)

    @contextmanager
    def _clocked(self, part: str) -> Iterator[None]:
        """Count the block's wall time as a part of the run's; parts of earlier sittings are in there already."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._wall_s[part] = self._wall_s.get(part, 0.0) + time.monotonic() - began

    def _finished(self, job: Job, record: Record, took_s: float) -> None:
        """A record is on disk: what that teaches about the rest, and telling of it."""
        del self._pending[job.key]
        self._left_s[job.kernel] -= job.estimate_s
        if not job.reason:
            self._correction.add(job.kernel, job.estimate_s, took_s)
        self._emit("finished", job=job, record=record)

    def _unsupported(self, job: Job, evidence: rows.Evidence | None) -> Record:
        assert evidence is not None
        return rows.blank(job.case, self._kernels[job.kernel], evidence, "unsupported", job.reason)

    def _spent(self, job: Job) -> bool:
        if self._budget is None:
            return False
        expected = job.estimate_s * self._correction.factor(job.kernel)
        return time.monotonic() - self._start + expected > self._budget

    # -- the worker

    def _told(self, kind: str, what: Any) -> None:
        """What the station says."""
        if kind == "ready":
            self._ready(what)
        elif kind == "restarted":
            self._emit("restarted", text=what)
        elif kind == "note":
            self._note(what)
        else:
            self._emit("note", text=what)

    def _ready(self, answer: dict[str, Any]) -> rows.Evidence:
        name = answer["device_name"]
        before = self.folder.meta.get("device")
        if before not in (None, name):
            raise UserError(f"{self.folder.path} was made on {before}, this is {name}; start a new folder")
        if before is None:
            self.folder.update(device=name)
        evidence = self._evidence = evidence_of(answer, self._first)
        self.folder.write_evidence(
            answer["environment"], answer["environment_hash"], evidence.datasheet, evidence.measured
        )
        self._emit("ready", text=name)
        return evidence

    def stop(self) -> None:
        """End the worker, if there is one."""
        if self._station is not None:
            self._station.stop()

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
        with self._clocked("tables"):
            self.folder.finish()
        told = asdict(summary)
        del told["folder"], told["seconds"]
        self.folder.update(
            finished=now(),
            seconds=round(self.folder.meta.get("seconds", 0.0) + summary.seconds, 3),
            wall_s={part: round(seconds, 3) for part, seconds in self._wall_s.items()},
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
