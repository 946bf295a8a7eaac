"""Hardware nobody has built: ceilings from a TOML file, or those of a known device with figures put in their place.

    name = "wide-memory H100"
    like = "h100"                  # a device of the table; leave it out and give every figure
    dram_bandwidth = 8e12          # bytes per second
    l2_bytes = 134217728
    sm_count = 132                 # leave it out for a CPU: then every peak is that of the CPU

    [peaks]                        # operations per second; "@2:4" counts the zeros of a 2:4 weight as work
    fp16_flops = 2e15
    "fp16_flops@2:4" = 4e15

A value may also be ``"x2"``: twice the device's own figure. The ceilings are of the kind ``assumed``, so that they are
never taken for a vendor's or a measurement's.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sparsity_roofline.model import hardware
from sparsity_roofline.model.ceilings import SPARSE, Ceilings
from sparsity_roofline.model.dtype import DTYPES
from sparsity_roofline.model.errors import UserError

SCALARS = ("dram_bandwidth", "l2_bytes", "l2_bandwidth", "launch_floor_s", "sm_count", "boost_clock_hz")
"""Figures beside the peaks, as ``Ceilings`` names them."""

PEAKS = tuple(dict.fromkeys(d.peak for d in DTYPES.values()))
"""Peaks a device can have; each also with the suffix ``@2:4``."""


def find(device: str) -> Ceilings:
    """Ceilings by a name of the table or from a TOML file.

    Raises:
        UserError: an unknown device; a file that cannot be read or does not describe one.
    """
    if device.endswith(".toml"):
        return read(Path(device))
    return hardware.datasheet(device)


def read(path: Path) -> Ceilings:
    """Ceilings from a TOML file (see the module's text).

    Raises:
        UserError: the file cannot be read, is no TOML, or its figures do not make ceilings.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: {error}") from error
    name, like, peaks = data.pop("name", path.stem), data.pop("like", None), data.pop("peaks", {})
    if not isinstance(peaks, dict):
        raise UserError(f"{path}: peaks must be a table")
    base = None if like is None else hardware.datasheet(str(like))
    try:
        return change(base, {**data, **peaks}, name=str(name))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def change(base: Ceilings | None, figures: Mapping[str, Any], name: str | None = None) -> Ceilings:
    """Ceilings with some figures replaced.

    Args:
        base: what is not given comes from here; None takes only what is given.
        figures: figure -> number, or ``x2`` (also ``x0.5``) for a multiple of the base's.
        name: of the result; by default the base's with what was changed.

    Raises:
        UserError: an unknown figure, no number, a multiple of nothing, or too little to make ceilings of.
    """
    scalars: dict[str, float] = {}
    peaks = {} if base is None else dict(base.peaks)
    for figure, given in figures.items():
        if figure in SCALARS:
            own = None if base is None else getattr(base, figure)
            scalars[figure] = _number(figure, given, own)
        elif figure.removesuffix(SPARSE) in PEAKS:
            peaks[figure] = _number(figure, given, peaks.get(figure))
        else:
            known = ", ".join((*SCALARS, *PEAKS))
            raise UserError(f"no figure {figure!r}: choose from {known} (peaks also with {SPARSE})")
    if "sm_count" in scalars:
        scalars["sm_count"] = int(scalars["sm_count"])
    if base is None:
        if not peaks or "dram_bandwidth" not in scalars:
            raise UserError("without `like`, dram_bandwidth and at least one peak are needed")
        return Ceilings(name or "assumed", "assumed", peaks, **scalars)  # type: ignore[arg-type]
    said = ", ".join(f"{figure}={given}" for figure, given in figures.items())
    label = name or (f"{base.device} with {said}" if said else base.device)
    return replace(base, device=label, kind="assumed", peaks=peaks, identity="", details={}, **scalars)  # type: ignore[arg-type]


def _number(figure: str, given: Any, own: float | None) -> float:
    text = str(given).strip()
    try:
        if text.startswith("x"):
            if own is None:
                raise UserError(f"{figure}={text}: there is no figure to multiply; give it as a number")
            value = float(text[1:]) * own
        else:
            value = float(text)
    except ValueError:
        raise UserError(f"{figure}={text}: write a number in base units, for example 8e12, or x2") from None
    if not (math.isfinite(value) and value > 0) or isinstance(given, bool):
        raise UserError(f"{figure}={text}: needs a positive number")
    return value
