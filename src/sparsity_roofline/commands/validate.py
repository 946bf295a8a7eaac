"""``validate``: predictions beside measurements."""

from __future__ import annotations

from pathlib import Path

import click

from sparsity_roofline.commands._cases import ROWS
from sparsity_roofline.commands._result import print_validation


@click.command("validate")
@click.argument("run", type=click.Path(path_type=Path, readable=False))
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for tables and plots [RUN].")
@click.option("--preset", type=click.Choice(["paper", "unit", "bound"]), default="paper", show_default=True)
@click.option(
    "--ceilings", type=click.Choice(["datasheet", "measured"]), help="By default datasheet on a GPU of the table."
)
@click.option("--dense", "dense_kernel", metavar="KERNEL", help="The dense partner; `best` takes the fastest.")
@click.option(
    "--floor-us",
    type=click.FloatRange(0.0),
    help="Keep pairs with a shorter speed of light out of the averages [5 on a GPU, 0 on a CPU].",
)
@click.option("--rows", type=ROWS, default=20, show_default=True, help="Print at most so many cases.")
@click.option("--json", "as_json", is_flag=True, help="Print pairs and summary as JSON.")
def command(
    run: Path,
    out: Path | None,
    preset: str,
    ceilings: str | None,
    dense_kernel: str | None,
    floor_us: float | None,
    rows: int,
    as_json: bool,
) -> None:
    """Join the records of RUN (a run folder, .parquet or .jsonl) into tables and plots. Needs no GPU.

    \b
    Examples:
      sparsity-roofline validate runs/mine
      sparsity-roofline validate results/h100-sxm/dlmc --out /tmp/tables --preset unit
      sparsity-roofline validate run.parquet --out report --dense best --json
    """
    from sparsity_roofline.validation.report import validate

    if out is None and run.is_dir():
        out = run
    floor_ns = None if floor_us is None else floor_us * 1e3
    validation = validate(run, out, preset=preset, ceilings=ceilings, dense_kernel=dense_kernel, floor_ns=floor_ns)
    print_validation(validation, rows, as_json)
