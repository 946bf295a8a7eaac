"""``kernels``: what can multiply, what cannot here, and how good each is beside the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sparsity_roofline.commands._render import print_json, print_table


@click.group("kernels", invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """List kernels, or compare those of a run.

    \b
    Examples:
      sparsity-roofline kernels list
      sparsity-roofline kernels summary runs/kernels
      sparsity-roofline kernels list --json
      sparsity-roofline kernels list --kernel my_module:my_kernel
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_)


@command.command("list")
@click.option("--kernel", "extra", multiple=True, metavar="MODULE:NAME", help="Add a kernel of your own (repeatable).")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def list_(extra: tuple[str, ...] = (), as_json: bool = False) -> None:
    """Every kernel with its format, dtypes and devices, and why it is unavailable on this machine."""
    from sparsity_roofline.bench.environment import pick_device
    from sparsity_roofline.kernels.registry import load_kernels

    device = pick_device()
    rows: list[dict[str, Any]] = []
    built_in = set(load_kernels())
    for kernel in load_kernels(extra).values():
        answer = kernel.available(device)
        rows.append(
            {
                "name": kernel.name,
                "format": kernel.format,
                "dtypes": list(kernel.dtypes),
                "devices": list(kernel.devices),
                "version": kernel.version,
                "ours": kernel.ours,
                "code": "ours" if kernel.ours else _code(kernel.name, kernel.name in built_in),
                "available": bool(answer),
                "reason": answer.reason,
            }
        )
    if as_json:
        print_json({"device": device, "kernels": rows})
        return
    print_table(
        f"Kernels; this machine: {device}",
        ("kernel", "format", "dtypes", "devices", "code", "here"),
        (
            (
                row["name"],
                row["format"],
                " ".join(row["dtypes"]),
                " ".join(row["devices"]),
                row["code"],
                "yes" if row["available"] else f"no: {row['reason']}",
            )
            for row in rows
        ),
    )


def _code(name: str, built_in: bool) -> str:
    """Whose code runs, where it is not this repository's."""
    if not built_in:
        return "yours"
    return "the fastest of these" if name.endswith(".auto") else "peer"


@command.command("summary")
@click.argument("run", type=click.Path(path_type=Path, readable=False))
@click.option("--by-n/--no-by-n", default=True, help="A row for each N, or one over all N.")
@click.option(
    "--dense", "dense_kernel", default="dense.cublas", show_default=True, help="The dense product beside them."
)
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for the tables as CSV and Markdown."
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def summary(run: Path, by_n: bool, dense_kernel: str, out: Path | None, as_json: bool) -> None:
    """Every kernel of RUN against the best peer of its format and against the dense product, cell by cell.

    \b
    Example:
      sparsity-roofline kernels summary results/h100-sxm/kernels --no-by-n
    """
    from sparsity_roofline.bench.store import read_records
    from sparsity_roofline.validation import peers, tables

    table = peers.cells(read_records(run), dense_kernel)
    both = {"kernels": peers.summarise(table), "kernels-all-n": peers.summarise(table, peers.WIDER)}
    shown = both["kernels" if by_n else "kernels-all-n"]
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for name, rows in both.items():
            tables.write_csv(rows, out / f"{name}.csv")
            tables.write_markdown(
                rows, out / f"{name}.md", "Kernels beside their peers", peers.NOTES, peers.headings(rows)
            )
    if as_json:
        print_json({"rows": shown.to_dict("records")})
        return
    headings = {k: text for k, text in peers.headings(shown).items() if k != "worst_cell"}  # too wide for a terminal
    print_table(
        f"Kernels of {run.name} beside their peers",
        tuple(headings.values()),
        (tuple(tables.number(v) for v in row) for row in shown[list(headings)].itertuples(index=False, name=None)),
    )
