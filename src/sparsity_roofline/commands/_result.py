"""How a validation is printed."""

from __future__ import annotations

from sparsity_roofline.commands._render import console, print_json, print_table
from sparsity_roofline.validation import tables
from sparsity_roofline.validation.report import Validation


def print_validation(validation: Validation, rows: int, as_json: bool) -> None:
    """The table of cases, the summary by kernel, what a reader must know, and where the files are."""
    if as_json:
        pairs = validation.pairs.astype(object).where(validation.pairs.notna(), None)
        print_json({**validation.to_json(), "pairs": pairs.to_dict(orient="records")})
        return
    if rows and len(validation.pairs):
        _print_cases(validation, rows)
    if len(validation.pairs):
        header, cells = tables.console_summary(validation.pairs)
        print_table("Summary by kernel (geometric means)", header, cells, range(1, len(header)))
    _print_refined(validation)
    out = console()
    for message in validation.messages:
        out.print(message, markup=False)
    folders = sorted({path.parent for path in validation.written})
    for folder in folders:
        names = ", ".join(sorted(path.name for path in validation.written if path.parent == folder))
        out.print(f"wrote {folder}: {names}", markup=False, soft_wrap=True)


def _print_refined(validation: Validation) -> None:
    """Errors of the refined model over all kernels, beside the plain one's; nothing where it says nothing."""
    whole = validation.refined[validation.refined["dtype"] == "all"]
    if whole.empty:
        return
    names = {"pairs": "pairs", "plain": "plain", "constant": "best constant", "refined": "refined", "dense": "dense us",
             "sparse": "sparse us", "plain_right": "plain right", "refined_right": "refined right"}  # fmt: skip
    print_table(
        "Refined model: MAPE of speedup and latencies in %, share in which the faster side is named (tables/refined)",
        ("kernels", "shapes", *names.values()),
        ((r["group"], r["split"], *(tables.number(r[k]) for k in names)) for r in whole.to_dict("records")),
        range(2, 2 + len(names)),
    )


def _print_cases(validation: Validation, rows: int) -> None:
    """Fit the table to a terminal: columns that say the same in every row go into the title."""
    header, cells = tables.console_rows(validation.pairs, rows)
    columns = dict(zip(header, map(list, zip(*cells, strict=True)), strict=True))
    title = f"{len(cells)} of {len(validation.pairs)} cases (tables/cases.csv has all)"
    names = list(columns)
    columns[names[0]] = [name.rpartition("/")[2].partition("@")[0] for name in columns[names[0]]]
    columns["M x K x N"] = [shape.replace(" ", "") for shape in columns["M x K x N"]]
    notes = columns.pop("notes")
    if all("synthetic" in note for note in notes):
        notes = [note.removeprefix("synthetic").removeprefix(", ") for note in notes]
        title += ", synthetic weights"
    if len(set(columns["dtype"])) == 1:
        title += f", {columns.pop('dtype')[0]}"
    if any(notes):
        columns["notes"] = notes
    right = [
        i for i, name in enumerate(columns) if name in ("sparsity", "parity") or "speedup" in name or "SoL" in name
    ]
    folded = [name.replace(" ", "\n").replace("of\n", "of ") if name != "M x K x N" else name for name in columns]
    print_table(title, folded, zip(*columns.values(), strict=True), right, whole=range(1, len(columns) - any(notes)))
