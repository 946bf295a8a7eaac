"""``explain``: one prediction, term by term."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sparsity_roofline.commands._cases import POSITIVE, refuse_idle
from sparsity_roofline.commands._render import console, print_json, print_table
from sparsity_roofline.model.errors import UserError

if TYPE_CHECKING:
    from sparsity_roofline.validation.refined.explain import Explanation


@click.command("explain")
@click.argument("run", type=click.Path(path_type=Path, readable=False), required=False)
@click.option("--shape", metavar="MxKxN", help="A shape instead of a record of RUN.")
@click.option("--pattern", default="block64", show_default=True, help="Of --shape: unstructured, block64, 2:4, ...")
@click.option("--sparsity", type=float, default=0.9, show_default=True, help="Of --shape.")
@click.option("--dtype", help="Of --shape [fp16]; of RUN: only records of this arithmetic type.")
@click.option(
    "--device", default="h100", show_default=True, help="Of --shape: a GPU of `hardware list`, or a TOML file."
)
@click.option("--kernel", help="The sparse kernel [of --shape: one that stands for the format].")
@click.option("--match", default="*", show_default=True, metavar="GLOB", help="Of RUN: the record's matrix.")
@click.option("--columns", multiple=True, type=POSITIVE, metavar="N", help="Of RUN: the record's N.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def command(
    run: Path | None,
    shape: str | None,
    pattern: str,
    sparsity: float,
    dtype: str | None,
    device: str,
    kernel: str | None,
    match: str,
    columns: tuple[int, ...],
    as_json: bool,
) -> None:
    """How each term moves one prediction from the plain limit to the refined latency, dense and sparse.

    With RUN (a run folder, .parquet or .jsonl) the case is one of its records, and the measurement stands beside.

    \b
    Examples:
      sparsity-roofline explain --shape 4096x4096x2048 --pattern block64 --sparsity 0.75
      sparsity-roofline explain results/h100-sxm/model-suite --match '3072x768*' --columns 512 --kernel bsr.triton
      sparsity-roofline explain --shape 4096x4096x16 --pattern 2:4 --device a100 --json
    """
    from sparsity_roofline.validation.refined import explain

    if (run is None) == (shape is None):
        both = "not both" if run is not None else "for example --shape 4096x4096x2048"
        raise UserError(f"say what to explain: a record of RUN, or --shape MxKxN; {both}")
    if shape is not None:
        from sparsity_roofline.model.assumed import find
        from sparsity_roofline.model.expect import expected_case, parse_shape
        from sparsity_roofline.model.pattern import Pattern
        from sparsity_roofline.model.terms.kernel import kernels

        refuse_idle({"match": "--match", "columns": "--columns"}, "--shape")
        if kernel is not None and kernel not in kernels():
            raise UserError(f"no description of kernel {kernel!r}: choose one of {', '.join(kernels())}")
        M, K, N = parse_shape(shape)
        case = expected_case(M, K, N, Pattern.parse(pattern), sparsity, dtype or "fp16")
        found = explain.explain_case(case, find(device), kernel)
    else:
        from sparsity_roofline.bench.store import read_records
        from sparsity_roofline.validation.frame import normalise

        refuse_idle({"pattern": "--pattern", "sparsity": "--sparsity", "device": "--device"}, "a record of RUN")
        records = normalise(read_records(str(run)))
        if dtype is not None:
            records = records[records["dtype"] == dtype]
        found = explain.explain_record(records, explain.choose(records, match, kernel, columns))
    if as_json:
        print_json(found.to_dict())
        return
    _print(found)


def _print(found: Explanation) -> None:
    rows: list[tuple[str, ...]] = [
        (row["term"], f"{row['dense_us']:.2f}", f"{row['sparse_us']:.2f}", f"{row['speedup']:.2f}x", row["meaning"])
        for row in found.rows
    ]
    if found.measured:
        m = found.measured
        cells = [f"{m[name]:.2f}" if name in m else "" for name in ("dense_us", "sparse_us")]
        rows.append(("measured", *cells, f"{m['speedup']:.2f}x" if "speedup" in m else "", "the record"))
    print_table(
        f"{found.case}: {found.kernel} against {found.dense_kernel} on {found.device}, microseconds",
        ("and", "dense", "sparse", "speedup", "what it adds"), rows, (1, 2, 3),
    )  # fmt: skip
    print_table(
        "Parts of the last prediction, microseconds (all but setup overlap)",
        ("side", "tile", *found.parts),
        (
            (side, f"{tile['BM']}x{tile['BN']}" + (f", K in {tile['split']}" if tile["split"] > 1 else ""),
             *(f"{part[side]:.2f}" for part in found.parts.values()))
            for side, tile in found.tiles.items()
        ),
        range(2, 2 + len(found.parts)),
    )  # fmt: skip
    if not found.calibrated:
        console().print("The constants of a kernel here were fitted on another device or dtype, or are defaults.")
