"""``matrices``: what there is to multiply by."""

from __future__ import annotations

from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import click

from sparsity_roofline.commands._cases import POSITIVE, ROWS
from sparsity_roofline.commands._render import console, print_json, print_table
from sparsity_roofline.model.errors import UserError


@click.group("matrices")
def command() -> None:
    """List, fetch, import and describe weight matrices.

    \b
    Examples:
      sparsity-roofline matrices list                                  the built-in collection
      sparsity-roofline matrices list dlmc.tar.gz --match 'rn50/*'
      sparsity-roofline matrices fetch dlmc --to data/
      sparsity-roofline matrices info dlmc.tar.gz rn50/magnitude_pruning/0.9/initial_conv
      sparsity-roofline matrices import model.safetensors layer.weight layer.smtx
    """


@command.command("list")
@click.argument("collection", default="builtin")
@click.option("--prune", multiple=True, metavar="PATTERN", help="Its layers pruned to block16, 2:4, ... instead.")
@click.option("--sparsity", "sparsities", multiple=True, type=float, help="Targets of --prune [its matrices' own].")
@click.option("--match", default="*", metavar="GLOB", help="Only such names.")
@click.option(
    "--rows", type=ROWS, default=30, show_default=True, help="Print at most so many; 0 prints the summary only."
)
@click.option("--json", "as_json", is_flag=True, help="Print every matrix as JSON.")
def list_(
    collection: str, prune: tuple[str, ...], sparsities: tuple[float, ...], match: str, rows: int, as_json: bool
) -> None:
    """The matrices of COLLECTION: builtin, network:NAME, shapes:MxK, uniform:MxK, dlmc:PATH, manifest:FILE.toml,
    checkpoint:FILE, or a path."""
    from sparsity_roofline.bench.matrices import open_collection

    opened = open_collection(collection, prune=prune, sparsities=sparsities)
    infos = [info for info in opened.infos() if fnmatchcase(info.name, match)]
    infos.sort(key=lambda info: not info.present)
    if as_json:
        print_json(
            [
                {**{k: getattr(i, k) for k in i.__dataclass_fields__ if k != "pattern"}, "pattern": str(i.pattern)}
                for i in infos
            ]
        )
        return
    if rows:
        print_table(
            f"{opened.label}: {len(infos)} matrices",
            ("name", "M x K", "nnz", "sparsity", "pattern", "N of one image", ""),
            (
                (
                    info.name,
                    f"{info.rows}x{info.cols}",
                    info.nnz,
                    round(1 - info.nnz / max(info.rows * info.cols, 1), 4),
                    info.pattern,
                    info.columns_per_image,
                    " ".join(("synthetic",) * info.synthetic + ("absent",) * (not info.present)),
                )
                for info in infos[:rows]
            ),
            (2, 3, 5),
        )
        if len(infos) > rows:
            console().print(f"... and {len(infos) - rows} more (--rows, --match, --json)")
    groups = Counter((i.network or "", i.method or "", i.target_sparsity, str(i.pattern), i.present) for i in infos)
    print_table(
        "Summary",
        ("network", "method", "target sparsity", "pattern", "matrices", "on disk"),
        ((n, m, s, p, count, "yes" if there else "no") for (n, m, s, p, there), count in groups.items()),
        (2, 4),
    )


@command.command("fetch")
@click.argument("name", type=click.Choice(["dlmc"]))
@click.option("--to", "folder", type=click.Path(file_okay=False, path_type=Path), default=Path(), help="Folder.")
@click.option("--url", help="Another address of the same archive.")
def fetch_(name: str, folder: Path, url: str | None) -> None:
    """Download a published collection, with progress, resume and a recorded checksum."""
    from sparsity_roofline.bench.matrices import fetch

    path = fetch(name, folder, url=url, progress=True)
    click.echo(f"{path}\nuse it with: sparsity-roofline run --suite dlmc --collection {path}")


@command.command("info")
@click.argument("source")
@click.argument("name", required=False)
@click.option("--block", "blocks", multiple=True, default=(8, 16, 32), type=POSITIVE, help="Block sizes to count.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def info(source: str, name: str | None, blocks: tuple[int, ...], as_json: bool) -> None:
    """Statistics of one matrix: of the file SOURCE, or NAME of the collection SOURCE."""
    from sparsity_roofline.bench.matrices import open_collection, read_matrix

    if name is None and not _is_matrix(source):
        raise UserError(f"{source} is a collection: name one of its matrices (`matrices list {source}` shows them)")
    matrix = read_matrix(source) if name is None else open_collection(source).load(name)
    lengths = matrix.row_lengths
    mean = float(lengths.mean()) if len(lengths) else 0.0
    facts: dict[str, Any] = {
        "name": matrix.name,
        "rows (M)": matrix.shape[0],
        "columns (K)": matrix.shape[1],
        "nnz": matrix.nnz,
        "sparsity": matrix.sparsity,
        "pattern": str(matrix.pattern),
        "network": matrix.network,
        "layer": matrix.layer,
        "target sparsity": matrix.target_sparsity,
        "columns per image": matrix.columns_per_image,
        "synthetic": matrix.synthetic,
        "values": "seeded (the file holds a pattern only)" if matrix.seeded_values else "from the file",
        "empty rows": int((lengths == 0).sum()),
        "unused columns": matrix.shape[1] - matrix.used_columns,
        "longest row / mean": float(lengths.max()) / mean if mean else None,
        "digest": matrix.digest,
    }
    for size in blocks:
        total = -(-matrix.shape[0] // size) * -(-matrix.shape[1] // size)
        facts[f"share of {size}x{size} blocks in use"] = len(matrix.blocks(size, size)[0]) / total if total else None
    if as_json:
        print_json(facts)
        return
    print_table("", ("", ""), facts.items())


def _is_matrix(source: str) -> bool:
    """Whether SOURCE alone can be a matrix; a missing file is one, so that reading it says what is wrong."""
    path = Path(source)
    return source != "builtin" and not path.is_dir() and not {".tar", ".toml"} & set(path.suffixes)


@command.command("import")
@click.argument("source")
@click.argument("names", nargs=-1, metavar="[NAME] TARGET")
@click.option("--prune", "pattern", metavar="PATTERN", help="Prune it by magnitude to this pattern first.")
@click.option("--sparsity", type=float, help="Target sparsity of --prune (n:m has its own).")
@click.option("--overwrite", is_flag=True, help="Replace TARGET if it exists.")
def import_(source: str, names: tuple[str, ...], pattern: str | None, sparsity: float | None, overwrite: bool) -> None:
    """Read one matrix and write it to TARGET (.smtx, .mtx, .npz, .safetensors).

    SOURCE is a file, or a collection or checkpoint of which NAME is a matrix.
    """
    from sparsity_roofline.bench.matrices import open_collection, prune, read_matrix, write_matrix

    if len(names) not in (1, 2):
        raise UserError("matrices import: give SOURCE [NAME] TARGET")
    if sparsity is not None and not pattern:
        raise UserError("--sparsity is the target of --prune: say the pattern too, for example --prune block16")
    target = Path(names[-1])
    if target.exists() and not overwrite:
        raise UserError(f"{target} exists: choose another name or say --overwrite")
    matrix = read_matrix(source) if len(names) == 1 else open_collection(source).load(names[0])
    if pattern:
        matrix = prune(matrix.dense_operand(), pattern, sparsity, name=matrix.name)
    write_matrix(matrix, target)
    click.echo(f"wrote {target}: {matrix!r}")
