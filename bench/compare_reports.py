"""A comparison for machines and for reviews: JSON, Markdown, JUnit XML, GitHub annotations."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import pandas as pd

from sparsity_roofline.bench.compare import IMPROVED, INCONCLUSIVE, REGRESSED, Comparison

MOST_ROWS = 40
"""Rows of a Markdown table; the file with all is JSON."""
MOST_ANNOTATIONS = 10
"""GitHub shows so many errors and so many warnings of a step."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def plain(text: object) -> str:
    """Text on one line, without control characters: names come from files."""
    return _CONTROL.sub(" ", str(text))


def rows(frame: pd.DataFrame) -> Iterator[Any]:
    """Rows with their columns as attributes."""
    yield from frame.itertuples()


def cell_name(row: Any) -> str:
    """``bsr.triton fp16 512x2048x256 ffn_conv1@block64x64@0.9``."""
    return plain(f"{row.kernel} {row.dtype} {row.M}x{row.K}x{row.N} {str(row.matrix).rpartition('/')[2]}")


def sentence(row: Any) -> str:
    """What was found for one cell, in words."""
    if not math.isfinite(row.high):
        return f"{row.change:+.1%} ({row.base_us:.4g} to {row.head_us:.4g} us); {row.reason}"
    text = (
        f"{row.change:+.1%} ({row.low:+.1%} to {row.high:+.1%}; {row.base_us:.4g} to {row.head_us:.4g} us, "
        f"{row.base_processes} and {row.head_processes} processes, threshold {row.threshold:.1%})"
    )
    return f"{text}; {row.reason}" if row.reason else text


def headline(comparison: Comparison) -> str:
    """``2 REGRESSED, 0 IMPROVED, 208 SAME, 3 INCONCLUSIVE of 213 cells``."""
    counts = ", ".join(f"{count} {verdict}" for verdict, count in comparison.counts.items())
    lost = f"; {len(comparison.lost)} no longer run" if len(comparison.lost) else ""
    return f"{counts} of {len(comparison.cells)} cells{lost}"


def to_json(comparison: Comparison) -> str:
    """Everything, NaN and infinities as null."""
    rule = comparison.rule
    return json.dumps(
        {
            "base": comparison.base,
            "head": comparison.head,
            "exit_code": comparison.exit_code,
            "counts": comparison.counts,
            "rule": vars(rule),
            "notes": comparison.notes,
            "cells": [_finite(row) for row in comparison.cells.to_dict(orient="records")],
            "lost": [_finite(row) for row in comparison.lost.to_dict(orient="records")],
        },
        indent=1,
        allow_nan=False,
    )  # fmt: skip


