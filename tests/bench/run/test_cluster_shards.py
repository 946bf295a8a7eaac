"""Dealing jobs out: nothing is lost, doubled or divided between devices, whoever comes and goes."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sparsity_roofline.bench.cluster_shards import Shards, deal, groups_of
from sparsity_roofline.bench.plan import Job
from sparsity_roofline.model.case import Case


def case(N: int, matrix: str = "m") -> Case:
    return Case("c", matrix, 8, 8, N, "unstructured", "csr", "fp32", nnz=4)


def jobs(sizes: list[int], seconds: list[float] | None = None) -> list[Job]:
    """One group of so many jobs for each size."""
    seconds = seconds or [1.0] * len(sizes)
    return [
        Job(case(n + 1), f"csr.k{i}", s / size, 0)
        for n, (size, s) in enumerate(zip(sizes, seconds, strict=True))
        for i in range(size)
    ]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=6), st.integers(1, 3))
def test_shares_are_within_grahams_bound(seconds: list[float], shares: int) -> None:
    groups = groups_of(jobs([1] * len(seconds), seconds), {})
    dealt = deal(groups, shares)
    loads = [sum(g.estimate_s for g in share) for share in dealt]
    assert sorted(id(g) for share in dealt for g in share) == sorted(map(id, groups))
    best = min(
        max(sum(s for s, to in zip(seconds, way, strict=True) if to == share) for share in range(shares))
        for way in product(range(shares), repeat=len(seconds))
    )
    assert max(loads) <= (4 / 3 - 1 / (3 * shares)) * best * (1 + 1e-9)
    assert all([g.place for g in share] == sorted(g.place for g in share) for share in dealt)


def test_both_arms_are_one_group(plan_of) -> None:
    plan = plan_of(["csr.fake_a", "csr.fake_z"], columns=[1, 2], sparsities=[0.8, 0.9])
    groups = groups_of(plan.jobs, {})
    assert [len(g.jobs) for g in groups] == [5, 5]  # dense, and two kernels on each of two matrices
    assert all({j.case.format for j in g.jobs} == {"dense", "csr"} for g in groups)


def test_a_group_done_in_part_knows_its_device() -> None:
    plan = jobs([3, 2])
    groups = groups_of(plan, {plan[0].key: "A", plan[3].key: "B", plan[4].key: "B"})
    assert len(groups) == 1  # the second is done
    assert (groups[0].home, len(groups[0].jobs), groups[0].done) == ("A", 2, {plan[0].key})


def test_who_is_done_takes_from_the_one_with_most_left() -> None:
    plan = jobs([1, 1, 1, 1])
    shards = Shards(groups_of(plan, {}), {j.key: j for j in plan}, pytest.fail)
    shards.join({"a": "A", "b": "B"})
    got = []
    while (job := shards.next("a")) is not None:
        shards.finished("a", job)
        got.append(job.key)
    assert sorted(got) == sorted(j.key for j in plan)
    assert shards.next("b") is None


@dataclass
class Site:
    identity: str
    given: list[Job] = field(default_factory=list)


class Cluster(RuleBasedStateMachine):
    """Sites that come, work and go at random, and a log as a run folder keeps it."""

    @initialize(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=6), reasons=st.sets(st.integers(0, 20)))
    def start(self, sizes: list[int], reasons: set[int]) -> None:
        plan = jobs(sizes)
        self.plan = [
            Job(j.case, j.kernel, 0.0 if i in reasons else 1.0, 0, "odd" if i in reasons else "")
            for i, j in enumerate(plan)
        ]
        self.log: dict[tuple[str, str], str] = {}
        self.sites: dict[str, Site] = {}
        self.count = 0
        self.shards = Shards(groups_of(self.plan, {}), {j.key: j for j in self.plan}, self.withdraw)

    def withdraw(self, keys: set[tuple[str, str]]) -> None:
        for key in keys:
            del self.log[key]

    @rule(identity=st.sampled_from("ABC"))
    def join(self, identity: str) -> None:
        self.count += 1
        name = f"s{self.count}"
        self.sites[name] = Site(identity)
        self.shards.join({name: identity})

    @precondition(lambda self: self.sites)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.sites)))
        site = self.sites.pop(name)
        assert self.shards.leave(name) == site.given

    @precondition(lambda self: self.sites)
    @rule(data=st.data(), put_back=st.booleans())
    def take(self, data: st.DataObject, put_back: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.sites)))
        job = self.shards.next(name)
        if job is None:
            return
        if put_back:
            self.shards.put_back(name)
        else:
            self.sites[name].given.append(job)

    @precondition(lambda self: any(s.given for s in self.sites.values()))
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(n for n, s in self.sites.items() if s.given)))
        site = self.sites[name]
        job = site.given.pop(0)
        assert job.key not in self.log, "measured twice"
        self.log[job.key] = site.identity
        self.shards.finished(name, job)

    @invariant()
    def nothing_is_in_two_hands(self) -> None:
        if hasattr(self, "plan"):
            given = [j.key for s in self.sites.values() for j in s.given]
            assert len(given) == len(set(given))
            assert not set(given) & self.log.keys()

    def teardown(self) -> None:
        if not hasattr(self, "plan"):
            return
        self.join("A")
        for _ in range(20 * len(self.plan) + 20):
            for name, site in self.sites.items():
                while site.given:
                    job = site.given.pop(0)
                    assert job.key not in self.log
                    self.log[job.key] = site.identity
                    self.shards.finished(name, job)
                if (job := self.shards.next(name)) is not None:
                    site.given.append(job)
        assert self.log.keys() == {j.key for j in self.plan}, "a job was lost"
        for group in groups_of(self.plan, {}):
            homes = {self.log[j.key] for j in group.jobs if not j.reason}
            assert len(homes) <= 1, "the arms of a comparison come from two devices"


TestCluster = Cluster.TestCase
TestCluster.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
