"""Where each pattern wins: maps over density and N, and over density and machine balance."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sparsity_roofline.model.sweep import NOBODY
from sparsity_roofline.validation import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLANK = "#e8e8e8"
"""Where no pattern beats dense."""


def win_maps(
    panels: Sequence[tuple[str, str, npt.NDArray[np.float64], npt.NDArray[np.int64]]],
    densities: npt.NDArray[np.float64],
    patterns: Sequence[str],
    title: str,
) -> Figure:
    """Maps of winners side by side.

    Args:
        panels: (panel's title, label of its x axis, x values, winners of shape (density, x) as ``Sweep.winners``).
        densities: the common y axis.
        patterns: names by index.
        title: of the figure.
    """
    from matplotlib.patches import Patch

    present = sorted({int(i) for *_, winners in panels for i in np.unique(winners)})
    palette = {i: style.COLOURS[i % len(style.COLOURS)] if i >= 0 else BLANK for i in present}
    with style.look():
        fig = style.figure(4.4 * len(panels) + 2.2, 4.0)
        axes = fig.subplots(1, len(panels), squeeze=False, sharey=True)[0]
        for ax, (name, label, x, winners) in zip(axes, panels, strict=True):
            _draw(ax, x, densities, winners, palette)
            ax.set_title(name)
            ax.set_xlabel(label)
        axes[0].set_ylabel("least density that accuracy allows")
        names = {i: patterns[i] if i >= 0 else f"{NOBODY} (no gain)" for i in present}
        handles = [Patch(facecolor=palette[i], label=names[i]) for i in sorted(present, key=lambda i: (i < 0, i))]
        fig.legend(handles=handles, loc="outside right center", title="fastest pattern")
        fig.suptitle(fill(title, 110), fontsize=10)
    return fig


def _draw(
    ax: Axes,
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    winners: npt.NDArray[np.int64],
    palette: dict[int, str],
) -> None:
    from matplotlib.colors import to_rgb

    colours = np.array([[to_rgb(palette[int(i)]) for i in row] for row in winners])
    ax.pcolormesh(_edges(x), _edges(y), colours, shading="flat", rasterized=True)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ticks = [t for t in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0) if y.min() <= t <= y.max()]
    ax.set_yticks(ticks, [f"{t:g}" for t in ticks])
    ax.minorticks_off()


def _edges(centres: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Cell edges around values on a logarithmic axis."""
    logs: npt.NDArray[np.float64] = np.log(np.asarray(centres, np.float64))
    edges = np.array([logs[0] - 0.5, logs[0] + 0.5])
    if len(logs) > 1:
        middle = (logs[:-1] + logs[1:]) / 2
        edges = np.concatenate([[2 * logs[0] - middle[0]], middle, [2 * logs[-1] - middle[-1]]])
    found: npt.NDArray[np.float64] = np.exp(edges)
    return found
