"""Each output read back by a parser of its format, with names made to break it."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree

import pytest
from markdown_it import MarkdownIt

from sparsity_roofline.bench import compare_reports as reports
from sparsity_roofline.bench.compare import Comparison, compare_sides

from ._runs import side
from .test_compare import with_status

EVIL = 'net/a|b`c<td><script>alert(1)<script>&amp;\x1b[31m\n::error title=x::y%0A @team ](javascript:x) \u202e"'


@pytest.fixture
def comparison() -> Comparison:
    """One REGRESSED with an evil name, one IMPROVED, one INCONCLUSIVE, one lost, the rest SAME."""
    base = side(cells=8, seed=1, spread=0.001)
    head = side("head", cells=8, seed=2, spread=0.001, slower=[0.1, -0.1, 0, 0, 0, 0, 0, 0])
    noisy = head.records["matrix"] == "net/m2"
    head.records.loc[noisy, "time_ns"] *= 1.5 ** (head.records.loc[noisy, "process"].to_numpy() - 2)
    head = with_status(head, 3, "error", "cannot | `launch` <b>\n::error::z")
    for one in (base, head):
        one.records["matrix"] = one.records["matrix"].replace({"net/m0": EVIL})
    found = compare_sides(base, head)
    assert found.counts == {"REGRESSED": 1, "IMPROVED": 1, "SAME": 4, "INCONCLUSIVE": 1}
    return found


def test_json(comparison: Comparison) -> None:
    data = json.loads(reports.to_json(comparison), parse_constant=pytest.fail)
    assert data["counts"] == comparison.counts
    assert data["exit_code"] == 1
    assert len(data["cells"]) == 7
    assert data["cells"][0]["matrix"] == EVIL
    assert data["rule"]["threshold"] == 0.02
    assert data["lost"][0]["status"] == "error"


def test_junit(comparison: Comparison) -> None:
    root = ElementTree.fromstring(reports.to_junit(comparison))
    suite = root[0]
    assert (root.tag, suite.tag) == ("testsuites", "testsuite")
    counts = {name: int(suite.get(name, "-1")) for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": 8, "failures": 1, "errors": 1, "skipped": 1}
    assert len(suite.findall("testcase")) == 8
    assert {name: len(suite.findall(f"testcase/{name}")) for name in ("failure", "error", "skipped")} == {
        "failure": 1, "error": 1, "skipped": 1,
    }  # fmt: skip
    failed = suite.find("testcase/failure/..")
    assert failed is not None
    assert failed.get("classname") == "csr.fake"
    assert "<script>" in str(failed.get("name"))


def test_markdown(comparison: Comparison) -> None:
    text = reports.to_markdown(comparison)
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    rows, cells = [], 0
    for token in tokens:
        if token.type == "tr_open":
            cells = 0
        cells += token.type in ("td_open", "th_open")
        if token.type == "tr_close":
            rows.append(cells)
    assert sorted(rows) == [3, 3, 8, 8, 8, 8, 8, 8]  # three tables of two rows and one, and their headers
    html = MarkdownIt("commonmark").enable("table").render(text)
    assert "<script>" not in html
    assert "\x1b" not in text
    assert "1 REGRESSED, 1 IMPROVED, 4 SAME, 1 INCONCLUSIVE of 7 cells" in html
    assert html.startswith("<h3>regression")


def test_github_annotations(comparison: Comparison) -> None:
    lines = reports.to_github(comparison).splitlines()
    parsed = [re.fullmatch(r"::(error|warning|notice) title=([^:,]*)::(.*)", line) for line in lines]
    assert all(parsed)
    levels = [match[1] for match in parsed if match]
    assert levels == ["error", "error", "warning", "notice"]
    decoded = [re.sub(r"%3A|%2C|%25", lambda m: {"%3A": ":", "%2C": ",", "%25": "%"}[m[0]], m[2]) for m in parsed if m]
    assert decoded[1].startswith("REGRESSED: csr.fake fp16 64x64x8")


def test_github_shows_at_most_ten_of_a_level() -> None:
    found = compare_sides(side(cells=40, seed=1), side("head", cells=40, seed=2, slower=0.2))
    lines = reports.to_github(found).splitlines()
    assert sum(line.startswith("::error") for line in lines) == 10
    assert "31 more" in lines[9]


def test_a_long_table_says_how_much_it_leaves_out() -> None:
    found = compare_sides(side(cells=60, seed=1), side("head", cells=60, seed=2, slower=0.2))
    assert "and 20 more" in reports.to_markdown(found)


def test_the_headline_of_a_quiet_comparison() -> None:
    found = compare_sides(side(cells=5, seed=1), side("head", cells=5, seed=2))
    assert reports.to_markdown(found).startswith("### no regression: base → head\n")
    assert ElementTree.fromstring(reports.to_junit(found))[0].get("failures") == "0"
