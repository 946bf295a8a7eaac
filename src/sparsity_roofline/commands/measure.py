"""``measure``: time kernels and record it."""

from __future__ import annotations

from typing import Any

import click

from sparsity_roofline.commands._measuring import make_plan, measure, measuring_options, print_plan, print_summary, told


@click.command("measure")
@measuring_options
def command(**given: Any) -> int:
    """Time the kernels of a suite on this machine and record every case as it is finished.

    \b
    Examples:
      sparsity-roofline measure --dry-run
      sparsity-roofline measure --suite dlmc --collection dlmc.tar.gz --out runs/dlmc --budget 10m
      sparsity-roofline measure --suite dlmc --collection dlmc.tar.gz --out runs/dlmc --resume
      sparsity-roofline measure --only 'bsr.*' --kernel my_module:my_kernel
    """
    plan = make_plan(given)
    if given["dry_run"]:
        print_plan(plan, given["as_json"])
        return 0
    summary = measure(plan, given)
    if given["as_json"]:
        print_summary(summary)
    else:
        click.echo(f"{told(summary)}\nrecords in {summary.folder}; next: sparsity-roofline validate {summary.folder}")
    return summary.exit_code
