"""The page: what stands in it, that nothing in it runs that is not ours, and that it asks for nothing."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from sparsity_roofline.model.errors import UserError
from sparsity_roofline.validation.page.data import FIGURES, TEXT, short, thin, to_json
from sparsity_roofline.validation.page.html import FILTERS, _read
from sparsity_roofline.validation.page.report import Report, report

from .._records import frame, record, sweep
from ._runs import HOSTILE, folder

VOID = {"meta", "input", "br", "img", "link", "hr"}


class Elements(HTMLParser):
    """Elements, scripts and text of a page, and whether its tags are closed in order."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.stack: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text: list[str] = []
        self.faults: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.stack or self.stack.pop() != tag:
            self.faults.append(f"</{tag}> at {self.getpos()}")

    def handle_data(self, data: str) -> None:
        if self.stack and self.stack[-1] == "script":
            self.scripts[-1] += data
        elif not self.stack or self.stack[-1] != "style":
            self.text.append(data)


def parse(html: str) -> Elements:
    parser = Elements()
    parser.feed(html)
    parser.close()
    return parser


def data_of(html: str) -> dict:
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.S)
    assert match
    return json.loads(match[1])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Report:
    path = tmp_path_factory.mktemp("runs") / "gpu" / "one"
    return report(folder(path, sweep()), resamples=50, command="sparsity-roofline report gpu/one")


def test_page_is_whole_and_carries_every_pair(made: Report) -> None:
    found = parse(made.html)
    assert not found.faults
    assert not found.stack
    pairs = made.validation.pairs
    data = data_of(made.html)["pairs"]
    assert data["count"] == data["of"] == len(pairs) > 100
    for name in TEXT:
        column = data["text"][name]
        assert [column["names"][i] for i in column["codes"]] == pairs_text(pairs, name)
    for name in ("predicted", "measured", "f", "fd", "N"):
        expected = [short(float(v)) for v in pairs[FIGURES[name]]]
        assert data["figures"][name] == expected


def pairs_text(pairs, name: str) -> list[str]:
    from sparsity_roofline.validation.summary import add_strata
    from sparsity_roofline.validation.tables import label

    return add_strata(label(pairs))[name].astype(str).tolist()


def test_filters_know_every_value(made: Report) -> None:
    data, pairs = data_of(made.html)["pairs"]["text"], made.validation.pairs
    for name in FILTERS:
        assert set(data[name]["names"]) == set(pairs[name].astype(str))
    script = _read("page.js")
    assert all(f"{name}:" in script.split("const FILTERS = ")[1].split("\n")[0] for name in FILTERS)


def test_answer_stands_first_with_its_figures(made: Report) -> None:
    html = made.html
    order = [html.index(mark) for mark in ('id="answer"', 'id="plots"', 'id="worst"', 'id="tables"', 'id="provenance"')]
    assert order == sorted(order)
    kept = made.validation.pairs[~made.validation.pairs["below_floor"]]
    error = (1 / kept["parity"] - 1).abs()
    figures = {what: value for value, what in made.answers[0].figures}
    assert float(figures["parity"]) == pytest.approx(np.exp(kept["log_error"].mean()), rel=5e-3)
    assert float(figures["MAPE, plain"].removesuffix(" %")) == pytest.approx(100 * error.mean(), rel=5e-3)
    assert figures["pairs above the launch floor"] == f"{len(kept)} of {len(made.validation.pairs)}"
    text = "".join(parse(html).text)
    assert all(sentence in text for sentence in made.answers[0].sentences)


def test_provenance_names_run_environment_command_and_versions(made: Report) -> None:
    text = " ".join("".join(parse(made.html).text).split())
    for said in ("gpu/one", "run-1", "env-1", "sparsity-roofline measure", "torch 2.11.0", "driver", "seed 0"):
        assert said in text
    pairs = made.validation.pairs
    at = pairs.iloc[3]
    record_of = made.runs[0].records.iloc[int(at["record"])]
    assert (record_of["case"], record_of["kernel"]) == (at["case"], at["kernel"])


