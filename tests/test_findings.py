"""docs/findings.md says what the committed tables say."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from sparsity_roofline.validation.tables import number

ROOT = Path(__file__).parents[1]
RUN = "h100-sxm/dlmc"
FORMATS = {"block": "bsr", "unstructured": "csr", "2:4": "nm"}
pytestmark = pytest.mark.skipif(not (ROOT / "results").is_dir(), reason="an installed package has no results")


def rows(heading: str) -> list[list[str]]:
    """Cells of the table of findings.md whose head begins so."""
    text = (ROOT / "docs/findings.md").read_text(encoding="utf-8")
    lines = text[text.index(heading) :].split("\n\n")[0].split("\n")[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]


def table(name: str) -> pd.DataFrame:
    found = pd.read_csv(ROOT / f"results/report/tables/{name}.csv", keep_default_na=False, na_values=[""])
    return found[found["run"] == RUN]


def test_matched_pairs_are_those_of_the_table() -> None:
    known = table("matched").fillna("")
    shown = rows("| kernel, dtype | sparsity effect")
    assert len(shown) == 6
    for what, sparsity, implementation, vendor in shown:
        form, _, size = what.split(",")[0].partition(" ")
        kernel, block = f"{FORMATS[form]}.triton", f"{size}x{size}" if size else ""
        row = known[(known["kernel"] == kernel) & (known["block"] == block) & (known["dtype"] == what[-4:])].iloc[0]
        for text, name in ((sparsity, "parity_matched"), (implementation, "implementation")):
            low, high = (number(float(row[f"{name}_{end}"])) for end in ("low", "high"))
            assert text == f"{number(float(row[name]))} ({low} to {high})"
        assert vendor == number(float(row["parity_vendor"]))


def test_network_sums_are_those_of_the_table() -> None:
    known = table("networks")
    known = known[(known["kernel"] == "best") & (known["network"] == "rn50") & (known["size"] == "batch 32")]
    checked = 0
    for what, *cells in rows("| | 0.5 | 0.7 | 0.9 | 0.98 |"):
        name, _, dtype = what.rpartition(" ")
        pattern = "block64x64" if name == "block 64" else name
        for level, cell in zip((0.5, 0.7, 0.9, 0.98), cells, strict=True):
            if cell:
                mine = known[(known["pattern"] == pattern) & (known["dtype"] == dtype)]
                row = mine[mine["level"] == level].iloc[0]
                predicted, measured = (float(row[f"{k}_speedup"]) for k in ("predicted", "measured"))
                shown = [float(part) for part in cell.split("/")]
                assert shown == [pytest.approx(predicted, rel=6e-3), pytest.approx(measured, rel=6e-3)], what
                checked += 1
    assert checked == 15


def test_headline_figures_are_those_of_the_page() -> None:
    text = " ".join((ROOT / "docs/findings.md").read_text(encoding="utf-8").split())
    summary = pd.read_csv(ROOT / "results/h100-sxm/dlmc/tables/summary.csv")
    whole = summary[summary["stratum"] == "all"].iloc[0]
    said = re.search(r"Predicted speedup is ([\d.]+) in the geometric mean, measured ([\d.]+)\.", text)
    assert said
    assert said.groups() == (number(float(whole["predicted_speedup"])), number(float(whole["measured_speedup"])))
    assert f"{int(whole['pairs']):,} are left" in text
    assert int(whole["violations"]) == 0
    best = table("equality").set_index(["format", "level"])
    for form, share in (("bsr", 7), ("csr", 2), ("nm", 8)):
        assert round(100 * best.loc[(form, "best"), "within_10"]) == share
    assert "7 % of the block pairs, 2 % of the unstructured and 8 % of the n:m ones" in text
