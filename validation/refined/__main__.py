"""``python -m sparsity_roofline.validation.refined RUN... --out FOLDER``: the refined model's tables of some runs."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from sparsity_roofline.model.errors import UserError
from sparsity_roofline.validation import tables
from sparsity_roofline.validation.refined import write as writing
from sparsity_roofline.validation.refined.errors import LATENCY_HEADINGS, SPEEDUP_HEADINGS


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for the tables.")
@click.option("--fit", is_flag=True, help="Fit the kernels' constants to these runs first (held-out shapes unseen).")
def main(runs: tuple[Path, ...], out: Path | None, fit: bool) -> None:
    """Errors of the plain and the refined model on RUNS (run folders), and what each term contributes.

    \b
    Examples:
      python -m sparsity_roofline.validation.refined results/h100-sxm/dlmc
      python -m sparsity_roofline.validation.refined results/h100-sxm/* --fit --out results/h100-sxm/model
    """
    result = writing.refine(writing.read(runs), fit=fit, ablate=out is not None)
    whole = result.latency[result.latency["dtype"] == "all"], result.speedup[result.speedup["dtype"] == "all"]
    for table, headings in zip(whole, (LATENCY_HEADINGS, SPEEDUP_HEADINGS), strict=True):
        click.echo(tables.to_markdown(table, headings))
    if fit:
        latest = {row["gpu"]: rows for run in runs if (rows := writing.device_rows(run / "ceilings.json", label(run)))
                  for row in rows}  # fmt: skip
        result.devices = [row for rows in latest.values() for row in rows]
    if out is not None:
        for path in writing.write(result, out, [label(run) for run in runs]):
            click.echo(f"wrote {path}")


def label(run: Path) -> str:
    """A run's name within ``results/``, else the folder's own."""
    parts = run.resolve().parts
    return "/".join(parts[parts.index("results") :]) if "results" in parts else run.name


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
