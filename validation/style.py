"""One look for all figures: colours that colour-blind readers tell apart, a marker per format, bytes that repeat."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's palette without its yellow (too faint on white), then Tol's muted colours for further kernels.
COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#332288", "#882255", "#999933", "#44AA99",
    "#661100", "#6699CC",
)  # fmt: skip
DENSE_COLOUR = "#333333"
MARKERS = {"dense": "D", "csr": "o", "bsr": "s", "nm": "^"}
OTHER_MARKER = "P"

_RC: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.labelsize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "grid.linewidth": 0.5,
    "grid.color": "#e6e6e6",
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "figure.dpi": 100.0,
    "savefig.dpi": 200.0,
    "text.parse_math": False,  # a name may hold a dollar sign
    "svg.hashsalt": "sparsity-roofline",
    "svg.fonttype": "path",
}


@contextmanager
def look() -> Iterator[None]:
    """matplotlib's defaults with this look, whatever the user's own configuration says."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        for key, value in _RC.items():
            mpl.rcParams[key] = value  # type: ignore[index]
        yield


def figure(width: float, height: float) -> Figure:
    """A figure that draws to files only: no window, no state shared with the caller's own plots."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(made)
    return made


def save(fig: Figure, path: Path) -> Path:
    """Write PNG or SVG by suffix; the same figure gives the same bytes (no date, no version, salted ids)."""
    metadata = {"Date": None, "Creator": None} if path.suffix == ".svg" else {"Software": None}
    with look():  # the salt of the ids is read while writing
        fig.savefig(path, metadata=metadata)
    return path


def colours(names: Iterable[str]) -> dict[str, str]:
    """A colour for each name, by sorted order; they repeat beyond twelve, where the marker still tells them apart."""
    return {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(sorted(set(names)))}
