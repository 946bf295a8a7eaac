"""Puts the tables of docs/model.md in place: errors and terms from results/h100-sxm/model, blocks from the model.

    python tools/model_page.py

Each table stands between ``<!-- name -->`` and ``<!-- /name -->``.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from sparsity_roofline.model import hardware
from sparsity_roofline.model.promise import promise

ROOT = Path(__file__).resolve().parents[1]
PAGE, TABLES = ROOT / "docs" / "model.md", ROOT / "results" / "h100-sxm" / "model"
GPUS = ("V100-SXM2", "A100-SXM4-80GB", "H100-PCIe-80GB", "H100-SXM5-80GB", "H200-SXM-141GB", "B200-HGX", "L40S")
GROUPS = ("cuBLAS", "our csr", "our bsr", "our nm")
ROWS = (16, 32, 64, 128)


def line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def table(header: list[str], rows: list[list[str]], words: int) -> str:
    """A GitHub table whose first ``words`` columns are text."""
    rule = "|" + "---|" * words + "---:|" * (len(header) - words)
    return "\n".join([line(header), rule, *map(line, rows)])


def latency() -> str:
    found = pd.read_csv(TABLES / "latency.csv").query("dtype == 'all'")
    header = ["latency", "shapes", "cases", "plain", "refined", "half within", "90 % within"]
    return table(header, [
        [r.group, r.split, str(r.cases), f"{r.plain:.0f}", f"{r.refined:.1f}", f"{r.median:.1f}", f"{r.p90:.0f}"]
        for r in found.itertuples()
    ], 2)  # fmt: skip


def speedup() -> str:
    found = pd.read_csv(TABLES / "speedup.csv").query("dtype == 'all'")
    header = ["speedup", "shapes", "pairs", "plain", "plain, own unit", "best constant", "refined", "plain right",
              "constant right", "refined right"]  # fmt: skip
    return table(header, [
        [r.group, r.split, str(r.pairs), f"{r.plain:.0f}", f"{r.own_unit:.0f}", f"{r.constant:.0f}", f"{r.refined:.1f}",
         f"{r.plain_right:.0f} %", f"{r.constant_right:.0f} %", f"{r.refined_right:.1f} %"]
        for r in found.itertuples()
    ], 2)  # fmt: skip


def terms() -> str:
    found = pd.read_csv(TABLES / "terms.csv")
    without = found[found["way"] == "left out"].set_index("term")
    rows = []
    for _, row in found[found["way"].isin(["none", "and all above"])].iterrows():
        term = str(row["term"])
        cells = [term if term == "plain model" else f"`{term}`"]
        for group in GROUPS:
            cells += [f"{row[group]:.1f}", f"{without[group][term]:.1f}" if term in without.index else ""]
        rows.append(cells)
    return table(["term", *(f"{g}: {way}" for g in GROUPS for way in ("on", "without"))], rows, 1)


def blocks() -> str:
    rows = []
    for gpu in GPUS:
        found = {r: promise(hardware.datasheet(gpu), r) for r in ROWS}
        fed = found[128].density
        rows.append([
            gpu, "measured" if found[16].measured else "derived",
            *(f"{p.unshared:.2f} to {p.shared:.2f}" for p in found.values()),
            "none" if fed != fed else "any" if fed == 0 else f"{fed:.2f}",
        ])  # fmt: skip
    return table(["GPU", "L2 rates", *(f"{r} rows" for r in ROWS), "128 rows fed from density"], rows, 2)


def main() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name, made in (("latency", latency()), ("speedup", speedup()), ("terms", terms()), ("blocks", blocks())):
        head, begin, rest = text.partition(f"<!-- {name} -->\n")
        _, end, tail = rest.partition(f"<!-- /{name} -->")
        assert begin + end == f"<!-- {name} -->\n<!-- /{name} -->", f"no place for the table {name!r} in {PAGE.name}"
        text = f"{head}{begin}{made}\n{end}{tail}"
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
