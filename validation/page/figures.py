"""The figures of a report as files: PNG for pages, SVG for papers; one set a run."""

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
    """Draw and write; the paths in order. The run's name stands before the figure's.

    Args:
        pairs: of the report. records: normalised, with ceilings. tables: the sheets' frames by name. folder: exists.
    """
    runs = sorted(pairs["run"].unique())
    drawn: dict[str, Callable[[], Figure]] = {"equality": lambda: reportplots.equality_plot(tables["equality"])}
    for run in runs:
        head = f"{slug(str(run))}-"
        mine = pairs[pairs["run"] == run]
        of_run = records[records["run_id"].isin(set(mine["run_id"]))]
        known = tables["accuracy"]
        drawn |= {f"{head}{k}": draw for k, draw in _figures(mine, of_run, known[known["run"] == run]).items()}
    written = []
    for name, draw in drawn.items():
        made = draw()
        written += [_small(style.save(made, folder / f"{name}.png")), style.save(made, folder / f"{name}.svg")]
    return written


def _small(path: Path) -> Path:
    """A PNG of at most 256 colours, which these figures do not exceed visibly: a third of the size."""
    from PIL import Image

    with Image.open(path) as image:
        few = image.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(path, optimize=True)
    return path


def slug(text: str) -> str:
    """A name for a file: lower case letters, figures and dashes.

    >>> slug("../NVIDIA H100 80GB HBM3")
    'nvidia-h100-80gb-hbm3'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "unnamed"


def _figures(pairs: pd.DataFrame, records: pd.DataFrame, accuracies: pd.DataFrame) -> dict[str, Callable[[], Figure]]:
    drawn: dict[str, Callable[[], Figure]] = {
        "parity": lambda: plots.parity_plot(pairs),
        "roofline": lambda: plots.roofline_plot(records),
    }
    if reportplots.has_levels(pairs):
        drawn["speedup"] = lambda: reportplots.speedup_plot(pairs)
        drawn["heat"] = lambda: reportplots.heat_plot(pairs)
    for (network, pattern), rows in accuracy.shown(accuracies).groupby(["network", "pattern"], sort=True):
        name = f"accuracy-{slug(str(network))}-{slug(str(pattern))}"
        drawn[name] = lambda rows=rows: reportplots.accuracy_plot(rows)  # type: ignore[misc]
    return drawn