def _finite(row: dict[Any, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in row.items():
        value = value.item() if hasattr(value, "item") else value
        out[str(key)] = None if isinstance(value, float) and not math.isfinite(value) else value
    return out


def to_markdown(comparison: Comparison) -> str:
    """A job summary or the body of a comment: the headline, what changed, what is open, the rest folded."""
    code = comparison.exit_code
    word = {0: "no regression", 1: "regression", 3: "wrong result", 4: "invalid environment", 5: "inconclusive"}[code]
    lines = [f"### {word}: {_md(comparison.base)} → {_md(comparison.head)}", "", headline(comparison) + ".", ""]
    if len(comparison.lost):
        lines += ["| no longer runs | status | reason |", "|---|---|---|"]
        for row in rows(comparison.lost):
            lines.append(f"| {_code(cell_name(row))} | {_md(row.status)} | {_md(row.reason)} |")
        lines.append("")
    for verdict in (REGRESSED, IMPROVED, INCONCLUSIVE):
        lines += _table(comparison.cells[comparison.cells["verdict"] == verdict], verdict)
    rule = comparison.rule
    lines.append(
        f"<sub>Beyond {rule.threshold:.1%} or {rule.threshold_ns:g} ns, whichever is larger; {rule.confidence:.0%} "
        f"intervals over processes, corrected for {len(comparison.cells)} cells (Benjamini-Hochberg) and "
        f"{rule.looks} look{'s' if rule.looks > 1 else ''}.</sub>"
    )
    lines += [f"<sub>{_md(note)}</sub>" for note in comparison.notes]
    return "\n".join(lines) + "\n"


def _table(cells: pd.DataFrame, verdict: str) -> list[str]:
    if cells.empty:
        return []
    folded = verdict == INCONCLUSIVE
    head = [f"<details><summary>{len(cells)} {verdict}</summary>", ""] if folded else []
    head += ["| verdict | cell | base us | head us | change | interval | in cycles | why |",
             "|---|---|---:|---:|---:|---|---:|---|"]  # fmt: skip
    for row in rows(cells.head(MOST_ROWS)):
        interval = f"{row.low:+.1%} to {row.high:+.1%}" if math.isfinite(row.high) else ""
        cycles = f"{row.cycles:+.1%}" if math.isfinite(row.cycles) else ""
        head.append(
            f"| {row.verdict} | {_code(cell_name(row))} | {row.base_us:.4g} | {row.head_us:.4g} | {row.change:+.1%} "
            f"| {interval} | {cycles} | {_md(row.reason)} |"
        )
    if len(cells) > MOST_ROWS:
        head.append(f"| | and {len(cells) - MOST_ROWS} more | | | | | | |")
    return [*head, "", *(["</details>", ""] if folded else [])]


def _md(text: object) -> str:
    """Names as they are, nothing of them taken for Markdown or HTML."""
    safe = plain(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|@#~])", r"\\\1", safe)


def _code(text: object) -> str:
    """A name as code, whatever is in it; a bar would end the cell of a table even there."""
    return "`" + plain(text).replace("`", "'").replace("|", "\\|") + "`"


def to_junit(comparison: Comparison) -> str:
    """JUnit XML: a test case per cell; REGRESSED fails, INCONCLUSIVE is skipped, what no longer runs is an error."""
    suite = ElementTree.Element("testsuite", name=plain(f"{comparison.base} to {comparison.head}"))
    failures = errors = skipped = 0
    for row in rows(comparison.cells):
        case = ElementTree.SubElement(suite, "testcase", classname=plain(row.kernel), name=cell_name(row))
        case.set("time", f"{row.head_us / 1e6:.9f}")
        if row.verdict == REGRESSED:
            failures += 1
            ElementTree.SubElement(case, "failure", type=REGRESSED, message=plain(sentence(row)))
        elif row.verdict == INCONCLUSIVE:
            skipped += 1
            ElementTree.SubElement(case, "skipped", message=plain(sentence(row)))
        else:
            ElementTree.SubElement(case, "system-out").text = plain(f"{row.verdict}: {sentence(row)}")
    for row in rows(comparison.lost):
        errors += 1
        case = ElementTree.SubElement(suite, "testcase", classname=plain(row.kernel), name=cell_name(row))
        ElementTree.SubElement(case, "error", type=plain(row.status), message=plain(row.reason))
    total = len(comparison.cells) + len(comparison.lost)
    counts = {"tests": total, "failures": failures, "errors": errors, "skipped": skipped}
    for name, count in counts.items():
        suite.set(name, str(count))
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def to_github(comparison: Comparison) -> str:
    """Workflow commands: an error for a regression and for what no longer runs, a warning for what is open."""
    cells = comparison.cells
    errors = [(f"{row.status}: {cell_name(row)}", row.reason) for row in rows(comparison.lost)]
    errors += [(f"REGRESSED: {cell_name(r)}", sentence(r)) for r in rows(cells[cells["verdict"] == REGRESSED])]
    warnings = [(f"INCONCLUSIVE: {cell_name(row)}", sentence(row)) for row in rows(comparison.open)]
    lines = []
    for level, found in (("error", errors), ("warning", warnings)):
        shown = found[:MOST_ANNOTATIONS] if len(found) <= MOST_ANNOTATIONS else found[: MOST_ANNOTATIONS - 1]
        if len(found) > len(shown):
            shown.append((f"{len(found) - len(shown)} more", headline(comparison)))
        lines += [f"::{level} title={_property(title)}::{_message(text)}" for title, text in shown]
    lines.append(f"::notice title=sparsity-roofline compare::{_message(headline(comparison))}")
    return "\n".join(lines) + "\n"


def _message(text: object) -> str:
    return plain(text).replace("%", "%25")


def _property(text: object) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")


__all__ = ["cell_name", "headline", "plain", "rows", "sentence", "to_github", "to_json", "to_junit", "to_markdown"]
