"""One run over several devices: the loop of ``supervisor`` with a thread for each place where jobs are measured.

The threads only wait for their places. Everything else happens in the thread that calls ``work``: it alone deals the
jobs out, writes the folder and tells of progress, so that nothing is lost or doubled whichever thread dies when.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from sparsity_roofline.bench import rows
from sparsity_roofline.bench.cluster_shards import Key, Shards, groups_of
from sparsity_roofline.bench.plan import Job
from sparsity_roofline.bench.station import Place, Stopped, Tell
from sparsity_roofline.bench.supervisor import Supervisor
from sparsity_roofline.kernels.protocol import Kernel
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.record import Record

AHEAD = 2
"""Jobs a place holds: the one it measures and the one it goes on with while the record of the first is written."""

MOST_LOSSES = 3
"""A job that so many places were lost with is recorded as an error instead of taking down the next."""

_POLL_S = 0.5
_STOP_S = 30.0
_GATHER_S = 30.0

MakePlace = Callable[[Tell], Place]


class Lost(Exception):
    """A place is gone; the job it had is not done. The text says what happened."""


class Fleet(Protocol):
    """Where the places come from.

    Attributes:
        size: places expected; the rule of ``sample`` counts with it.
        patience_s: how long a run waits for the first place, and for another when all are lost.
    """

    size: int
    patience_s: float

    def arrivals(self, first: dict[str, Any], kernels: Mapping[str, Kernel], case_timeout_s: float) -> list[MakePlace]:
        """Places that have come since the last call; the first call gives all that are there.

        Raises:
            UserError: there can be none any more.
        """

    def close(self) -> None:
        """Let go of everything."""


@dataclass
class _Word:
    """What a member's thread has to say to the run."""

    member: _Member
    kind: Literal["told", "up", "record", "ended"]
    what: Any = None
    job: Job | None = None
    took_s: float = 0.0


class _Member(threading.Thread):
    """One place and the thread that waits for it.

    Attributes:
        evidence: what its records share, from its newest worker.
        identity: of its device.
        up: it takes jobs.
    """

    def __init__(self, make: MakePlace, words: queue.SimpleQueue[_Word]) -> None:
        super().__init__(daemon=True)
        self.place = make(lambda kind, what: words.put(_Word(self, "told", (kind, what))))
        self.evidence: rows.Evidence | None = None
        self.identity = ""
        self.up = False
        self.jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._words = words

    def run(self) -> None:
        """Until there are no more jobs, or the place is gone."""
        end: BaseException | None = None
        try:
            self.place.begin()
            self._words.put(_Word(self, "up"))
            while (job := self.jobs.get()) is not None:
                began = time.monotonic()
                record = self.place.measure(job)
                self._words.put(_Word(self, "record", record, job, time.monotonic() - began))
        except Stopped:
            pass
        except BaseException as error:  # told to the run, whatever it is
            end = error
        finally:
            try:
                self.place.stop()
            finally:
                self._words.put(_Word(self, "ended", end))


