"""``sweep``: where each pattern wins, over density, N and machine balance."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sparsity_roofline.commands._cases import POSITIVE, parse_items
from sparsity_roofline.commands._render import console, print_json, print_table
from sparsity_roofline.model.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

PATTERNS = ("unstructured on CUDA cores", "vector8", "2:4", "64:2:8", "64:2:16", "block32+2:4", "block32")
"""Of the default sweep, the most flexible first."""


@click.command("sweep")
@click.option("--shape", default="4096x4096", show_default=True, metavar="MxK", help="Shape of the weight.")
@click.option("--device", default="h100", show_default=True, help="A GPU of `hardware list`, or a TOML file.")
@click.option("--set", "figures", multiple=True, metavar="FIGURE=VALUE", help="Change a ceiling: dram_bandwidth=8e12.")
@click.option("--pattern", "patterns", multiple=True, default=PATTERNS, help="Most flexible first (repeatable).")
@click.option(
    "--patterns",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.toml",
    help="Declared patterns.",
)
@click.option("--needs", multiple=True, metavar="PATTERN=FACTOR", help="It must keep FACTOR times more (repeatable).")
@click.option("--density", "densities", multiple=True, type=float, help="By default 24 from 0.01 to 1 (repeatable).")
@click.option("--columns", multiple=True, type=POSITIVE, metavar="N", help="By default 1 to 16384 (repeatable).")
@click.option("--balance-columns", type=POSITIVE, default=2048, show_default=True, help="N of the map over balance.")
@click.option("--dtype", default="fp16", show_default=True)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for the tables and maps.")
@click.option("--json", "as_json", is_flag=True, help="Print every row as JSON.")
def command(
    shape: str,
    device: str,
    figures: tuple[str, ...],
    patterns: tuple[str, ...],
    file: Path | None,
    needs: tuple[str, ...],
    densities: tuple[float, ...],
    columns: tuple[int, ...],
    balance_columns: int,
    dtype: str,
    out: Path | None,
    as_json: bool,
) -> None:
    """Speed-of-light speedup of many patterns over density, N and machine balance, and which of them wins where.

    \b
    Examples:
      sparsity-roofline sweep --out sweep
      sparsity-roofline sweep --shape 14336x4096 --device a100 --pattern unstructured --pattern 2:4 --pattern block64
      sparsity-roofline sweep --set dram_bandwidth=8e12 --patterns mine.toml --pattern mine --pattern 1:4
      sparsity-roofline sweep --needs block32x32=2 --needs vector8=1.5 --out needs
    """
    from sparsity_roofline import sweeps
    from sparsity_roofline.model import declared
    from sparsity_roofline.model.assumed import change, find

    ceilings = find(device)
    if figures:
        ceilings = change(ceilings, parse_items(figures, "--set"))
    more = declared.read(file) if file is not None else {}
    chosen = [declared.find(name, more) for name in patterns]
    factors = {name: _factor(text) for name, text in parse_items(needs, "--needs").items()}
    found = sweeps.win_sweep(
        _shape(shape), chosen, ceilings, dtype=dtype, densities=densities or sweeps.DENSITIES,
        columns=columns or sweeps.COLUMNS, balance_columns=balance_columns, needs=factors,
    )  # fmt: skip
    if as_json:
        print_json(found.rows.to_dict("records"))
        return
    _print(found.winners, ceilings.device, shape, dtype)
    if out is not None:
        for path in sweeps.write(found, out):
            console().print(f"wrote {path}", markup=False, soft_wrap=True)


def _shape(text: str) -> tuple[int, int]:
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise UserError(f"shape {text!r}: write MxK with positive whole numbers, for example 4096x4096")
    return int(parts[0]), int(parts[1])


def _factor(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise UserError(f"--needs: {text!r} is no positive factor")
    return value


def _print(winners: pd.DataFrame, device: str, shape: str, dtype: str) -> None:
    """The map over density and N as a table: the winner and its speedup."""
    part = winners[winners["axis"] == "N"]
    values = sorted(part["x"].unique())
    shown = values[:: max(1, len(values) // 4)]
    rows = []
    for density, line in part.groupby("density", sort=True):
        cells = {row["x"]: row for row in line.to_dict("records")}
        rows.append([f"{density:.3g}", *(f"{cells[x]['winner']} {cells[x]['speedup']:.2f}x" for x in shown)])
    step = max(1, len(rows) // 12)
    header = ["density", *(f"N = {x:g}" for x in shown)]
    print_table(f"Fastest pattern for {shape} in {dtype} on {device}, by least density", header, rows[::step])
