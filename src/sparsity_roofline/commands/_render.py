"""How verbs print: one table style, one JSON style."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sparsity_roofline.model.text import printable


class SafeConsole(Console):
    """A console that shows what does not print as its escape: names and reasons come from files."""

    def print(self, *objects: Any, **options: Any) -> None:
        """As rich's; line breaks stay."""
        super().print(
            *("\n".join(map(printable, o.split("\n"))) if isinstance(o, str) else o for o in objects), **options
        )


def console() -> Console:
    """The terminal. Not a terminal (a pipe, a CI log): wide enough that tables are not folded."""
    found = SafeConsole(highlight=False, emoji=False)
    return found if found.is_terminal else SafeConsole(highlight=False, emoji=False, width=160)


def print_table(
    title: str,
    header: Sequence[str],
    rows: Iterable[Sequence[Any]],
    right: Sequence[int] = (),
    whole: Sequence[int] = (),
) -> None:
    """Print rows under a header; ``right`` names the columns of figures, ``whole`` those never folded."""
    table = Table(header_style="bold", box=None, pad_edge=False)
    for i, name in enumerate(header):
        table.add_column(
            name,
            justify="right" if i in right else "left",
            overflow="ellipsis" if i in whole else "fold",
            no_wrap=i in whole,
        )
    for row in rows:
        table.add_row(*(Text(text(cell)) for cell in row))
    out = console()
    if title:
        out.print(title, style="italic", markup=False, soft_wrap=True)
    out.print(table)


def text(value: Any) -> str:
    """A cell: figures to three or four digits, nothing for None and NaN, names without controls."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return printable(str(value))


def print_json(value: Any) -> None:
    """JSON on stdout, NaN and infinities as null so that every parser takes it."""
    click.echo(json.dumps(_plain(value), indent=2))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if hasattr(value, "item") and not isinstance(value, (str, bytes)):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def seconds(value: float) -> str:
    """A latency in the unit a person would choose."""
    if value < 1e-3:
        return f"{value * 1e6:.3g} us"
    return f"{value * 1e3:.4g} ms" if value < 1 else f"{value:.4g} s"
