"""``history``: time over commits."""

from __future__ import annotations

from pathlib import Path

import click

from sparsity_roofline.commands._cases import ROWS
from sparsity_roofline.commands._render import console, print_json, print_table


@click.command("history")
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--kernel", "kernels", multiple=True, metavar="GLOB", help="Only kernels with such names (repeatable).")
@click.option("--match", default="*", show_default=True, metavar="GLOB", help="Only cases with such keys.")
@click.option("--threshold", type=click.FloatRange(0, 1, max_open=True), default=0.02, show_default=True,
              metavar="SHARE", help="Report steps beyond it.")  # fmt: skip
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder of table and plots [STORE].")
@click.option("--rows", type=ROWS, default=30, show_default=True, help="Print at most so many rows.")
@click.option("--json", "as_json", is_flag=True, help="Print the series as JSON.")
def command(
    store: Path, kernels: tuple[str, ...], match: str, threshold: float, out: Path | None, rows: int, as_json: bool
) -> None:
    """Show each kernel's time over the commits of the runs in STORE, and at which commit it changed.

    Writes history.csv, history.png and history.svg. Needs the extra `history`.

    \b
    Examples:
      sparsity-roofline history runs/nightly
      sparsity-roofline history runs/nightly --kernel 'bsr.*' --match '*fp16*' --out report
    """
    from sparsity_roofline.bench.history import history, to_frame
    from sparsity_roofline.bench.history_plot import plot

    series = history(store, kernels=kernels, match=match, threshold=threshold)
    if as_json:
        print_json(
            [
                {
                    "kernel": one.kernel, "case": one.case, "commits": one.commits, "dates": one.dates,
                    "us": one.us.tolist(), "runs": one.runs, "steps": [vars(step) for step in one.steps],
                }
                for one in series
            ]
        )  # fmt: skip
        return
    table = to_frame(series)
    header = ["kernel", "case", "points", "first us", "last us", "change", "steps"]
    cells = [[*row[:5], f"{row[5]:+.1%}", row[6]] for row in table.head(rows).itertuples(index=False)]
    print_table(f"{len(cells)} of {len(table)} series", header, cells, right=(2, 3, 4, 5), whole=(0,))
    folder = out or store
    files = plot(series, folder)
    table.to_csv(folder / "history.csv", index=False)
    names = ", ".join(["history.csv", *(file.name for file in files)])
    console().print(f"wrote {folder}: {names}", markup=False, soft_wrap=True)
