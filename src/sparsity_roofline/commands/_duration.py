"""Durations as a person writes them: 90, 90s, 10m, 1.5h."""

from __future__ import annotations

import re

import click

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


class Duration(click.ParamType[float]):
    """Seconds, from ``90``, ``90s``, ``10m`` or ``1.5h``."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(s|m|min|h)?\s*", str(value))
        seconds = float(match[1]) * _UNITS[match[2] or ""] if match else 0.0
        if seconds <= 0:
            self.fail(f"{value!r}: write a positive duration such as 90s, 10m or 1.5h", param, ctx)
        return seconds


def short(seconds: float) -> str:
    """``3m20s``, ``45s``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    return f"{whole // 60}m{whole % 60:02d}s" if whole < 3600 else f"{whole // 3600}h{whole % 3600 // 60:02d}m"
