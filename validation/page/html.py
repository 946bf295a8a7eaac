"""The page: a Jinja template that escapes everything, with style, script and libraries written into it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import pandas as pd

from sparsity_roofline.validation.page.data import to_json
from sparsity_roofline.validation.page.runs import Run
from sparsity_roofline.validation.page.sheets import Sheet
from sparsity_roofline.validation.page.words import Answer
from sparsity_roofline.validation.refined.explain import Explanation
from sparsity_roofline.validation.tables import number

FILTERS = ("device", "run", "format", "dtype", "network", "kernel")
"""Columns a reader can filter by, in every table and plot that has them; ``page.js`` names them too."""

_PACKAGE = "sparsity_roofline.validation.page"


@dataclass
class Page:
    """What a page shows; see ``report``."""

    title: str
    answers: list[Answer]
    messages: list[str]
    conditions: str
    sheets: list[Sheet]
    worst: list[tuple[dict[Hashable, Any], Explanation | None, str]]
    runs: Sequence[Run]
    data: dict[str, Any]
    command: str
    version: str
    options: dict[str, Any]


def render(page: Page) -> str:
    """The page as text. Every name in it is escaped; the only script and style are those of this package."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["number"] = number
    template = environment.from_string(_read("page.html"))
    return template.render(
        page=page,
        tables=[(sheet, *_cells(sheet)) for sheet in page.sheets if sheet.name != "worst"],
        by_name={sheet.name: sheet for sheet in page.sheets},
        # Ours and the vendored libraries': nothing of them comes from a record.
        style=Markup(_read("page.css")),
        scripts=[Markup(_script(name)) for name in ("vendor/d3.min.js", "vendor/plot.min.js", "page.js")],
        licences={name: _read(f"vendor/{name}.LICENSE") for name in ("d3", "plot")},
        data=Markup(to_json(page.data)),  # to_json leaves no character that markup begins with
    )


def _cells(sheet: Sheet) -> tuple[list[bool], list[tuple[list[tuple[str, str]], list[tuple[str, str]]]]]:
    """Which columns are figures; per row its (filter, value) pairs and its (shown, value to sort by) cells."""
    frame = sheet.frame
    figures = [frame[name].dtype.kind in "if" for name in sheet.headings]
    rows = []
    for row in frame.to_dict("records"):
        marks = [(name, str(row[name])) for name in FILTERS if name in row]
        shown = [_show(row[name]) for name in sheet.headings]
        keys = [_key(row[name]) if numeric else "" for name, numeric in zip(sheet.headings, figures, strict=True)]
        cells = list(zip(shown, keys, strict=True))
        rows.append((marks, cells))
    return figures, rows


def _show(value: Any) -> str:
    return "" if value is None or value is pd.NaT else number(value)


def _key(value: Any) -> str:
    return "" if value != value else f"{value:.5g}"


def _script(name: str) -> str:
    """A script that can stand in a page: ``</script`` must not occur in it."""
    text = _read(name)
    if "</script" in text.lower():
        raise ValueError(f"{name} holds a closing script tag")
    return text


@cache
def _read(name: str) -> str:
    return files(_PACKAGE).joinpath(name).read_text(encoding="utf-8")
