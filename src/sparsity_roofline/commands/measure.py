"""``measure``: time kernels and record it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sparsity_roofline.commands._fleet import opened, planned
from sparsity_roofline.commands._measuring import held, measure, measuring_options, print_plan, print_summary, told


@click.command("measure")
@measuring_options
@click.option("--cells", type=click.Path(path_type=Path), help="Only the (case, kernel) pairs of this JSON file.")
@click.option(
    "--hold", is_flag=True, help="Get ready, then wait for a line on standard input before touching the device."
)
def command(**given: Any) -> int:
    """Time the kernels of a suite on this machine and record every case as it is finished.

    \b
    Examples:
      sparsity-roofline measure --dry-run
      sparsity-roofline measure --suite dlmc --collection dlmc.tar.gz --out runs/dlmc --budget 10m
      sparsity-roofline measure --suite dlmc --collection dlmc.tar.gz --out runs/dlmc --resume
      sparsity-roofline measure --only 'bsr.*' --kernel my_module:my_kernel
    """
    with held(given), opened(given) as fleet:
        plan = planned(given, fleet)
        if given["dry_run"]:
            print_plan(plan, given["as_json"])
            return 0
        summary = measure(plan, given, fleet)
    if given["as_json"]:
        print_summary(summary)
    else:
        click.echo(f"{told(summary)}\nrecords in {summary.folder}; next: sparsity-roofline validate {summary.folder}")
    return summary.exit_code
