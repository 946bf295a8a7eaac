"""Tables as LaTeX: ``booktabs`` rules in a ``longtable``, so that they break over pages; every cell escaped."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from sparsity_roofline.model.text import printable
from sparsity_roofline.validation.tables import number

_SPECIAL = str.maketrans({
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    **{c: f"\\{c}" for c in "&%$#_"}, "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
})  # fmt: skip


def escape(text: str) -> str:
    """Text that LaTeX sets as it is written: no cell may hold a command, end its row or open a group.

    >>> escape("a_b & 50 %")
    'a\\\\_b \\\\& 50 \\\\%'
    """
    shown = printable(text)
    return "".join(c if c.isascii() else "?" for c in shown).translate(_SPECIAL)


def to_latex(table: pd.DataFrame, caption: str, label: str, headings: dict[str, str] | None = None) -> str:
    r"""A ``longtable`` for a document that loads ``booktabs`` and ``longtable``.

    Args:
        table: one row a line. caption, label: of the table (``tab:`` is put before the label).
        headings: chooses and names columns; None takes all. Figures stand right, as in the Markdown tables.
    """
    headings = headings or {str(c): str(c) for c in table.columns}
    columns = [table[name] for name in headings]
    layout = "".join("r" if c.dtype.kind in "if" else "l" for c in columns)
    head = " & ".join(escape(h) for h in headings.values()) + r" \\"
    cells = [[escape(number(v)) for v in c.tolist()] for c in columns]
    body = [" & ".join(row) + r" \\" for row in zip(*cells, strict=True)]
    begin = [rf"\begin{{longtable}}{{{layout}}}", rf"\caption{{{escape(caption)}}}\label{{tab:{label}}}\\"]
    first = [r"\toprule", head, r"\midrule", r"\endfirsthead"]
    again = [r"\toprule", head, r"\midrule", r"\endhead", r"\bottomrule", r"\endfoot"]
    return "\n".join([*begin, *first, *again, *body, r"\end{longtable}", ""])


def write_latex(
    table: pd.DataFrame, path: Path, caption: str, label: str, headings: dict[str, str] | None = None
) -> Path:
    """Write ``to_latex`` to a file to be read with ``\\input``."""
    head = "% \\usepackage{booktabs,longtable}\n"
    path.write_text(head + to_latex(table, caption, label, headings), encoding="utf-8")
    return path
