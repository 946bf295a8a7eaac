"""From a suite and matrices to an ordered list of jobs, before anything is loaded or launched."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

from sparsity_roofline.bench import estimate as _estimate
from sparsity_roofline.bench.expand import Candidate, Source, dense_partner, expand
from sparsity_roofline.bench.sampling import sample
from sparsity_roofline.bench.suites.schema import Suite
from sparsity_roofline.bench.timing import GraphTimer, timer_name
from sparsity_roofline.bench.timing.protocol import L2State
from sparsity_roofline.kernels.protocol import Device, Kernel
from sparsity_roofline.model.case import Case
from sparsity_roofline.model.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Job", "Plan", "Source", "make_plan", "sample"]


@dataclass(frozen=True)
class Job:
    """One kernel on one case.

    Attributes:
        case: with the counts the listing expects (``realised`` False).
        kernel: its name.
        estimate_s: expected wall time.
        source: index into ``Plan.sources`` of the matrix, or for a dense partner of the weight it multiplies; -1 for
            the seeded dense weight of the shape.
        reason: why the kernel does not support the case; such a job is recorded and never run. "" if it does.
    """

    case: Case
    kernel: str
    estimate_s: float
    source: int
    reason: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """Identity within a run."""
        return self.case.key, self.kernel


@dataclass(frozen=True)
class Plan:
    """What a run will do, in order.

    Attributes:
        suite: what it was made from; its regime is the one that was asked for.
        device: ``cuda`` or ``cpu``.
        jobs: in order: those of one shape adjacent, the dense ones first, then matrix by matrix.
        sources: how to open the collections again.
        kernels: version of every planned kernel by name.
        extra_kernels: specs of kernels that are neither built in nor installed.
        notes: what was left out, in words.
        identity: hash of everything asked for; kept by ``sample``, so that a run can go on under another budget.
        total: jobs before sampling.
        timer: name of the timer that every job is timed with.
    """

    suite: Suite
    device: Device
    jobs: list[Job]
    sources: list[Source]
    kernels: dict[str, str]
    extra_kernels: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)
    identity: str = ""
    total: int = 0
    timer: str = ""

    @property
    def estimate_s(self) -> float:
        """Expected wall time of all jobs, start-up included."""
        return _estimate.startup_s(self.device) + sum(job.estimate_s for job in self.jobs)

    def to_table(self) -> pd.DataFrame:
        """One row per case: matrix, shape (M x K x N), pattern, sparsity, format, dtype, kernels, unsupported kernels,
        expected seconds."""
        import pandas as pd

        rows: dict[str, dict[str, object]] = {}
        for job in self.jobs:
            case = job.case
            fresh: dict[str, object] = {
                "matrix": case.matrix,
                "shape": f"{case.M}x{case.K}x{case.N}",
                "pattern": case.pattern,
                "sparsity": case.target_sparsity,
                "format": case.format,
                "dtype": case.dtype,
                "kernels": "",
                "unsupported": "",
                "estimate_s": 0.0,
            }
            row = rows.setdefault(case.key, fresh)
            column = "unsupported" if job.reason else "kernels"
            row[column] = f"{row[column]} {job.kernel}".strip()
            row["estimate_s"] = float(str(row["estimate_s"])) + job.estimate_s
        columns = ["matrix", "shape", "pattern", "sparsity", "format", "dtype", "kernels", "unsupported", "estimate_s"]
        return pd.DataFrame(list(rows.values()), columns=columns)


def make_plan(
    suite: Suite,
    *,
    kernels: Mapping[str, Kernel],
    device: Device,
    collection: str | None = None,
    extra_kernels: Sequence[str] = (),
    dtypes: Sequence[str] = (),
    select: Sequence[str] = (),
    timer: str | None = None,
    l2: L2State | None = None,
) -> Plan:
    """Expand a suite.

    Args:
        suite: see ``suites.load_suite``.
        kernels: by name, from ``registry.load_kernels``.
        device: where it will run.
        collection: what ``default`` stands for in the suite; the built-in collection by default.
        extra_kernels: the specs ``kernels`` was loaded with; the worker loads them again.
        dtypes: overrides every dtype of the suite.
        select: globs; only kernels that match one of them are planned. Dense ones stay unless a glob names dense.
        timer: in place of the suite's; where neither names one, the device's default.
        l2: state of the last-level cache, in place of the suite's.

    Raises:
        UserError: the suite or the timer does not run on the device, a collection cannot be opened, a glob matches no
            kernel, or nothing is left to do.
    """
    if device not in suite.devices:
        raise UserError(f"suite {suite.name} is made for {' and '.join(suite.devices)}, not for {device}", exit_code=6)
    named = timer_name(device, timer if timer is not None else suite.timer)
    if l2 is not None:
        suite = replace(suite, regime=replace(suite.regime, l2=l2))
    notes: list[str] = []
    usable = _usable(kernels, device, notes)
    candidates, sources = expand(suite, usable, kernels, device, collection, tuple(dtypes), tuple(select), notes)
    jobs = _jobs(candidates, usable, device, suite, rotates=named == GraphTimer.name and suite.regime.l2 != "hot")
    if not any(not job.reason for job in jobs):
        raise UserError(
            f"suite {suite.name} leaves nothing to run on {device}: " + ("; ".join(notes) or "no matrix matches"), 6
        )
    versions = {name: kernels[name].version for name in sorted({job.kernel for job in jobs})}
    plan = Plan(suite, device, jobs, sources, versions, tuple(extra_kernels), notes, total=len(jobs), timer=named)
    return replace(plan, identity=_identity(plan))


def _usable(kernels: Mapping[str, Kernel], device: Device, notes: list[str]) -> dict[str, Kernel]:
    usable = {}
    elsewhere = []
    reasons: dict[str, list[str]] = {}
    for name, kernel in kernels.items():
        answer = kernel.available(device)
        if answer:
            usable[name] = kernel
        elif device not in kernel.devices:
            elsewhere.append(name)
        else:
            reasons.setdefault(answer.reason, []).append(name)
    notes += [f"not available here: {', '.join(names)}: {reason}" for reason, names in reasons.items()]
    if elsewhere:
        notes.append(f"not made for {device}: {', '.join(elsewhere)}")
    return usable


def _jobs(
    candidates: Sequence[Candidate], usable: Mapping[str, Kernel], device: Device, suite: Suite, *, rotates: bool
) -> list[Job]:
    """Jobs in running order. A dense case is shared by all sparse cases of its shape, dtype and layout."""
    chosen: dict[object, Candidate] = {}
    for candidate in candidates:
        for one in (dense_partner(candidate, suite.seed), candidate):
            if not one.kernels:
                continue
            key = _identity_of(one.case)
            old = chosen.get(key)
            if old is not None:
                names = (*old.kernels, *(k for k in one.kernels if k not in old.kernels))
                batch = old.case.batch if old.case.batch == one.case.batch else None
                better = one if one.unpruned and not old.unpruned else old  # the first weight that is known
                one = replace(better, kernels=names, case=replace(better.case, batch=batch))
            chosen[key] = one
    ordered = _order(list(chosen.values()))
    each, first = _estimate.estimate([c.case for c in ordered], device, suite.stopping, rotates=rotates)
    jobs = []
    for candidate, seconds, shared in zip(ordered, each, first, strict=True):
        for name in candidate.kernels:
            answer = usable[name].supports(candidate.case, device)
            cost = 0.0 if not answer else seconds + shared
            shared = shared if not answer else 0.0
            jobs.append(Job(candidate.case, name, cost, candidate.source, answer.reason))
    return jobs


def _identity_of(case: Case) -> object:
    """What makes two candidates one case: for a dense one its shape, whichever collection asked first."""
    if case.format == "dense":
        return case.M, case.K, case.N, case.dtype, case.layout
    return case.key


def _order(candidates: list[Candidate]) -> list[Candidate]:
    """Shapes (M, K) in order of appearance; within one, dense cases, then the cases of one matrix after the other."""
    shapes: dict[tuple[int, int], int] = {}
    matrices: dict[tuple[int, str], int] = {}
    for c in candidates:
        shapes.setdefault((c.case.M, c.case.K), len(shapes))
        matrices.setdefault((c.source, c.case.matrix), len(matrices))

    def key(c: Candidate) -> tuple[int, bool, int]:
        return shapes[c.case.M, c.case.K], c.case.format != "dense", matrices[c.source, c.case.matrix]

    return sorted(candidates, key=key)


def _identity(plan: Plan) -> str:
    text = json.dumps(
        [
            plan.device,
            plan.timer,
            asdict(plan.suite.regime),
            asdict(plan.suite.stopping),
            sorted((*job.key, plan.kernels[job.kernel]) for job in plan.jobs),
        ]
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]
