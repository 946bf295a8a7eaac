"""Who measures what: groups of jobs that belong on one device, dealt out by their expected time.

A group is everything of one (M, K, N, dtype, layout): the dense arm of a comparison and every sparse one. It is never
divided between devices, since validation pairs no two records of different ones. A device whose share is done takes an
unstarted group from the one that has most left, so that a poor estimate costs little.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sparsity_roofline.bench.plan import Job

Key = tuple[str, str]


@dataclass(eq=False)
class Group:
    """Jobs that one device measures.

    Attributes:
        place: position in the plan.
        jobs: those still to be handed out, in order.
        done: keys of those whose records exist.
        home: identity of the device that measured some of it, "" for none.
    """

    place: int
    jobs: deque[Job]
    done: set[Key] = field(default_factory=set)
    home: str = ""

    @property
    def estimate_s(self) -> float:
        """Of what is left."""
        return sum(job.estimate_s for job in self.jobs)


def groups_of(jobs: Sequence[Job], done: Mapping[Key, str]) -> list[Group]:
    """The groups of a plan that hold something still to be done.

    Args:
        done: key of every job that has a record -> identity of the device that made it.
    """
    found: dict[object, Group] = {}
    for job in jobs:
        case = job.case
        group = found.setdefault((case.M, case.K, case.N, case.dtype, case.layout), Group(len(found), deque()))
        if job.key in done:
            group.done.add(job.key)
            if not job.reason:  # such a record needs no device
                group.home = done[job.key]
        else:
            group.jobs.append(job)
    return [group for group in found.values() if group.jobs]


def deal(groups: Iterable[Group], shares: int, start: Sequence[float] = ()) -> list[list[Group]]:
    """Share groups out so that the largest share is small: the longest first, each to whom has least so far.

    At most 4/3 - 1/(3 shares) of the best there is (Graham 1969). Within a share the order is the plan's, which keeps
    the matrices of a shape together.

    Args:
        start: seconds each share holds already.
    """
    loads = list(start) or [0.0] * shares
    dealt: list[list[Group]] = [[] for _ in range(shares)]
    for group in sorted(groups, key=lambda g: (-g.estimate_s, g.place)):
        least = min(range(shares), key=lambda i: (loads[i], i))
        dealt[least].append(group)
        loads[least] += group.estimate_s
    for share in dealt:
        share.sort(key=lambda g: g.place)
    return dealt


@dataclass(eq=False)
class Share:
    """What one place has to do.

    Attributes:
        identity: of its device.
        queue: groups it has not started.
        current: the group it is in.
        given: jobs handed out and not finished, oldest first, with their groups.
    """

    identity: str
    queue: deque[Group] = field(default_factory=deque)
    current: Group | None = None
    given: deque[tuple[Job, Group]] = field(default_factory=deque)

    @property
    def estimate_s(self) -> float:
        """Of what was not handed out."""
        return sum(g.estimate_s for g in self.queue) + (self.current.estimate_s if self.current else 0.0)


class Shards:
    """The jobs of a run among the places that are there. Used by one thread.

    Args:
        everything: the plan's jobs by key, for a group that has to be measured again from its beginning.
        withdraw: takes records out again; called with their keys before the first of their jobs is handed out again.
    """

    def __init__(
        self, groups: Sequence[Group], everything: Mapping[Key, Job], withdraw: Callable[[set[Key]], None]
    ) -> None:
        self._everything = everything
        self._withdraw = withdraw
        self._loose = list(groups)
        self._shares: dict[object, Share] = {}

    def join(self, places: Mapping[object, str]) -> None:
        """Places (any name -> identity of the device) that have come; what nobody has begun is dealt out anew."""
        for share in self._shares.values():
            self._loose += share.queue
            share.queue.clear()
        self._shares |= {name: Share(identity) for name, identity in places.items()}
        self._deal()

    def leave(self, name: object) -> list[Job]:
        """A place is gone: its groups go to the others. Returns the jobs it had in hand, the one it was at first."""
        share = self._shares.pop(name, None)
        if share is None:
            return []
        in_hand = [job for job, _ in share.given]
        for job, group in reversed(share.given):
            group.jobs.appendleft(job)
            if group not in share.queue and group is not share.current:
                share.queue.appendleft(group)
        if share.current is not None and share.current.jobs:
            share.queue.appendleft(share.current)
        self._loose += share.queue
        self._deal()
        return in_hand

    def next(self, name: object) -> Job | None:
        """The next job of a place, or None if nothing is left for it now."""
        share = self._shares[name]
        while share.current is None or not share.current.jobs:
            share.current = None
            group = self._take(name, share)
            if group is None:
                return None
            if group.home not in ("", share.identity):
                self._again(group)
            share.current = group
        group = share.current
        job = group.jobs.popleft()
        if not job.reason:
            group.home = share.identity
        share.given.append((job, group))
        return job

    def put_back(self, name: object) -> None:
        """The job handed out last was not begun."""
        job, group = self._shares[name].given.pop()
        group.jobs.appendleft(job)

    def finished(self, name: object, job: Job) -> None:
        """The job's record is on disk."""
        share = self._shares[name]
        at = next(i for i, (given, _) in enumerate(share.given) if given.key == job.key)
        share.given[at][1].done.add(job.key)
        del share.given[at]

    def drop(self, job: Job) -> None:
        """Nobody shall be given this job any more: it has a record though no place made one."""
        for group in [*self._loose, *(g for s in self._shares.values() for g in (*s.queue, s.current) if g)]:
            if job in group.jobs:
                group.jobs.remove(job)

    def knows(self, name: object) -> bool:
        """Has the place joined?"""
        return name in self._shares

    def in_hand(self, name: object) -> int:
        """How many jobs a place has been handed and not finished."""
        return len(self._shares[name].given)

    def balance(self) -> float:
        """Expected time of all shares together over that of the largest: how many times as fast this can be."""
        loads = [share.estimate_s for share in self._shares.values()]
        longest = max(loads, default=0.0)
        return sum(loads) / longest if longest else float(len(loads))

    def _deal(self) -> None:
        if not self._shares:
            return
        mine = {share.identity: share for share in reversed(self._shares.values())}
        free = []
        for group in self._loose:
            if group.home in mine:
                mine[group.home].queue.appendleft(group)
            else:
                free.append(group)
        self._loose = []
        shares = list(self._shares.values())
        for share, dealt in zip(shares, deal(free, len(shares), [share.estimate_s for share in shares]), strict=True):
            share.queue.extend(dealt)

    def _take(self, name: object, share: Share) -> Group | None:
        if share.queue:
            return share.queue.popleft()
        others = [s for n, s in self._shares.items() if n != name and s.queue]
        for other in sorted(others, key=lambda s: -s.estimate_s):
            # What another has begun stays its own; the same device may be there twice on a CPU.
            open_to_us = [g for g in other.queue if g.home in ("", share.identity) or g.home != other.identity]
            if open_to_us:
                half = other.estimate_s / 2
                fitting = [g for g in open_to_us if g.estimate_s <= half]
                group = max(fitting, key=lambda g: (g.estimate_s, g.place)) if fitting else open_to_us[-1]
                other.queue.remove(group)
                return group
        return None

    def _again(self, group: Group) -> None:
        """The device that measured a part is gone: all of it is measured again, so that both arms come from one."""
        if group.done:
            self._withdraw(group.done)
        jobs = {job.key: job for job in group.jobs} | {key: self._everything[key] for key in group.done}
        group.jobs = deque(job for key, job in self._everything.items() if key in jobs)
        group.done, group.home = set(), ""
