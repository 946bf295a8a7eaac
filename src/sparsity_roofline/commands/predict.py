"""``predict``: the limit, without the hardware."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sparsity_roofline.commands._cases import ROWS, collection_options, given, parse_assignments, parse_items
from sparsity_roofline.commands._render import console, print_json, print_table, seconds
from sparsity_roofline.model.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from sparsity_roofline.model.cost import CostOptions
    from sparsity_roofline.model.declared import Declared
    from sparsity_roofline.model.hardware import Ceilings


@click.command("predict")
@click.option(
    "--device", default="h100", show_default=True, help="A GPU of `hardware list`, `here` (calibrated), or a TOML file."
)
@click.option("--set", "figures", multiple=True, metavar="FIGURE=VALUE", help="Change a ceiling: dram_bandwidth=8e12.")
@click.option("--shape", "shapes", multiple=True, metavar="MxKxN", help="A shape (repeatable).")
@click.option("--network", metavar="NAME", help="A network's layer table, for example resnet50 or llama3_8b.")
@collection_options
@click.option("--pattern", "patterns", multiple=True, default=("unstructured",), show_default=True, help="Repeatable.")
@click.option(
    "--patterns",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.toml",
    help="Declared patterns.",
)
@click.option(
    "--sparsity", "sparsities", multiple=True, type=float, default=(0.9,), show_default=True, help="Repeatable."
)
@click.option("--dtype", "dtypes", multiple=True, default=("fp16",), show_default=True, help="Repeatable.")
@click.option(
    "--preset",
    type=click.Choice(["paper", "unit", "bound"]),
    default="paper",
    show_default=True,
    help="Which costs and peak: as the paper charges them, at the peak of the unit a kernel runs on, or pattern-aware.",
)
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="Override one cost option (repeatable).")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Write every row to this CSV file.")
@click.option(
    "--rows", type=ROWS, default=40, show_default=True, help="Print at most so many rows; 0 prints none but the sums."
)
@click.option("--json", "as_json", is_flag=True, help="Print every row and the sums as JSON.")
def command(
    device: str,
    figures: tuple[str, ...],
    shapes: tuple[str, ...],
    network: str | None,
    collection: str | None,
    prune: tuple[str, ...],
    batches: tuple[int, ...],
    columns: tuple[int, ...],
    match: str,
    patterns: tuple[str, ...],
    file: Path | None,
    sparsities: tuple[float, ...],
    dtypes: tuple[str, ...],
    preset: str,
    options: tuple[str, ...],
    output: Path | None,
    rows: int,
    as_json: bool,
) -> None:
    """Speed-of-light latency, bound and predicted speedup of shapes, of a network, or of real matrices.

    \b
    Examples:
      sparsity-roofline predict --device h100 --shape 4096x4096x2048 --pattern block64 --pattern 2:4 --sparsity 0.9
      sparsity-roofline predict --device a100-sxm4-80gb --network resnet50 --batch 32 --sparsity 0.8 --sparsity 0.95
      sparsity-roofline predict --device h200 --collection dlmc.tar.gz --match 'rn50/*' --batch 32 --output rn50.csv
      sparsity-roofline predict --shape 14336x4096x16 --pattern unstructured --option index_bytes=2
      sparsity-roofline predict --shape 4096x4096x512 --set dram_bandwidth=8e12 --pattern 64:2:8 --pattern 1:4
    """
    from sparsity_roofline import api

    if sum(map(bool, (shapes, network, collection))) != 1:
        raise UserError("say what to predict: one of --shape MxKxN, --network NAME, --collection URI")
    _check_used(bool(shapes), network is not None, bool(prune))
    ceilings = _ceilings(device, figures)
    chosen = _options(preset, options, network is not None)
    times: list[float] | None = None
    if shapes:
        frame = api.predict(
            shapes,
            device=ceilings,
            pattern=_patterns(patterns, file),
            sparsity=sparsities,
            dtype=dtypes,
            preset=preset,
            options=chosen,
        )
    elif network:
        frame, times = _network(network, batches or (1,), patterns, sparsities, dtypes, ceilings, preset, chosen)
    else:
        cases = list(
            api.collection_cases(
                collection or "",
                prune=prune,
                sparsities=sparsities if given("sparsities") else (),
                match=match,
                batches=batches,
                columns=columns,
                dtypes=dtypes,
            )
        )
        frame = api.predict(cases, device=ceilings, preset=preset, options=chosen)
    _output(frame, times, output, rows, as_json)


def _check_used(shapes: bool, network: bool, prune: bool) -> None:
    """Refuse an option that would say nothing of what is predicted, rather than leave it out in silence."""
    if shapes:
        what, idle = "--shape", ["prune", "batches", "columns", "match"]
    elif network:
        what, idle = "--network", ["prune", "columns", "match", "file"]
    else:
        what, idle = "--collection", ["patterns", "file"] if prune else ["patterns", "file", "sparsities"]
    flags = {"batches": "batch", "patterns": "pattern", "sparsities": "sparsity", "file": "patterns"}
    for name in filter(given, idle):
        remedy = "; --prune PATTERN prunes its layers" if what == "--collection" else ""
        raise UserError(f"--{flags.get(name, name)} does not go with {what}{remedy}")


def _patterns(names: tuple[str, ...], file: Path | None) -> list[str | Declared]:
    from sparsity_roofline.model import declared

    more = declared.read(file) if file is not None else {}
    return [more.get(name, name) for name in names]


def _ceilings(device: str, figures: tuple[str, ...]) -> Ceilings:
    from sparsity_roofline.model.assumed import change

    found = _here() if device == "here" else _known(device)
    return change(found, parse_items(figures, "--set")) if figures else found


def _known(device: str) -> Ceilings:
    from sparsity_roofline.model.assumed import find

    return find(device)


def _here() -> Ceilings:
    from sparsity_roofline.bench.calibrate import measured_ceilings
    from sparsity_roofline.bench.environment import pick_device

    found = measured_ceilings(pick_device(), calibrate_if_missing=False)
    if found is None:
        raise UserError("this machine has not been calibrated: run `sparsity-roofline hardware calibrate`", 6)
    return found


def _options(preset: str, items: tuple[str, ...], network: bool) -> CostOptions | None:
    from dataclasses import fields, replace

    from sparsity_roofline.model.cost import CostOptions
    from sparsity_roofline.model.cost import preset as lookup

    if not items:
        return None
    given = parse_assignments(items)
    known = {f.name for f in fields(CostOptions)}
    for key in given:
        if key not in known:
            raise UserError(f"--option {key}: no such cost option; choose from {', '.join(sorted(known))}")
    # As without options: a network's convolutions read their real input (see ``api.predict_network``).
    real = {"conv_input": "real", "input_rows": "all"} if network and "conv_input" not in given else {}
    return replace(lookup(preset), **{**real, **given})


def _network(
    name: str,
    batches: tuple[int, ...],
    patterns: tuple[str, ...],
    sparsities: tuple[float, ...],
    dtypes: tuple[str, ...],
    ceilings: Ceilings,
    preset: str,
    options: CostOptions | None,
) -> tuple[pd.DataFrame, list[float]]:
    import pandas as pd

    from sparsity_roofline import api

    frames, times = [], []
    for batch in batches:
        for pattern in patterns:
            for sparsity in [0.0] if ":" in pattern else sparsities:
                for dtype in dtypes:
                    frame, each = api.predict_network(
                        name, batch=batch, pattern=pattern, sparsity=sparsity, dtype=dtype, device=ceilings,
                        preset=preset, options=options,
                    )  # fmt: skip
                    level = "" if ":" in pattern else f" {sparsity:g}"
                    frame.insert(0, "group", f"{name}, batch {batch}, {pattern}{level}, {dtype}")
                    frame["times"] = each
                    frames.append(frame)
                    times += each
    out = pd.concat(frames, ignore_index=True)
    out.attrs = frames[0].attrs
    return out, times


def _sums(frame: pd.DataFrame, times: list[float] | None) -> list[dict[str, Any]]:
    """One line of sums per group of rows that belong together: a network's variant, or a sparsity of a collection."""
    import pandas as pd

    from sparsity_roofline import api

    if "group" in frame:
        group = frame["group"]
    else:
        labels = ["network", "batch", "pattern", "target_sparsity", "dtype"]
        group = frame[labels].apply(lambda row: ", ".join(str(x) for x in row if not pd.isna(x)), axis=1)
    out: list[dict[str, Any]] = []
    for label, part in frame.groupby(group, sort=False):
        each = None if times is None else [times[int(i)] for i in part.index]
        out.append({"of": str(label).strip(), "rows": len(part), **api.totals(part, each)})
    return out


