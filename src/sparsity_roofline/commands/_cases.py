"""Options by which verbs name cases, and the cases they name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from sparsity_roofline.model.errors import UserError

POSITIVE = click.IntRange(1, 2**31 - 1)
ROWS = click.IntRange(0)


def collection_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--collection``, ``--prune``, ``--batch``, ``--columns``, ``--match``."""
    options = [
        click.option(
            "--collection",
            metavar="URI",
            help="Matrices: builtin, network:NAME, shapes:MxK, uniform:MxK, dlmc:PATH (directory or tar), "
            "manifest:FILE.toml, checkpoint:FILE, or a path.",
        ),
        click.option("--prune", multiple=True, metavar="PATTERN", help="Prune its layers to block16, 2:4, ..."),
        click.option(
            "--batch", "batches", multiple=True, type=POSITIVE, help="N = batch x output pixels (repeatable)."
        ),
        click.option("--columns", multiple=True, type=POSITIVE, metavar="N", help="N itself, in tokens (repeatable)."),
        click.option("--match", default="*", show_default=True, metavar="GLOB", help="Only matrices with such a name."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def given(name: str) -> bool:
    """Whether the user wrote this option (by its parameter's name)."""
    source = click.get_current_context().get_parameter_source(name)
    return source is not click.core.ParameterSource.DEFAULT


def refuse_idle(idle: dict[str, str], what: str) -> None:
    """Refuse an option that would be left out in silence.

    Args:
        idle: parameter names and the options they are written as.
        what: what they do not go with, for example ``--shape``.

    Raises:
        UserError: one of them was given.
    """
    for name, option in idle.items():
        if given(name):
            raise UserError(f"{option} does not go with {what}")


def parse_items(items: tuple[str, ...], option: str) -> dict[str, str]:
    """``key=value`` texts as a dictionary.

    Raises:
        UserError: an item without ``=``, a key or value that is empty, or a key that is given twice.
    """
    found: dict[str, str] = {}
    for item in items:
        key, equals, value = (part.strip() for part in item.partition("="))
        if not (equals and key and value):
            raise UserError(f"{option} {item!r}: write key=value")
        if key in found:
            raise UserError(f"{option} {key} is given twice")
        found[key] = value
    return found


def parse_assignments(items: tuple[str, ...]) -> dict[str, Any]:
    """``key=value`` texts as a dictionary; whole numbers become int, ``none`` becomes None.

    Raises:
        UserError: an item without ``=``.
    """
    found: dict[str, Any] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals:
            raise UserError(f"--option {item!r}: write key=value, for example index_bytes=2")
        found[key.strip()] = int(value) if value.strip().isdigit() else value.strip()
    return found
