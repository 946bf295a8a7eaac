"""``network``: how much a whole network gains when only its prunable layers are sparse."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sparsity_roofline.commands._cases import POSITIVE, ROWS, parse_items, refuse_idle
from sparsity_roofline.commands._render import console, print_json, print_table, seconds
from sparsity_roofline.model.errors import UserError

if TYPE_CHECKING:
    import pandas as pd


@click.command("network")
@click.argument("networks", nargs=-1, metavar="NAME...")
@click.option("--device", default="h100", show_default=True, help="A GPU of `hardware list`, or a TOML file.")
@click.option("--set", "figures", multiple=True, metavar="FIGURE=VALUE", help="Change a ceiling: dram_bandwidth=8e12.")
@click.option("--pattern", "patterns", multiple=True, default=("2:4",), show_default=True, help="Repeatable.")
@click.option(
    "--sparsity", "sparsities", multiple=True, type=float, default=(0.9,), show_default=True, help="Repeatable."
)
@click.option("--dtype", default="fp16", show_default=True, help="Of all arithmetic.")
@click.option(
    "--batch", "batches", multiple=True, type=POSITIVE, default=(1,), help="Images or sequences (repeatable)."
)
@click.option(
    "--tokens",
    multiple=True,
    type=POSITIVE,
    default=(2048,),
    help="Sequence length, in decode of the cache (repeatable).",
)
@click.option(
    "--phase",
    "phases",
    multiple=True,
    type=click.Choice(["prefill", "decode"]),
    default=("prefill",),
    help="Repeatable.",
)
@click.option(
    "--attention",
    multiple=True,
    type=click.Choice(["fused", "materialised"]),
    default=("fused",),
    help="One kernel, or scores written to memory and read back (repeatable).",
)
@click.option(
    "--elementwise",
    multiple=True,
    type=click.Choice(["fused", "separate"]),
    default=("fused",),
    help="Norms, activations, sums and gates: in the products, or kernels of their own (repeatable).",
)
@click.option(
    "--all-logits", is_flag=True, help="In a prefill, run the output head for every token, not only the last."
)
@click.option(
    "--keep-dense", multiple=True, metavar="GLOB", help="Layers that stay dense [first layer and output head]."
)
@click.option("--floor-us", type=click.FloatRange(0.0), default=0.0, help="Launch floor, once a launch, both sides.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Write every row to this CSV file.")
@click.option(
    "--plot", type=click.Path(dir_okay=False, path_type=Path), help="Speedup over sequence length, PNG or SVG."
)
@click.option("--rows", type=ROWS, default=60, show_default=True, help="Print at most so many rows.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def command(
    networks: tuple[str, ...],
    device: str,
    figures: tuple[str, ...],
    patterns: tuple[str, ...],
    sparsities: tuple[float, ...],
    dtype: str,
    batches: tuple[int, ...],
    tokens: tuple[int, ...],
    phases: tuple[str, ...],
    attention: tuple[str, ...],
    elementwise: tuple[str, ...],
    all_logits: bool,
    keep_dense: tuple[str, ...],
    floor_us: float,
    output: Path | None,
    plot: Path | None,
    rows: int,
    as_json: bool,
) -> None:
    """End-to-end speedup of networks when only their prunable layers are sparse; attention and the rest stay dense.

    \b
    Examples:
      sparsity-roofline network llama-3-8b --tokens 2048 --tokens 32768 --pattern 2:4
      sparsity-roofline network llama-3-8b --phase decode --batch 1 --batch 64 --tokens 8192 --pattern block64
      sparsity-roofline network resnet50 deit_base swin_tiny --batch 32 --pattern 2:4 --elementwise separate
      sparsity-roofline network gpt2 --set dram_bandwidth=8e12 --attention fused --attention materialised
    """
    from sparsity_roofline.endtoend import end_to_end
    from sparsity_roofline.model import networks as tables
    from sparsity_roofline.model.assumed import change, find
    from sparsity_roofline.model.networks.whole import KEPT_DENSE

    if not networks:
        raise UserError(f"name a network: {', '.join(tables.names())}")
    layers = [layer for name in networks for layer in tables.load(tables.find(name))]
    for glob in keep_dense:
        if not any(fnmatchcase(layer.layer, glob) for layer in layers):
            raise UserError(f"--keep-dense {glob!r} fits no layer of {', '.join(networks)}")
    if all(layer.per == "image" for layer in layers):
        refuse_idle({"tokens": "--tokens", "phases": "--phase", "all_logits": "--all-logits"}, "networks of images")
    ceilings = find(device)
    if figures:
        ceilings = change(ceilings, parse_items(figures, "--set"))
    frame = end_to_end(
        networks, device=ceilings, pattern=patterns, sparsity=sparsities, dtype=dtype, batch=batches, tokens=tokens,
        phase=phases, attention=attention, elementwise=elementwise, all_logits=all_logits,
        keep_dense=keep_dense or KEPT_DENSE, floor_us=floor_us,
    )  # fmt: skip
    if output is not None:
        try:
            frame.to_csv(output, index=False, float_format="%.6g", lineterminator="\n")
        except OSError as error:
            raise UserError(f"cannot write {output}: {error.strerror or error}") from error
    if plot is not None:
        _plot(frame, plot, f"{ceilings.device}, {dtype}")
    if as_json:
        print_json(frame.astype(object).where(frame.notna(), None).to_dict("records"))
        return
    shown = frame.head(rows).to_dict("records")
    print_table(
        f"{ceilings.device}, {ceilings.kind} ceilings, {dtype}; shares are of the dense time",
        ("network", "phase", "batch", "tokens", "attention", "others", "pattern", "sparsity", "dense", "sparse",
         "layers", "whole", "cap", "prunable", "attention", "others"),
        (
            (
                row["network"], row["phase"], row["batch"], "" if row["phase"] == "image" else row["tokens"],
                row["attention"], row["elementwise"], row["pattern"], round(row["sparsity"], 4),
                seconds(row["dense_us"] / 1e6), seconds(row["sparse_us"] / 1e6),
                f"{row['layer_speedup']:.2f}x", f"{row['speedup']:.2f}x",
                f"{row['cap']:.2f}x", f"{row['share_prunable']:.0%}", f"{row['share_attention']:.0%}",
                f"{row['share_elementwise']:.0%}",
            )
            for row in shown
        ),
        (2, 3, *range(7, 16)),
    )  # fmt: skip
    if len(frame) > len(shown):
        console().print(f"... and {len(frame) - len(shown)} more rows (--output FILE.csv writes all)")
    for path in filter(None, (output, plot)):
        console().print(f"wrote {path}", markup=False)


def _plot(frame: pd.DataFrame, path: Path, title: str) -> None:
    from sparsity_roofline.validation import style
    from sparsity_roofline.validation.networkplot import gain_over_length

    if path.suffix not in (".png", ".svg"):
        raise UserError(f"--plot {path}: write a .png or .svg file")
    try:
        style.save(gain_over_length(frame, title), path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