class Team(Supervisor):
    """A sitting of a run over a fleet."""

    def __init__(self, fleet: Fleet, *supervisor: Any) -> None:
        super().__init__(*supervisor)
        self._fleet = fleet
        self._words: queue.SimpleQueue[_Word] = queue.SimpleQueue()
        self._members: list[_Member] = []
        self._threads: list[_Member] = []
        self._first_up = float("inf")
        self._losses: Counter[Key] = Counter()
        self._refusal: UserError | None = None
        self._over = False
        known = self.folder.devices()
        done = {(r["case"], r["kernel"]): known.get(r["environment"], r["environment"]) for r in self.folder.records}
        everything = {job.key: job for job in self.plan.jobs}
        self._shards = Shards(groups_of(self.plan.jobs, done), everything, self._withdraw)

    # -- the loop

    def work(self) -> None:
        """See ``Supervisor.work``.

        Raises:
            UserError: the disk is full, or no place is left.
        """
        self._emit("planned")
        waited_since = time.monotonic()
        asked = 0.0
        while self._pending and not (self._over and not self._busy()):
            if time.monotonic() - asked > _POLL_S:
                self._admit()
                asked = time.monotonic()
            with contextlib.suppress(queue.Empty):
                self._hear(self._words.get(timeout=_POLL_S))
            self._assemble()
            if self._members:
                waited_since = time.monotonic()
            elif time.monotonic() - waited_since > self._fleet.patience_s:
                raise self._refusal or UserError(
                    f"no worker came within {self._fleet.patience_s:g} s: {len(self._pending)} jobs left; start "
                    "workers, then go on with --resume",
                    6,
                )

    def _admit(self) -> None:
        for make in self._fleet.arrivals(self._first, self._kernels, self._timeout):
            member = _Member(make, self._words)
            self._members.append(member)
            self._threads.append(member)
            member.start()

    def _hear(self, word: _Word) -> None:
        member = word.member
        if member not in self._members:
            return  # dismissed; what it still says is of no use
        if word.kind == "told":
            kind, what = word.what
            if kind == "ready":
                self._meet(member, what)
            else:
                name = member.place.name
                self._told(kind, f"{name}: {what}" if name else what)
        elif word.kind == "up":
            member.up = True
            self._first_up = min(self._first_up, time.monotonic())
        elif word.kind == "record":
            assert word.job is not None
            self._keep(member, word.job, word.what, word.took_s)
        else:
            self._part(member, word.what)

    def _assemble(self) -> None:
        """Deal out once everybody who is on the way is up, or after a while to who is: balanced shares from the start
        are better than taking from each other later."""
        late = time.monotonic() - self._first_up > _GATHER_S
        new = [m for m in self._members if m.up and not self._shards.knows(m)]
        if not new or not (late or all(m.up for m in self._members)):
            return
        self._shards.join({member: member.identity for member in new})
        places = sum(map(self._shards.knows, self._members))
        if places > 1:
            self._emit("note", text=f"{places} workers, expected {self._shards.balance():.2f} times as fast as one")
        for member in new:
            self._feed(member)

    def _meet(self, member: _Member, answer: dict[str, Any]) -> None:
        """A worker of the member is ready. Another kind of device than the run's is sent home."""
        try:
            member.evidence = self._ready(answer)
        except UserError as error:
            self._dismiss(member, error)
            return
        device = answer["environment"].get("device") or {}
        member.identity = str(device.get("uuid_hash") or answer["environment_hash"])

    def _feed(self, member: _Member) -> None:
        """Keep ``AHEAD`` jobs with a member; what no kernel supports is written down at once."""
        assert member.evidence is not None
        while not self._over and self._shards.in_hand(member) < AHEAD:
            job = self._shards.next(member)
            if job is None:
                return
            if self._spent(job):
                self._over = True
                self._shards.put_back(member)
                self._note(f"budget of {self._budget:g} s spent: jobs are left; go on with --resume")
                return
            self._emit("started", job=job)
            if job.reason:
                self._keep(member, job, self._unsupported(job, member.evidence), 0.0)
            else:
                member.jobs.put(job)

    def _keep(self, member: _Member, job: Job, record: Record, took_s: float) -> None:
        self.folder.append(record)
        self._shards.finished(member, job)
        self._finished(job, record, took_s)
        if not job.reason:  # else ``_feed`` is at it
            self._feed(member)

    def _withdraw(self, keys: set[Key]) -> None:
        """Records whose device is gone, before their comparisons were whole, are measured again elsewhere."""
        count = self.folder.withdraw(keys)
        for job in self.plan.jobs:
            if job.key in keys and job.key not in self._pending:
                self._pending[job.key] = job
                self._left_s[job.kernel] = self._left_s.get(job.kernel, 0.0) + job.estimate_s
        self._note(f"{count} records of a device that is gone are measured again: both arms belong on one device")

    # -- members that go

    def _part(self, member: _Member, error: BaseException | None) -> None:
        """A member's thread has ended."""
        self._members.remove(member)
        in_hand = self._shards.leave(member)
        if isinstance(error, (UserError, Lost)):
            self._refusal = error if isinstance(error, UserError) else UserError(f"{error}; go on with --resume", 6)
            self._note(f"{member.place.name or 'a worker'} is out: {error}")
        elif error is not None:
            raise error
        if in_hand and isinstance(error, Lost):
            job = in_hand[0]
            self._losses[job.key] += 1
            if self._losses[job.key] >= MOST_LOSSES:
                self._shards.drop(job)
                reason = f"its worker was lost {MOST_LOSSES} times while this case ran"
                assert member.evidence is not None
                kernel = self._kernels[job.kernel]
                record = rows.blank(job.case, kernel, member.evidence, "error", reason)
                self.folder.append(record)
                self._finished(job, record, 0.0)
        for other in self._members:
            if self._shards.knows(other):
                self._feed(other)

    def _dismiss(self, member: _Member, error: UserError) -> None:
        self._members.remove(member)
        self._refusal = error
        member.place.abort()
        member.jobs.put(None)
        self._note(f"{member.place.name or 'a worker'} is left out: {error}")

    def _busy(self) -> bool:
        return any(self._shards.knows(m) and self._shards.in_hand(m) for m in self._members)

    def stop(self) -> None:
        """End every worker, those in the middle of a job too."""
        members, self._members = self._members, []
        for member in members:
            if self._pending:
                member.place.abort()
            member.jobs.put(None)
        end = time.monotonic() + _STOP_S
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))

    def _eta(self) -> float:
        return super()._eta() / max(sum(m.up for m in self._members), 1)
