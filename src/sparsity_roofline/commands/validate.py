"""``validate``: predictions beside measurements."""

from __future__ import annotations

from pathlib import Path

import click

from sparsity_roofline.commands._cases import ROWS
from sparsity_roofline.commands._result import print_validation
from sparsity_roofline.model.errors import UserError


@click.command("validate")
@click.argument("run", type=click.Path(path_type=Path, readable=False), required=False)
@click.option(
    "--measurements",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.csv",
    help="Check the models against anyone's latencies instead of a run (docs/measurements.md).",
)
@click.option(
    "--mapping", metavar="NAME|FILE.toml", help="How the file's columns are named; known ones are recognised."
)
@click.option("--map", "columns", multiple=True, metavar="FIELD=COLUMN", help="One column's field (repeatable).")
@click.option("--value", "values", multiple=True, metavar="FIELD=VALUE", help="A field that is the same in every row.")
@click.option("--device", help="Ceilings for every row of the file: a GPU of `hardware list` or a TOML file.")
@click.option("--calibrate", is_flag=True, help="Fit the refined model to the file's other shapes (a minute).")
@click.option("--cases/--no-cases", default=True, help="Write the table of single measurements too.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for tables and plots [RUN].")
@click.option("--preset", type=click.Choice(["paper", "unit", "bound"]), default="paper", show_default=True)
@click.option(
    "--ceilings", type=click.Choice(["datasheet", "measured"]), help="By default datasheet on a GPU of the table."
)
@click.option(
    "--dense", "dense_kernel", metavar="KERNEL", help="The dense partner; `best`, or `matched`: of its own family."
)
@click.option(
    "--floor-us",
    type=click.FloatRange(0.0),
    help="Keep pairs with a shorter speed of light out of the averages [5 on a GPU, 0 on a CPU].",
)
@click.option("--rows", type=ROWS, default=20, show_default=True, help="Print at most so many cases.")
@click.option("--json", "as_json", is_flag=True, help="Print pairs and summary as JSON.")
def command(
    run: Path | None,
    measurements: Path | None,
    mapping: str | None,
    columns: tuple[str, ...],
    values: tuple[str, ...],
    device: str | None,
    calibrate: bool,
    cases: bool,
    out: Path | None,
    preset: str,
    ceilings: str | None,
    dense_kernel: str | None,
    floor_us: float | None,
    rows: int,
    as_json: bool,
) -> None:
    """Join the records of RUN (a run folder, .parquet or .jsonl) into tables and plots. Needs no GPU.

    With --measurements, check the models against a table of latencies from anywhere, beside the best constant speedup.

    \b
    Examples:
      sparsity-roofline validate runs/mine
      sparsity-roofline validate results/h100-sxm/dlmc --out /tmp/tables --preset unit
      sparsity-roofline validate run.parquet --out report --dense best --json
      sparsity-roofline validate --measurements slidesparse_2to4.csv --out report
      sparsity-roofline validate --measurements mine.csv --map M=out --map K=in --map N=tokens --value pattern=2:4
    """
    if measurements is not None:
        from sparsity_roofline.commands._external import validate_file

        _check_used(_OF_A_RUN, "--measurements")
        if run is not None:
            raise UserError("validate takes a run or --measurements FILE.csv, not both")
        validate_file(
            measurements, out, mapping=mapping, columns=columns, values=values, device=device, cases=cases,
            calibrate=calibrate, as_json=as_json,
        )  # fmt: skip
        return
    from sparsity_roofline.validation.report import validate

    _check_used(_OF_A_FILE, "a run")
    if run is None:
        raise UserError("say what to validate: a run folder, a file of records, or --measurements FILE.csv")
    if out is None and run.is_dir():
        out = run
    floor_ns = None if floor_us is None else floor_us * 1e3
    validation = validate(run, out, preset=preset, ceilings=ceilings, dense_kernel=dense_kernel, floor_ns=floor_ns)
    print_validation(validation, rows, as_json)


_OF_A_RUN = ("preset", "ceilings", "dense_kernel", "floor_us", "rows")
_OF_A_FILE = ("mapping", "columns", "values", "device", "cases", "calibrate")
_FLAGS = {"columns": "map", "values": "value", "dense_kernel": "dense", "floor_us": "floor-us"}


def _check_used(idle: tuple[str, ...], what: str) -> None:
    """Refuse an option that would be left out in silence."""
    context = click.get_current_context()
    for name in idle:
        if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT:
            raise UserError(f"--{_FLAGS.get(name, name)} does not go with {what}")
