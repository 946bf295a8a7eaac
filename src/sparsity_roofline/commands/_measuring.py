"""What ``run`` and ``measure`` share: options, the plan, the run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sparsity_roofline.commands._duration import Duration, short
from sparsity_roofline.commands._render import console, print_json, print_table
from sparsity_roofline.model.errors import UserError

if TYPE_CHECKING:
    from sparsity_roofline.bench.cluster import Fleet
    from sparsity_roofline.bench.events import RunSummary
    from sparsity_roofline.bench.plan import Plan


def measuring_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options of every verb that measures."""
    options = [
        click.option("--suite", default="main", show_default=True, help="A suite by name, or a TOML file."),
        click.option("--collection", metavar="URI", help="Matrices the suite measures, instead of the built-in ones."),
        click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Run folder [runs/DATE-SUITE]."),
        click.option("--resume", is_flag=True, help="Go on with the run in --out; finished cases are kept."),
        click.option("--budget", type=Duration(), help="Keep to this wall time (10m, 90s) by the sampling rule."),
        click.option("--dry-run", is_flag=True, help="List the cases with their expected wall time and stop."),
        click.option("--device", type=click.Choice(["cuda", "cpu"]), help="Where to run [what there is]."),
        click.option("--devices", metavar="all|0,1", help="Share the run among GPUs of this host."),
        click.option(
            "--cluster",
            metavar="WHERE",
            help="Share it among Dask workers: a scheduler's address or file, slurm:N jobs, or local:N processes.",
        ),
        click.option("--dtype", "dtypes", multiple=True, help="Only these arithmetic types (repeatable)."),
        click.option("--only", multiple=True, metavar="GLOB", help="Only kernels with such names (repeatable)."),
        click.option("--kernel", "extra", multiple=True, metavar="MODULE:NAME", help="Add a kernel of your own."),
        click.option(
            "--timer", metavar="NAME", help="cupti-kineto, cuda-graph, cuda-events; monotonic on a CPU [suite's]."
        ),
        click.option(
            "--l2",
            type=click.Choice(["cold-clean", "cold-dirty", "hot"]),
            help="Last-level cache before each call [the suite's: cold-clean].",
        ),
        click.option(
            "--timeout", type=Duration(), default=120.0, show_default=True, help="End a case that takes longer."
        ),
        click.option("--no-calibrate", is_flag=True, help="Do not measure ceilings where none are kept."),
        click.option("--json", "as_json", is_flag=True, help="Print the result as JSON."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def make_plan(given: dict[str, Any], devices: int = 1) -> Plan:
    """The plan that the options ask for; a budget is of wall time, in which ``devices`` do so many times as much."""
    from sparsity_roofline.bench import plan as planning
    from sparsity_roofline.bench.environment import pick_device
    from sparsity_roofline.bench.suites import load_suite
    from sparsity_roofline.kernels.registry import load_kernels

    if given["resume"] and given["out"] is None:
        raise UserError("--resume: say which run to go on with: --out FOLDER")
    plan = planning.make_plan(
        load_suite(given["suite"]),
        kernels=load_kernels(given["extra"]),
        device=given["device"] or pick_device(),
        collection=given["collection"],
        extra_kernels=given["extra"],
        dtypes=given["dtypes"],
        select=given["only"],
        timer=given["timer"],
        l2=given["l2"],
    )
    if given.get("cells"):
        from sparsity_roofline.bench.only import only, read_cells

        plan = only(plan, read_cells(given["cells"]))
    return planning.sample(plan, given["budget"], devices) if given["budget"] else plan


def print_plan(plan: Plan, as_json: bool) -> None:
    """The answer to ``--dry-run``."""
    table = plan.to_table()
    if as_json:
        print_json({"estimate_s": plan.estimate_s, "notes": plan.notes, "cases": table.to_dict(orient="records")})
        return
    print_table(f"Suite {plan.suite.name} on {plan.device}", list(table.columns), table.itertuples(index=False), (3, 8))
    for note in plan.notes:
        console().print(note, markup=False)
    jobs = sum(not job.reason for job in plan.jobs)
    console().print(f"{len(table)} cases, {jobs} jobs, about {short(plan.estimate_s)}", markup=False)


def measure(plan: Plan, given: dict[str, Any], fleet: Fleet | None = None) -> RunSummary:
    """Run the plan with a progress bar; the folder is announced first, so that an interrupted run can be found."""
    from sparsity_roofline.bench.run import run
    from sparsity_roofline.commands._progress import RunProgress

    folder: Path | None = given["out"]
    if folder is None:
        folder = Path("runs") / f"{datetime.now():%Y%m%d-%H%M%S}-{plan.suite.name}"
    workers = 1 if fleet is None else fleet.size
    about = f"{short(plan.estimate_s / workers)}{f' on {workers} workers' if workers > 1 else ''}"
    click.echo(f"{len(plan.jobs)} jobs, about {about}, into {folder}", err=True)
    with RunProgress() as progress:
        return run(
            plan,
            folder,
            resume=given["resume"],
            case_timeout_s=given["timeout"],
            budget_s=given["budget"],
            on_event=progress,
            argv=["sparsity-roofline", *sys.argv[1:]],
            calibrate=not given["no_calibrate"],
            fleet=fleet,
            child=given.get("child"),
        )


@contextmanager
def held(given: dict[str, Any]) -> Iterator[None]:
    """Under ``--hold``, start a worker, do what takes time and no device, and wait for a line on standard input.

    Not even a plan is made before: to ask what a kernel supports may already open a context on the device, which would
    count as another process there.
    """
    if not given.get("hold"):
        yield
        return
    from sparsity_roofline.bench.child import Child
    from sparsity_roofline.bench.worker import imports

    given["child"] = child = Child()
    try:
        imports()
        if not sys.stdin.readline():
            raise UserError("--hold: standard input ended before a line came")
        yield
    finally:
        child.kill()


def print_summary(summary: RunSummary) -> None:
    """What was done and where, as JSON."""
    print_json({"folder": str(summary.folder), "counts": summary.counts, "done": summary.done, "left": summary.left})


def told(summary: RunSummary) -> str:
    """One line: what was done, what is left, how to go on."""
    counts = ", ".join(f"{count} {status}" for status, count in sorted(summary.counts.items()))
    line = f"{summary.done} of {summary.planned} jobs in {short(summary.seconds)} ({counts or 'none'})"
    if summary.left:
        line += f"; {summary.left} left: add --out {summary.folder} --resume to go on"
    return line
