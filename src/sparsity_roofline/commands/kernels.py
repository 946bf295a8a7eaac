"""``kernels``: what can multiply, and what cannot here."""

from __future__ import annotations

from typing import Any

import click

from sparsity_roofline.commands._render import print_json, print_table


@click.group("kernels", invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """List kernels.

    \b
    Examples:
      sparsity-roofline kernels list
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
                "ours" if row["ours"] else "peer",
                "yes" if row["available"] else f"no: {row['reason']}",
            )
            for row in rows
        ),
    )
