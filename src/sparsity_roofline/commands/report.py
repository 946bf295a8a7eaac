"""``report``: one HTML file, tables and figures that answer whether the Sparsity Roofline holds."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from sparsity_roofline.commands._render import console, print_table


@click.command("report")
@click.argument("runs", type=click.Path(path_type=Path, readable=False), nargs=-1, required=True)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="The HTML file.")
@click.option("--tables", type=click.Path(file_okay=False, path_type=Path), help="Folder for CSV, Markdown and LaTeX.")
@click.option("--figures", type=click.Path(file_okay=False, path_type=Path), help="Folder for PNG and SVG.")
@click.option(
    "--accuracy",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.csv",
    help="network, pattern, sparsity, accuracy of your own [those published with the DLMC].",
)
@click.option("--title", help="Of the page.")
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
def command(
    runs: tuple[Path, ...],
    out: Path | None,
    tables: Path | None,
    figures: Path | None,
    accuracy: Path | None,
    title: str | None,
    preset: str,
    ceilings: str | None,
    dense_kernel: str | None,
    floor_us: float | None,
) -> None:
    """Does the Sparsity Roofline hold? The records of RUNS (run folders, .parquet or .jsonl) as one page that opens
    anywhere, offline. Needs no GPU; several devices stand side by side.

    \b
    Examples:
      sparsity-roofline report results/h100-sxm/dlmc --out report.html
      sparsity-roofline report runs/h100 runs/h200 --out report.html --tables tables --figures figures
      sparsity-roofline report runs/mine --out mine.html --accuracy accuracies.csv --dense best
    """
    from sparsity_roofline.model.errors import UserError
    from sparsity_roofline.validation.page.report import TITLE, report

    if out is tables is figures is None:
        raise UserError("say what to write: --out FILE.html, --tables FOLDER, --figures FOLDER")
    # What can be typed again to remake the page; a path outside of the folder it was typed in is the reader's own.
    words = ["sparsity-roofline", "report", *(str(run) for run in runs)]
    asked = {"accuracy": accuracy, "ceilings": ceilings, "dense": dense_kernel, "floor-us": floor_us, "out": out}
    for name, value in {**asked, "preset": preset if preset != "paper" else None}.items():
        words += [] if value is None else [f"--{name}", str(value)]
    shown = [Path(word).name if Path(word).is_absolute() else word for word in words]
    made = report(
        runs, out, tables=tables, figures=figures, accuracies=accuracy, title=title or TITLE, preset=preset,
        ceilings=ceilings, dense_kernel=dense_kernel, floor_ns=None if floor_us is None else floor_us * 1e3,
        command=shlex.join(shown),
    )  # fmt: skip
    for answer in made.answers:
        lines = [(what, value) for value, what in answer.figures]
        print_table(f"{answer.device}, {answer.run}", ("what", "figure"), lines, (1,))
        for sentence in answer.sentences:
            console().print(sentence, markup=False)
    for message in made.validation.messages:
        console().print(message, markup=False)
    for folder in sorted({path.parent for path in made.written}):
        names = [path.name for path in made.written if path.parent == folder]
        console().print(f"wrote {folder}: {', '.join(names)}", markup=False, soft_wrap=True)
