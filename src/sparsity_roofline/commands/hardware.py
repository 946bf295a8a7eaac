"""``hardware``: ceilings, where they come from, and measuring this machine's own."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from sparsity_roofline.commands._render import print_json, print_table
from sparsity_roofline.model.hardware import Ceilings


@click.group("hardware")
def command() -> None:
    """List, show and calibrate ceilings.

    \b
    Examples:
      sparsity-roofline hardware list
      sparsity-roofline hardware show h100
      sparsity-roofline hardware show next_gpu.toml
      sparsity-roofline hardware show here
      sparsity-roofline hardware calibrate
    """


def _row(ceilings: Ceilings) -> dict[str, Any]:
    peaks = {name: value / 1e12 for name, value in ceilings.peaks.items() if "@" not in name}
    return {"gpu": ceilings.device, "dram_GB/s": ceilings.dram_bandwidth / 1e9, **peaks}


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def list_(as_json: bool) -> None:
    """Every GPU of the table with its data-sheet bandwidth (GB/s) and dense peaks (TFLOP/s or TOP/s)."""
    from sparsity_roofline.model import hardware

    rows = [_row(hardware.datasheet(name)) for name in hardware.names()]
    if as_json:
        print_json(rows)
        return
    header = ["gpu", "dram_GB/s", "fp32_flops", "tf32_flops", "fp16_flops", "bf16_flops", "fp8_flops", "int8_ops"]
    titles = [name.removesuffix("_flops").removesuffix("_ops") for name in header]
    print_table(
        "Data-sheet ceilings, dense, TFLOP/s or TOP/s",
        titles,
        ([row.get(name) for name in header] for row in rows),
        range(1, len(header)),
    )


@command.command("show")
@click.argument("gpu", default="here")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def show(gpu: str, as_json: bool) -> None:
    """Every ceiling of one GPU with its source; GPU is a name of `hardware list`, a TOML file, or `here`."""
    from sparsity_roofline.model import hardware

    if gpu == "here":
        _show_measured(as_json)
        return
    if gpu.endswith(".toml"):
        from sparsity_roofline.model.assumed import find

        _print_ceilings(find(gpu), as_json)
        return
    name = hardware.datasheet(gpu).device
    rows = [asdict(row) for row in hardware.rows() if row.gpu == name]
    if as_json:
        print_json(rows)
        return
    header = [key for key in rows[0] if key != "gpu"]
    print_table(name, header, ([row[key] for key in header] for row in rows))


def _show_measured(as_json: bool) -> None:
    from sparsity_roofline.bench.calibrate import measured_ceilings
    from sparsity_roofline.bench.environment import pick_device
    from sparsity_roofline.model.errors import UserError

    ceilings = measured_ceilings(pick_device(), calibrate_if_missing=False)
    if ceilings is None:
        raise UserError("this machine has not been calibrated: run `sparsity-roofline hardware calibrate`", 6)
    _print_ceilings(ceilings, as_json)


def _print_ceilings(ceilings: Ceilings, as_json: bool) -> None:
    if as_json:
        click.echo(ceilings.to_json())
        return
    rows: list[tuple[str, str]] = [("DRAM bandwidth", f"{ceilings.dram_bandwidth / 1e9:.1f} GB/s")]
    rows += [(name, f"{value / 1e12:.4g} T/s") for name, value in ceilings.peaks.items()]
    if ceilings.l2_bandwidth:
        rows.append(("L2 bandwidth", f"{ceilings.l2_bandwidth / 1e12:.3g} TB/s"))
    if ceilings.l2_shared_bandwidth:
        rows.append(("L2 bandwidth, lines shared", f"{ceilings.l2_shared_bandwidth / 1e12:.3g} TB/s"))
    if ceilings.l2_write_bandwidth:
        rows.append(("L2 write bandwidth", f"{ceilings.l2_write_bandwidth / 1e12:.3g} TB/s"))
    if ceilings.l2_held_bytes:
        rows.append(("writes held back by L2", f"{ceilings.l2_held_bytes / 1e6:.3g} MB"))
    if ceilings.launch_floor_s:
        rows.append(("launch floor", f"{ceilings.launch_floor_s * 1e6:.3g} us"))
    print_table(f"{ceilings.device} ({ceilings.kind}, {ceilings.identity})", ("ceiling", "value"), rows, (1,))


@command.command("blocks")
@click.argument("gpus", nargs=-1)
@click.option("--dtype", default="fp16", show_default=True, help="An arithmetic type of tensor cores.")
@click.option("--columns", type=click.IntRange(1), default=256, show_default=True, help="Columns of Y in a tile.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def blocks(gpus: tuple[str, ...], dtype: str, columns: int, as_json: bool) -> None:
    """From which block size and density on L2 can feed the matrix units, so that a pattern can keep its promise.

    \b
    Examples:
      sparsity-roofline hardware blocks
      sparsity-roofline hardware blocks h100 b200 --dtype bf16
      sparsity-roofline hardware blocks next_gpu.toml
    """
    from sparsity_roofline.model import hardware, promise
    from sparsity_roofline.model.assumed import find
    from sparsity_roofline.model.dtype import dtype as dtype_of

    dtype_of(dtype)  # an unknown one is the user's to mend
    every = [find(name) for name in gpus or hardware.names()]
    chosen: list[Ceilings] = [c for c in every if gpus or c.peak_or_none(dtype, c.own_unit(dtype)) is not None]
    found = [promise.promise(c, rows, columns=columns, dtype=dtype) for c in chosen for rows in (16, 32, 64, 128)]
    if as_json:
        print_json([asdict(one) for one in found])
        return
    print_table(
        f"What L2 feeds of the achievable {dtype} peak, block rows x {columns} columns a tile",
        ("gpu", "block rows", "neighbours apart", "neighbours together", "fed from density", "L2 rates"),
        (
            (one.device, one.rows, round(one.unshared, 2), round(one.shared, 2),
             "none" if one.density != one.density else "any" if one.density == 0 else f"{one.density:.2f}",
             "measured" if one.measured else "from clock and SMs")
            for one in found
        ),
        (1, 2, 3, 4),
    )  # fmt: skip


@command.command("calibrate")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def calibrate_(as_json: bool) -> None:
    """Measure this machine's DRAM bandwidth and matrix rates per precision and keep them as `measured` ceilings."""
    from sparsity_roofline.bench import calibrate
    from sparsity_roofline.bench.environment import pick_device

    def progress(text: str) -> None:
        click.echo(text, err=True)

    ceilings = calibrate.calibrate(pick_device(), progress=progress)
    _print_ceilings(ceilings, as_json)