def _output(frame: pd.DataFrame, times: list[float] | None, output: Path | None, rows: int, as_json: bool) -> None:
    if output is not None:
        try:
            frame.to_csv(output, index=False)
        except OSError as error:
            raise UserError(f"cannot write {output}: {error.strerror or error}") from error
    sums = _sums(frame, times)
    if as_json:
        print_json({**frame.attrs, "cases": frame.to_dict(orient="records"), "sums": sums})
        return
    from sparsity_roofline.validation.amortisation import calls

    shown = frame.head(rows)
    if rows:
        print_table(
            f"{frame.attrs['device']}, {frame.attrs['ceilings']} ceilings, preset {frame.attrs['preset']}",
            (
                "weight",
                "M x K x N",
                "pattern",
                "sparsity",
                "dtype",
                "SoL dense",
                "bound",
                "SoL sparse",
                "bound",
                "speedup",
                "pays after",
            ),
            (
                (
                    row["matrix"],
                    f"{row['M']}x{row['K']}x{row['N']}",
                    row["pattern"],
                    round(1 - row["density"], 4),
                    row["dtype"],
                    seconds(row["sol_dense_us"] * 1e-6),
                    row["bound_dense"],
                    seconds(row["sol_us"] * 1e-6),
                    row["bound"],
                    f"{row['speedup']:.2f}x",
                    calls(row["reuses"]),
                )
                for row in shown.to_dict(orient="records")
            ),
            (5, 7, 9, 10),
        )
        if len(frame) > rows:
            console().print(f"... and {len(frame) - rows} more rows (--output FILE.csv writes all)")
    print_table(
        "Sums",
        ("of", "cases", "SoL dense", "SoL sparse", "speedup"),
        (
            (s["of"], s["rows"], seconds(s["sol_dense_us"] * 1e-6), seconds(s["sol_us"] * 1e-6), f"{s['speedup']:.2f}x")
            for s in sums
        ),
        (1, 2, 3, 4),
    )
    if output is not None:
        console().print(f"wrote {output}")
