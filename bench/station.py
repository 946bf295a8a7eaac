"""One place where jobs are measured: a worker process, started again whenever a kernel takes it down."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Protocol

from sparsity_roofline.bench import rows
from sparsity_roofline.bench.child import Child, ChildDied, ChildTimeout
from sparsity_roofline.bench.plan import Job, Plan
from sparsity_roofline.kernels.protocol import Kernel
from sparsity_roofline.model.ceilings import Ceilings
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.record import Record, Status

START_TIMEOUT_S = 600.0
"""For imports, the device context and, where it is missing, the calibration."""

Tell = Callable[[str, Any], None]
"""What a station says beside its records: ``ready`` (the worker's answer), ``note``, ``progress`` and ``restarted``
(a text each)."""


class Stopped(Exception):
    """The station was aborted; the job it had is not done."""


class Place(Protocol):
    """Where jobs are measured, here or on another host."""

    name: str

    def begin(self) -> None:
        """Have a worker that is ready. Raises ``UserError`` if there can be none."""

    def measure(self, job: Job) -> Record:
        """One job. The worker's death, hang or loss of the device costs this job alone."""

    def abort(self) -> None:
        """From another thread: end the worker, so that ``measure`` raises ``Stopped``."""

    def stop(self) -> None:
        """Let go of everything."""


def first_message(plan: Plan, run_id: str, calibrate: bool, *, fresh: bool = False) -> dict[str, Any]:
    """What a worker is told before its jobs; ``fresh``: the run has no record yet."""
    return {
        "device": plan.device,
        "extra_kernels": list(plan.extra_kernels),
        "sources": [asdict(source) for source in plan.sources],
        "timer": plan.timer,
        "regime": asdict(plan.suite.regime),
        "stopping": asdict(plan.suite.stopping),
        "run_id": run_id,
        "calibrate": calibrate,
        "fresh": fresh,
    }


def evidence_of(answer: dict[str, Any], first: dict[str, Any]) -> rows.Evidence:
    """What the records of a worker share, from its ``ready``."""
    sheet, measured = (Ceilings.from_json(answer[k]) if answer[k] else None for k in ("datasheet", "measured"))
    return rows.Evidence(
        run_id=first["run_id"],
        device=first["device"],
        device_name=answer["device_name"],
        environment=answer["environment_hash"],
        datasheet=sheet,
        measured=measured,
        threads=answer["threads"],
    )


class Station:
    """A ``Place`` on this host.

    Attributes:
        name: for messages.
    """

    def __init__(
        self,
        first: dict[str, Any],
        kernels: Mapping[str, Kernel],
        case_timeout_s: float,
        tell: Tell,
        environment: Mapping[str, str | None] | None = None,
        name: str = "",
        child: Child | None = None,
    ) -> None:
        """Nothing is started yet.

        Args:
            first: see ``first_message``.
            kernels: by name, for the records of jobs that no worker survives.
            environment: variables the worker gets beside this process's (None: does not get); pins it to a device.
            child: a worker that has been started and told nothing; the first to be used, and ended with the others.
        """
        self.name = name
        self._first = first
        self._kernels = kernels
        self._timeout = case_timeout_s
        self._tell = tell
        self._environment = environment
        self._spare = child
        self._child: Child | None = None
        self._evidence: rows.Evidence | None = None
        self._aborted = False

    def begin(self) -> None:
        """A worker that is ready, started again once if it dies on the way up."""
        for attempt in (1, 2):
            self._child, self._spare = self._spare or Child(self._environment), None
            try:
                return self._greet(self._child)
            except (ChildDied, ChildTimeout) as error:
                cause = error.cause if isinstance(error, ChildDied) else f"no answer after {START_TIMEOUT_S:g} s"
                lines = error.tail.splitlines() if isinstance(error, ChildDied) else []
                self.stop()
                if self._aborted:
                    raise Stopped from None
                if attempt == 2:
                    said = f"; it last printed: {lines[-1]}" if lines else ""
                    raise UserError(
                        f"the worker process cannot be started: {cause}{said}; run 'sparsity-roofline doctor'", 6
                    ) from None
        raise AssertionError("unreachable")

    def measure(self, job: Job) -> Record:
        """See ``Place``."""
        if self._child is None:
            self.begin()
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
            self._tell("restarted", f"the device context was lost: {record.reason}")
        return record

    def _failed(self, job: Job, status: Status, reason: str, tail: str = "") -> Record:
        self.stop()
        if self._aborted:
            raise Stopped
        assert self._evidence is not None
        said = f"; it last printed: {tail.splitlines()[-1]}" if tail else ""
        self._tell("restarted", f"{job.kernel} on {job.case.matrix}: {reason}{said}")
        return rows.blank(job.case, self._kernels[job.kernel], self._evidence, status, reason)

    def _greet(self, child: Child) -> None:
        child.send(self._first)
        while True:
            answer = child.receive(START_TIMEOUT_S)
            if answer["kind"] in ("note", "progress"):
                self._tell(answer["kind"], answer["text"])
            elif answer["kind"] == "failed":
                raise UserError(answer["reason"], answer["exit_code"])
            else:
                self._evidence = evidence_of(answer, self._first)
                self._first = {**self._first, "fresh": False}  # a second worker keeps the first one's ceilings
                self._tell("ready", answer)
                return

    def abort(self) -> None:
        """See ``Place``."""
        self._aborted = True
        if self._child is not None:
            self._child.end()

    def stop(self) -> None:
        """End the worker, if there is one."""
        if self._child is not None:
            self._child.kill()
            self._child = None