def test_nothing_is_asked_of_a_network(made: Report) -> None:
    for tag, attributes in parse(made.html).tags:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            value = attributes.get(name) or ""
            assert not value or value.startswith("#"), (tag, name, value)
        assert tag not in ("link", "iframe", "object", "embed", "base")
    assert "connect-src" not in made.html
    policy = next(a["content"] for t, a in parse(made.html).tags if t == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none'")
    own = _read("page.css") + _read("page.js") + _read("page.html")
    assert not re.search(r"https?:|//[a-z0-9.-]+\.[a-z]{2,}/|url\(|@import|fetch\(|XMLHttpRequest|import\(", own)


def test_page_is_small(made: Report) -> None:
    assert len(made.html.encode()) < 1_500_000


def test_hostile_names_are_text(tmp_path: Path) -> None:
    records = sweep()
    names = [HOSTILE[i % len(HOSTILE)] for i in range(len(records))]
    dense = (records["format"] == "dense").tolist()
    for column in ("matrix", "network", "layer", "method", "collection"):
        records[column] = names
    records["case"] = [f"{name}|{case}" for name, case in zip(names, records["case"], strict=True)]
    records["kernel"] = [
        kernel if is_dense else f"{kernel}{HOSTILE[0]}"
        for kernel, is_dense in zip(records["kernel"], dense, strict=True)
    ]
    records["device"], records["environment"] = HOSTILE[1], HOSTILE[2]
    path = folder(tmp_path / "x" / "<b>run", records, suite=HOSTILE[0], argv=list(HOSTILE))
    made = report(path, tables=tmp_path / "t", resamples=20, title=HOSTILE[0], command=HOSTILE[3])
    found = parse(made.html)
    assert not found.faults
    assert len(found.scripts) == 4  # data, two libraries, ours
    assert {t for t, _ in found.tags} & {"img", "svg", "b", "iframe"} == set()
    assert not [a for _, a in found.tags if any(name.startswith("on") for name in a)]
    assert "<script>alert" not in made.html
    assert "{{ 7" in "".join(found.text)
    assert "49" not in found.text
    assert any(HOSTILE[0] in name for name in data_of(made.html)["pairs"]["text"]["kernel"]["names"])
    for path in (tmp_path / "t").glob("*.md"):
        assert "<img" not in path.read_text()
    for path in (tmp_path / "t").glob("*.tex"):
        assert "<" not in path.read_text()


def test_json_cannot_end_its_script() -> None:
    text = to_json({"a": list(HOSTILE), "b": "\u2028&<>"})
    assert not set(text) & set("<>&\u2028")
    assert json.loads(text) == {"a": list(HOSTILE), "b": "\u2028&<>"}
    with pytest.raises(ValueError, match="JSON"):
        to_json({"a": float("nan")})


def test_two_devices_stand_side_by_side(tmp_path: Path) -> None:
    one, two = sweep(0), sweep(1)
    two["device"], two["run_id"] = "H200-SXM-141GB", "run-2"
    made = report([folder(tmp_path / "a" / "r", one), folder(tmp_path / "b" / "r", two)], resamples=20)
    assert [answer.device for answer in made.answers] == sorted(set(one["device"]) | {"H200-SXM-141GB"})
    assert set(made.validation.pairs["run"]) == {"a/r", "b/r"}
    data = data_of(made.html)
    assert data["pairs"]["text"]["run"]["names"] == ["a/r", "b/r"]
    assert {roof["device"] for roof in data["roofs"]} == {answer.device for answer in made.answers}
    for name in ("headline", "groups", "cells", "equality"):
        assert set(made.table(name)["run"]) == {"a/r", "b/r"}
    pair = made.validation.pairs[made.validation.pairs["run"] == "b/r"].iloc[0]
    assert made.runs[1].records.iloc[int(pair["record"])]["case"] == pair["case"]


def test_the_same_run_twice_is_refused(tmp_path: Path) -> None:
    path = folder(tmp_path / "a", sweep())
    with pytest.raises(UserError, match="the same run"):
        report([path, path / "records.parquet"])


@pytest.mark.parametrize("name", ["report.pdf", "report", "report.html.gz"])
def test_only_html_is_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"\.html"):
        report(folder(tmp_path / "a", sweep()), tmp_path / name)


def test_nothing_to_report_says_why(tmp_path: Path) -> None:
    path = folder(tmp_path / "a", frame(record("dense"), record("csr", status="error")))
    with pytest.raises(UserError, match="nothing to report"):
        report(path)
    with pytest.raises(UserError, match="name a run"):
        report([])


def test_pairs_below_the_floor_alone_make_a_page(tmp_path: Path) -> None:
    tiny = {"M": 64, "K": 64, "N": 16}
    path = folder(tmp_path / "a", frame(record("dense", **tiny, time_us=3.0), record("csr", **tiny, time_us=4.0)))
    made = report(path, tables=tmp_path / "t", figures=tmp_path / "f", resamples=20)
    assert "below the launch floor" in made.answers[0].sentences[0]
    assert not parse(made.html).faults


def test_files_are_written_in_all_forms(tmp_path: Path) -> None:
    path = folder(tmp_path / "a", sweep())
    made = report(path, tmp_path / "r" / "x.html", tables=tmp_path / "t", figures=tmp_path / "f", resamples=20)
    assert all(p.stat().st_size > 0 for p in made.written)
    names = {p.name for p in (tmp_path / "t").iterdir()}
    for sheet in made.sheets:
        assert {f"{sheet.name}.csv", f"{sheet.name}.md", f"{sheet.name}.tex"} <= names
    figures = {p.name for p in (tmp_path / "f").iterdir()}
    of_run = {name.partition("-a-")[2] for name in figures}
    assert {"parity.png", "parity.svg", "speedup.png", "heat.svg", "roofline.svg"} <= of_run
    assert {"equality.png", "equality.svg"} <= figures
    assert (tmp_path / "r" / "x.html").read_text() == made.html


def test_the_same_records_give_the_same_bytes(made: Report, tmp_path: Path) -> None:
    again = report(folder(tmp_path / "gpu" / "one", sweep()), resamples=50, command="sparsity-roofline report gpu/one")
    assert again.html == made.html


def test_thinning_keeps_what_counts() -> None:
    import pandas as pd

    table = pd.DataFrame({"below": [0, 1] * 50, "x": range(100)})
    assert thin(table, 100) is table
    few = thin(table, 60)
    assert len(few) == 60
    assert (few["below"] == 0).sum() == 50
    assert few["x"].is_monotonic_increasing
    assert len(thin(table, 20)) == 20


def test_worst_cases_are_explained(made: Report) -> None:
    table = made.table("worst")
    assert len(table) >= 5
    assert table["why"].str.contains("The plain limit promises").all()
    kept = made.validation.pairs[~made.validation.pairs["below_floor"]]
    far = kept.loc[kept["log_error"].abs().idxmax()]
    assert table.iloc[0]["measured_speedup"] == pytest.approx(far["measured_speedup"])
