"""Read a suite strictly: an unknown key or a wrong type is named with its file, and nothing is guessed."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

from sparsity_roofline.bench.suites.schema import Entry, Suite
from sparsity_roofline.bench.timing import timer_names
from sparsity_roofline.bench.timing.protocol import Clocks, L2State, Regime, Stopping
from sparsity_roofline.model.case import FORMATS, Layout
from sparsity_roofline.model.dtype import DTYPES
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.pattern import Pattern

HERE = Path(__file__).parent

Check = Callable[[Any], str]
"""'' if the value is acceptable, else what is wanted."""


def suite_names() -> list[str]:
    """Names of the suites that come with the package."""
    return sorted(p.stem for p in HERE.glob("*.toml"))


def load_suite(name_or_path: str | os.PathLike[str]) -> Suite:
    """A suite by name (see ``suite_names``) or from a TOML file.

    Raises:
        UserError: no such suite, broken TOML, an unknown key, a wrong type or value; names file, key and remedy.
    """
    text = os.fspath(name_or_path)
    path = HERE / f"{text}.toml" if text in suite_names() else Path(text)
    if not path.is_file():
        raise UserError(f"no suite {text!r}: give one of {', '.join(suite_names())}, or the path of a TOML file")
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read suite {path}: {error}") from None
    return parse_suite(content, str(path) if path.parent != HERE else f"suite {text}", path.stem)


def parse_suite(content: str, origin: str, stem: str = "suite") -> Suite:
    """A suite from TOML text; ``origin`` names it in messages.

    Raises:
        UserError: as for ``load_suite``.
    """
    try:
        data = tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{origin}: not valid TOML: {error}") from None
    data.setdefault("name", stem)
    timing = data.pop("timing", {})
    raw = data.pop("entries", None)
    if not isinstance(raw, list) or not raw or not all(isinstance(e, dict) for e in raw):
        raise UserError(f"{origin}: entries: wants at least one table; begin one with [[entries]]")
    values = _take(data, _SUITE, origin, "")
    entries = tuple(Entry(**_take(e, _ENTRY, origin, f"entries[{i}].")) for i, e in enumerate(raw, 1))
    if not isinstance(timing, dict):
        raise UserError(f"{origin}: timing: wants a table; begin it with [timing]")
    times = _take(timing, _TIMING, origin, "timing.")
    regime = Regime(**{k: times.pop(k) for k in ("l2", "clocks") if k in times})
    for i, entry in enumerate(entries, 1):
        _consistent(entry, f"{origin}: entries[{i}]")
    timer = times.pop("timer", None)
    stopping = Stopping(**times)
    if stopping.minimum > stopping.maximum:
        raise UserError(f"{origin}: timing.minimum: {stopping.minimum} is above timing.maximum, {stopping.maximum}")
    return Suite(**values, entries=entries, regime=regime, stopping=stopping, timer=timer, text=content, origin=origin)


def _consistent(entry: Entry, where: str) -> None:
    if not (entry.batches or entry.tokens or entry.columns):
        raise UserError(f"{where}: says no N; give batches, tokens or columns")
    if entry.sparsities and not entry.prune:
        raise UserError(f"{where}.sparsities: only goes with prune; to choose among matrices use target_sparsity")


def _take(table: Mapping[str, Any], known: Mapping[str, Check], origin: str, prefix: str) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in table.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(sorted(known))}"
            raise UserError(f"{origin}: {prefix}{key}: unknown key; {hint}")
        if wanted := known[key](value):
            raise UserError(f"{origin}: {prefix}{key}: wants {wanted}, not {value!r}")
        out[key] = tuple(value) if isinstance(value, list) else value
    return out


def _text(value: Any) -> str:
    return "" if isinstance(value, str) and value.strip() else "text"


def _any_text(value: Any) -> str:
    return "" if isinstance(value, str) else "text"


def _flag(value: Any) -> str:
    return "" if isinstance(value, bool) else "true or false"


def _whole(least: int) -> Check:
    def check(value: Any) -> str:
        good = isinstance(value, int) and not isinstance(value, bool) and value >= least
        return "" if good else f"a whole number of at least {least}"

    return check


def _number(low: float, high: float, what: str) -> Check:
    def check(value: Any) -> str:
        good = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
        return "" if good else what

    return check


def _word(*words: str) -> Check:
    return lambda value: "" if value in words and isinstance(value, str) else f"one of {', '.join(words)}"


def _pattern(value: Any) -> str:
    try:
        return "" if isinstance(value, str) and Pattern.parse(value).kind != "dense" else "unstructured, block16 or 2:4"
    except UserError:
        return "a pattern such as unstructured, block16, block16x32 or 2:4"


def _several(one: Check) -> Check:
    def check(value: Any) -> str:
        if not isinstance(value, list) or not value:
            return "a list, such as [...], with at least one element"
        wrong = [w for w in (one(v) for v in value) if w]
        return f"a list of {wrong[0].removeprefix('a ').removeprefix('one of ')}" if wrong else ""

    return check


_SPARSITY = _number(0.0, 1.0, "a sparsity from 0 to 1")
_DEVICES = _several(_word("cpu", "cuda"))
_DTYPES = _several(_word(*DTYPES))
_SUITE: dict[str, Check] = {
    "name": _text,
    "description": _any_text,
    "seed": _whole(0),
    "dtypes": _DTYPES,
    "devices": _DEVICES,
}
_TIMING: dict[str, Check] = {
    "l2": _word(*get_args(L2State)),
    "clocks": _word(*get_args(Clocks)),
    "timer": _word(*timer_names()),
    "half_width": _number(1e-6, 1.0, "a fraction from 1e-6 to 1"),
    "half_width_ns": _number(0.0, 1e9, "nanoseconds from 0 to 1e9"),
    "minimum": _whole(2),
    "maximum": _whole(2),
    "seconds": _number(1e-3, 3600.0, "seconds from 0.001 to 3600"),
    "skip_above": _number(1.0, 1e9, "a factor of at least 1"),
}
_ENTRY: dict[str, Check] = {
    "collection": _text,
    "devices": _DEVICES,
    "dtypes": _DTYPES,
    **{key: _several(_text) for key in ("networks", "methods", "layers", "patterns", "kernels", "dense")},
    "target_sparsity": _several(_SPARSITY),
    "max_matrices": _whole(0),
    "unique_shapes": _flag,
    "prune": _several(_pattern),
    "sparsities": _several(_SPARSITY),
    "formats": _several(_word(*[f for f in FORMATS if f != "dense"])),
    **{key: _several(_whole(1)) for key in ("batches", "tokens", "columns")},
    "layouts": _several(_word(*get_args(Layout))),
}
assert set(_ENTRY) == {f.name for f in fields(Entry)}
