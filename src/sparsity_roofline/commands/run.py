"""``run``: the main job."""

from __future__ import annotations

from typing import Any

import click

from sparsity_roofline.commands._cases import ROWS
from sparsity_roofline.commands._fleet import opened, planned
from sparsity_roofline.commands._measuring import measure, measuring_options, print_plan, print_summary, told
from sparsity_roofline.commands._result import print_validation


@click.command("run")
@measuring_options
@click.option("--rows", type=ROWS, default=24, show_default=True, help="Print at most so many cases.")
def command(rows: int, **given: Any) -> int:
    """Predict, measure and validate: the suite's kernels on this machine, an NVIDIA GPU or else the CPU.

    Writes a run folder with records, tables (CSV, Markdown) and plots (PNG, SVG), and says where.

    \b
    Examples:
      sparsity-roofline run
      sparsity-roofline run --dry-run
      sparsity-roofline run --budget 60s
      sparsity-roofline run --suite dlmc --collection dlmc.tar.gz --out runs/dlmc
      sparsity-roofline run --out runs/dlmc --suite dlmc --collection dlmc.tar.gz --resume
      sparsity-roofline run --devices all
      sparsity-roofline run --cluster tcp://head:8786 --suite dlmc --collection dlmc.tar.gz --out runs/dlmc
      sparsity-roofline run --kernel my_module:my_kernel
    """
    with opened(given) as fleet:
        plan = planned(given, fleet)
        if given["dry_run"]:
            print_plan(plan, given["as_json"])
            return 0
        summary = measure(plan, given, fleet)
    click.echo(told(summary), err=given["as_json"])
    if summary.interrupted:
        if given["as_json"]:
            print_summary(summary)
        return summary.exit_code
    from sparsity_roofline.validation.report import validate

    print_validation(validate(summary.folder, summary.folder), rows, given["as_json"])
    return summary.exit_code
