"""The figures of a report as files: PNG for pages, SVG for papers; one set a device."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from sparsity_roofline.validation import accuracy, plots, reportplots, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write(pairs: pd.DataFrame, records: pd.DataFrame, tables: Mapping[str, pd.DataFrame], folder: Path) -> list[Path]:
    """Draw and write; the paths in order. Several devices have their names before the figure's.

    Args:
        pairs: of the report. records: normalised, with ceilings. tables: the sheets' frames by name. folder: exists.
    """
    devices = sorted(pairs["device"].unique())
    written = []
    for device in devices:
        head = f"{slug(str(device))}-" if len(devices) > 1 else ""
        mine = {name: frame[frame["device"] == device] for name, frame in tables.items() if "device" in frame}
        of_device = _figures(pairs[pairs["device"] == device], records[records["device"] == device], mine)
        for name, draw in of_device.items():
            made = draw()
            written += [style.save(made, folder / f"{head}{name}.{suffix}") for suffix in ("png", "svg")]
    return written


def slug(text: str) -> str:
    """A name for a file: lower case letters, figures and dashes.

    >>> slug("../NVIDIA H100 80GB HBM3")
    'nvidia-h100-80gb-hbm3'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "unnamed"


def _figures(
    pairs: pd.DataFrame, records: pd.DataFrame, tables: Mapping[str, pd.DataFrame]
) -> dict[str, Callable[[], Figure]]:
    drawn: dict[str, Callable[[], Figure]] = {
        "parity": lambda: plots.parity_plot(pairs),
        "roofline": lambda: plots.roofline_plot(records),
        "speedup": lambda: reportplots.speedup_plot(pairs),
        "heat": lambda: reportplots.heat_plot(pairs),
        "equality": lambda: reportplots.equality_plot(tables["equality"]),
    }
    shown = accuracy.shown(tables["accuracy"])
    many = len(shown["run"].unique()) > 1
    for (run, network, pattern), rows in shown.groupby(["run", "network", "pattern"], sort=True):
        again = f"-{slug(str(run))}" if many else ""
        name = f"accuracy-{slug(str(network))}-{slug(str(pattern))}{again}"
        drawn[name] = lambda rows=rows: reportplots.accuracy_plot(rows)  # type: ignore[misc]
    return drawn
