"""LaTeX: what can be checked without a TeX installation."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from sparsity_roofline.validation.latex import escape, to_latex, write_latex


@given(st.text())
def test_no_text_holds_a_command_or_ends_its_cell(text: str) -> None:
    shown = escape(text)
    assert shown.isascii()
    assert "\n" not in shown
    left = re.sub(r"\\(textbackslash|textasciitilde|textasciicircum|textless|textgreater|textbar)\{\}", "", shown)
    left = re.sub(r"\\[&%$#_{}]", "", left)
    assert not set(left) & set("\\&%$#_{}~^<>|")


def test_table_is_balanced_and_every_row_has_every_cell() -> None:
    frame = pd.DataFrame({"kernel": [r"a & b \\ \input{/etc/passwd}", "c_d"], "parity": [0.123456, float("nan")]})
    text = to_latex(frame, "50 % & more", "one", {"kernel": "kernel", "parity": "parity"})
    assert text.count(r"\begin{longtable}") == text.count(r"\end{longtable}") == 1
    assert r"\begin{longtable}{lr}" in text
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [2, 2, 1]
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")
    rows = text.split("\\endfoot\n")[1].split("\\end{longtable}")[0].strip().split("\n")
    assert len(rows) == 2
    for row in rows:
        assert row.endswith(r" \\")
        assert len(re.findall(r"(?<!\\)&", row)) == 1
    assert r"\input" not in text
    assert "0.123 " in rows[0]


def test_file_names_what_it_needs(tmp_path: Path) -> None:
    path = write_latex(pd.DataFrame({"a": [1]}), tmp_path / "t.tex", "caption", "t")
    assert path.read_text().startswith("% \\usepackage{booktabs,longtable}\n\\begin{longtable}{r}")
