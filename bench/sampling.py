"""The written rule by which a plan is cut to a budget of wall time (docs/sampling.md)."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from sparsity_roofline.bench.estimate import startup_s
from sparsity_roofline.bench.inputs import derived_seed
from sparsity_roofline.model.case import Case
from sparsity_roofline.model.errors import UserError

if TYPE_CHECKING:
    from sparsity_roofline.bench.plan import Job, Plan


def sample(plan: Plan, budget_s: float, devices: int = 1) -> Plan:
    """A part of the plan whose expected wall time, start-up included, is within ``budget_s``; after the start-up,
    ``devices`` do so many times as much in it.

    The rule. Sparse cases are put into strata by (format, dtype, network, target sparsity, batch). Within a stratum
    their order is shuffled, and so is the order of the strata, by the suite's seed. Then, round after round, each
    stratum gives its next case, with every kernel planned for it and, unless it is in already, the dense case of its
    shape, dtype and layout, if what they are expected to take together still fits; a case that does not fit is passed
    over for good. Dense cases that no sparse case refers to form strata of their own. The jobs chosen keep the order of
    the plan. The same plan, seed and budget give the same jobs on every machine.

    Raises:
        UserError: not even one case fits.
    """
    cases: dict[str, Case] = {}
    jobs: dict[str, list[Job]] = defaultdict(list)
    for job in plan.jobs:
        cases[job.case.key] = job.case
        jobs[job.case.key].append(job)
    cost = {key: sum(job.estimate_s for job in group) for key, group in jobs.items()}
    partner = {_shape(case): key for key, case in cases.items() if case.format == "dense"}
    needed = {key: partner.get(_shape(case)) for key, case in cases.items() if case.format != "dense"}
    lonely = set(partner.values()) - set(needed.values())

    strata: dict[str, list[str]] = defaultdict(list)
    for key, case in cases.items():
        if key in needed or key in lonely:
            strata[_stratum(case)].append(key)
    rng = random.Random(derived_seed("sample", plan.suite.seed))
    queues = [strata[name] for name in sorted(strata)]
    for queue in queues:
        queue.sort()
        rng.shuffle(queue)
    rng.shuffle(queues)

    left = devices * (budget_s - startup_s(plan.device))
    chosen: set[str] = set()
    for turn in range(max((len(q) for q in queues), default=0)):
        for queue in queues:
            if turn >= len(queue):
                continue
            group = {queue[turn], needed.get(queue[turn])} - chosen - {None}
            price = sum(cost[key] for key in group if key is not None)
            if price <= left:
                left -= price
                chosen |= {key for key in group if key is not None}
    if not chosen:
        least = startup_s(plan.device) + min(cost[k] + cost.get(needed.get(k) or "", 0.0) for q in queues for k in q)
        raise UserError(f"a budget of {budget_s:g} s is too small for any case: give at least {least:.0f} s")
    kept = [job for job in plan.jobs if job.case.key in chosen]
    notes = list(plan.notes)
    if len(kept) < len(plan.jobs):
        notes.append(f"budget of {budget_s:g} s: {len(kept)} of {len(plan.jobs)} jobs chosen by the sampling rule")
    return replace(plan, jobs=kept, notes=notes)


def _shape(case: Case) -> tuple[int, int, int, str, str]:
    return case.M, case.K, case.N, case.dtype, case.layout


def _stratum(case: Case) -> str:
    parts = (case.format, case.dtype, case.network, case.target_sparsity, case.batch)
    return "|".join(str(part) for part in parts)
