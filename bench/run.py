"""Carry out a plan: hand jobs to a worker, write each record down at once, outlive whatever a kernel does."""

from __future__ import annotations

import contextlib
import platform
import secrets
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from os import PathLike
from typing import Any

from sparsity_roofline.bench.child import Child
from sparsity_roofline.bench.cluster import Fleet, Team
from sparsity_roofline.bench.events import Event, OnEvent, RunSummary
from sparsity_roofline.bench.folder import RunFolder
from sparsity_roofline.bench.plan import Plan
from sparsity_roofline.bench.redact import redact, redact_argv
from sparsity_roofline.bench.supervisor import Supervisor, now
from sparsity_roofline.bench.timing import clocks, nvml
from sparsity_roofline.model.record import SCHEMA_VERSION

__all__ = ["Event", "RunSummary", "run"]


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
    child: Child | None = None,
    fleet: Fleet | None = None,
) -> RunSummary:
    """Carry out a plan into a run folder.

    Args:
        folder: new or empty; with ``resume`` also the folder of the same plan, whose finished jobs are skipped.
        case_timeout_s: a job that takes longer is ended and recorded as ``timeout``.
        budget_s: wall time of this sitting; a job that is expected not to fit any more is left for ``resume``.
        on_event: called for progress; what it raises ends the run.
        argv: the command line, kept in run.json without its paths.
        calibrate: measure this machine's ceilings where none are kept.
        child: a worker that has been started and told nothing, to be used first.
            For a run on one device.
        fleet: several devices instead of one (``cluster_local``, ``cluster_dask``); closed by who opened it.

    Returns:
        What was done; ``exit_code`` says how it ended. After an interrupt (SIGINT, SIGTERM) everything finished is on
        disk and in Parquet, and the code is 130.

    Raises:
        UserError: the folder is not usable, the disk is full, or no worker can be started. What was written stays.
    """
    start = time.monotonic()
    meta = _meta(plan, argv, budget_s)
    if fleet is not None:
        meta["workers"] = fleet.size
    fixed = plan.suite.regime.clocks == "fixed"
    # Each place of a fleet holds the clock of its own device.
    clock: contextlib.AbstractContextManager[list[str]] = (
        _clocks(plan.device, fixed) if fleet is None else contextlib.nullcontext([])
    )
    with RunFolder.open(folder, meta, resume=resume) as where, _interrupts(), clock as said:
        # Ceilings are kept and used for runs with free clocks: they are not measured under a lock.
        given = (plan, where, case_timeout_s, budget_s, on_event, calibrate and not fixed, start)
        supervisor = Supervisor(*given, child) if fleet is None else Team(fleet, *given)
        supervisor.notes += said
        try:
            supervisor.work()
        except KeyboardInterrupt:
            supervisor.interrupted = True
        finally:
            supervisor.stop()
        return supervisor.conclude()


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
        "timer": plan.timer,
        "regime": asdict(suite.regime),
        "stopping": asdict(suite.stopping),
        "collections": sorted({job.case.collection for job in plan.jobs}),
        "kernels": plan.kernels,
        "jobs": plan.total,
        "budget_s": budget_s,
        "started": now(),
        "finished": None,
    }


@contextlib.contextmanager
def _clocks(device: str, fixed: bool) -> Iterator[list[str]]:
    """Undo a lock that a killed run left, and hold one for this run where ``fixed`` clocks are asked for.

    This process holds it, not the worker: it outlives every worker, and it ends in an orderly way. Yields what is to
    be told.
    """
    if device != "cuda":
        yield []
        return
    said = clocks.restore_left_behind()
    if not fixed:
        yield said
        return
    with clocks.held(nvml.device_uuid()) as lock:
        yield [*said, f"the SM clock is locked at {lock.mhz:.0f} MHz until the run ends"]


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
