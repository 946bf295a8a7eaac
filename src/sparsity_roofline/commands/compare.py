"""``compare``: did a kernel get slower?"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sparsity_roofline.commands._cases import ROWS, refuse_idle
from sparsity_roofline.commands._render import console, print_table
from sparsity_roofline.model.errors import UserError

if TYPE_CHECKING:
    from sparsity_roofline.bench.compare import Comparison
    from sparsity_roofline.bench.compare_live import Request
    from sparsity_roofline.bench.compare_stats import Rule

FILE = click.Path(dir_okay=False, path_type=Path)
OF_WORKTREE = {"processes": "--processes", "looks": "--looks", "out": "--out", "suite": "--suite",
               "collection": "--collection", "device": "--device", "dtypes": "--dtype", "only": "--only",
               "extra": "--kernel", "timer": "--timer", "l2": "--l2"}  # fmt: skip
"""Parameters that say what is measured, which runs that are there already have been told."""


@click.command("compare")
@click.argument("base")
@click.argument("head")
@click.option("--worktree", is_flag=True, help="BASE and HEAD are git revisions (or . as it is): measure both now.")
@click.option("--threshold", type=click.FloatRange(0, 1, True, True), default=0.02, show_default=True, metavar="SHARE",
              help="A change below this share is none.")  # fmt: skip
@click.option("--threshold-ns", type=click.FloatRange(0), default=64.0, show_default=True,
              help="Nor is one below this time, two steps of the device clock.")  # fmt: skip
@click.option("--confidence", type=click.FloatRange(0, 1, True, True), default=0.95, show_default=True, metavar="SHARE")
@click.option("--markdown", type=FILE, help="Write Markdown, for a job summary or a comment.")
@click.option("--junit", type=FILE, help="Write JUnit XML.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, allow_dash=True), help="Write JSON; - is stdout.")
@click.option("--github", is_flag=True, help="Print GitHub annotations after the table.")
@click.option("--rows", type=ROWS, default=30, show_default=True, help="Print at most so many cells.")
@click.option("--processes", type=click.IntRange(2), default=5, show_default=True,
              help="With --worktree: fresh processes a side, for each look.")  # fmt: skip
@click.option("--looks", type=click.IntRange(1), default=2, show_default=True,
              help="With --worktree: measure what is not SAME again, so many times in all.")  # fmt: skip
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="With --worktree: folder of the runs [runs/DATE-compare].",
)
@click.option("--suite", default="gate", show_default=True, help="With --worktree: a suite by name, or a TOML file.")
@click.option("--collection", metavar="URI", help="With --worktree: matrices the suite measures.")
@click.option("--device", type=click.Choice(["cuda", "cpu"]), help="With --worktree: where [what there is].")
@click.option("--dtype", "dtypes", multiple=True, help="With --worktree: only these arithmetic types (repeatable).")
@click.option("--only", multiple=True, metavar="GLOB", help="With --worktree: only kernels with such names.")
@click.option("--kernel", "extra", multiple=True, metavar="MODULE:NAME", help="With --worktree: add your own kernel.")
@click.option("--timer", metavar="NAME", help="With --worktree: in place of the suite's.")
@click.option("--l2", type=click.Choice(["cold-clean", "cold-dirty", "hot"]), help="With --worktree: cache state.")
def command(base: str, head: str, worktree: bool, **given: Any) -> int:
    """Say of every (case, kernel) whether HEAD is slower than BASE: REGRESSED, IMPROVED, SAME or INCONCLUSIVE.

    BASE and HEAD are run folders, folders that hold one run folder for each process, or files of records; with
    --worktree git revisions, each measured in fresh processes in turn on the same device.

    \b
    Examples:
      sparsity-roofline compare main HEAD --worktree
      sparsity-roofline compare v1.2 . --worktree --only 'bsr.*' --processes 7
      sparsity-roofline compare runs/20261122-compare/base runs/20261122-compare/head --markdown summary.md
      sparsity-roofline compare main HEAD --worktree --kernel mine.py:Kernel --junit gate.xml --github

    \b
    Exit codes: 0 no regression; 1 a regression; 3 a wrong result; 4 not measured alike; 5 inconclusive.
    """
    from sparsity_roofline.bench import compare_reports as reports
    from sparsity_roofline.bench.compare import Rule, compare

    rule = Rule(given["threshold"], given["threshold_ns"], given["confidence"])
    comparison = _measured(base, head, rule, given) if worktree else _stored(base, head, rule, compare)
    if given["json_file"] == "-":
        click.echo(reports.to_json(comparison))
    else:
        print_comparison(comparison, given["rows"])
    writers = (("markdown", reports.to_markdown), ("junit", reports.to_junit), ("json_file", reports.to_json))
    for option, write in writers:
        if given[option] and given[option] != "-":
            Path(given[option]).write_text(write(comparison), encoding="utf-8")
    if given["github"]:
        click.echo(reports.to_github(comparison), nl=False)
    return comparison.exit_code


def _stored(base: str, head: str, rule: Rule, compare: Callable[..., Comparison]) -> Comparison:
    refuse_idle(OF_WORKTREE, "runs that were measured already; --worktree measures two revisions")
    for where in (base, head):
        if not Path(where).exists():
            raise UserError(f"there is no file or folder {where}; to measure git revisions add --worktree")
    return compare(base, head, rule)


def _measured(base: str, head: str, rule: Rule, given: dict[str, Any]) -> Comparison:
    from sparsity_roofline.bench.compare_live import Arm, compare_arms
    from sparsity_roofline.bench.compare_trees import top, worktrees
    from sparsity_roofline.bench.suites import load_suite

    suite = load_suite(given["suite"])
    root = top(Path.cwd())
    out = given["out"] or Path("runs") / f"{datetime.now():%Y%m%d-%H%M%S}-compare"
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out} is not empty: choose another folder")
    with tempfile.TemporaryDirectory() as folder, worktrees(root, [base, head]) as trees:
        file = Path(folder) / f"{suite.name}.toml"  # one text for both sides
        file.write_text(suite.text, encoding="utf-8")
        request = _request(given, file, rule)
        arms = [Arm(name, tree) for name, tree in zip(("base", "head"), trees, strict=True)]
        found = compare_arms(arms[0], arms[1:], out, request, say=lambda text: click.echo(text, err=True))[0]
    click.echo(f"runs in {out}", err=True)
    return found


def _request(given: dict[str, Any], suite: Path, rule: Rule) -> Request:
    from sparsity_roofline.bench.compare_live import Request
    from sparsity_roofline.bench.environment import pick_device

    device = given["device"] or pick_device()
    arguments = ["--suite", str(suite), "--device", device]
    for option in ("collection", "timer", "l2"):
        if given[option]:
            value = given[option]
            if option == "collection" and Path(value).exists():
                value = str(Path(value).resolve())  # processes run in folders of their own
            arguments += [f"--{option}", value]
    for option, name in (("dtypes", "--dtype"), ("only", "--only"), ("extra", "--kernel")):
        for value in given[option]:
            arguments += [name, value]
    return Request(tuple(arguments), given["processes"], given["looks"], ahead=device == "cuda", rule=rule)


def print_comparison(comparison: Comparison, rows: int) -> None:
    """The cells, the worst first, those that are SAME only counted; then what a reader must know."""
    from sparsity_roofline.bench import compare_reports as reports
    from sparsity_roofline.bench.compare import SAME

    changed = comparison.cells[comparison.cells["verdict"] != SAME]
    if len(changed) and rows:
        header = ["verdict", "cell", "base us", "head us", "change", "interval", "cycles", "processes", "why"]
        lines = [
            [
                row.verdict, reports.cell_name(row), row.base_us, row.head_us, f"{row.change:+.1%}",
                f"{row.low:+.1%} to {row.high:+.1%}" if math.isfinite(row.high) else "",
                f"{row.cycles:+.1%}" if math.isfinite(row.cycles) else "",
                f"{row.base_processes}+{row.head_processes}", reports.plain(row.reason),
            ]
            for row in reports.rows(changed.head(rows))
        ]  # fmt: skip
        title = f"{comparison.base} to {comparison.head}: {len(lines)} of {len(changed)} cells that are not SAME"
        print_table(reports.plain(title), header, lines, right=(2, 3, 4, 6), whole=(0,))
    out = console()
    for row in reports.rows(comparison.lost.head(rows)):
        out.print(f"no longer runs: {reports.cell_name(row)}: {row.status}: {reports.plain(row.reason)}", markup=False)
    for note in comparison.notes:
        out.print(reports.plain(note), markup=False)
    out.print(reports.headline(comparison), markup=False)
