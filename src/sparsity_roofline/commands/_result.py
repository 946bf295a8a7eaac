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
        header, cells = tables.console_rows(validation.pairs, rows)
        shown = len(cells)
        title = f"Cases ({shown} of {len(validation.pairs)}; tables/cases.csv has all)" if shown else "Cases"
        print_table(title, header, cells, range(4, len(header) - 1))
    if len(validation.pairs):
        header, cells = tables.console_summary(validation.pairs)
        print_table("Summary by kernel (geometric means)", header, cells, range(1, len(header)))
    out = console()
    for message in validation.messages:
        out.print(message, markup=False)
    folders = sorted({path.parent for path in validation.written})
    for folder in folders:
        names = ", ".join(sorted(path.name for path in validation.written if path.parent == folder))
        out.print(f"wrote {folder}: {names}", markup=False, soft_wrap=True)
