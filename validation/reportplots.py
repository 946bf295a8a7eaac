"""Figures that only a report has: speedup and fraction over sparsity, parity by level, accuracy over speedup.

Each takes tables, returns a matplotlib figure and draws nothing on screen. Kernels differ by colour and line, formats
by marker, predictions by dashes, so that they can be told apart in print.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sparsity_roofline.validation import style
from sparsity_roofline.validation.equality import LEVELS
from sparsity_roofline.validation.errors import bias
from sparsity_roofline.validation.summary import add_strata, headline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WITHIN = (1 / 1.1, 1 / 0.9)


def has_levels(pairs: pd.DataFrame) -> bool:
    """Whether some kernel was measured at two sparsities above the launch floor: else there is no line to draw."""
    levels = add_strata(headline(pairs))[["kernel", "dtype", "block", "level"]].drop_duplicates()
    return bool(levels.duplicated(["kernel", "dtype", "block"]).any())


def speedup_plot(pairs: pd.DataFrame) -> Figure:
    """Speedup against sparsity, a panel per format, block and dtype: measured lines, the prediction dashed.

    Geometric means over the layers above the launch floor; predicted and measured are of the same layers.
    """
    table = add_strata(headline(pairs))
    table["panel"] = (table["format"] + " " + table["block"]).str.strip() + ", " + table["dtype"]
    table = table[table.groupby(["panel", "kernel"])["level"].transform("nunique") > 1]
    panels = sorted(table["panel"].unique())
    with style.look():
        fig, axes = _grid(panels, 3.0, 2.7)
        shade = style.colours(table["kernel"]) if len(table) else {}
        for ax, name in zip(axes, panels, strict=True):
            rows = table[table["panel"] == name]
            for kernel, mine in rows.groupby("kernel", sort=True):
                lines = mine.groupby("level")[["predicted_speedup", "measured_speedup"]].agg(_geomean)
                marker = style.MARKERS.get(str(mine["format"].iloc[0]), style.OTHER_MARKER)
                dash = ("-", "-.", ":")[sorted(rows["kernel"].unique()).index(kernel) % 3]
                ax.plot(lines.index, lines["predicted_speedup"], color="#222222", linewidth=1.0, linestyle=(0, (5, 3)))
                ax.plot(lines.index, lines["measured_speedup"], dash, color=shade[str(kernel)], marker=marker,
                        markersize=4, linewidth=1.3, label=str(kernel))  # fmt: skip
            _log(ax.yaxis, ax)
            ax.axhline(1.0, color="#999999", linewidth=0.8)
            ax.set_title(f"{name}: {len(rows)} pairs", fontsize=9)
            ax.legend(fontsize=7, handlelength=2.2)
        _outer(axes, "sparsity", "speedup over dense")
        _title(fig, pairs, "Measured speedup against sparsity; dashed: predicted")
        return fig


def heat_plot(pairs: pd.DataFrame) -> Figure:
    """Fraction of the speed of light of the sparse side against N and sparsity, a panel per kernel and dtype."""
    table = add_strata(headline(pairs))
    table["panel"] = table["kernel"] + ", " + table["dtype"]
    table["bin"] = np.floor(np.log2(table["N"].clip(lower=1)) / 2).astype(int)
    table = table[table.groupby("panel")["level"].transform("nunique") > 1]
    panels = sorted(table["panel"].unique())
    with style.look():
        fig, axes = _grid(panels, 3.1, 2.2)
        for ax, name in zip(axes, panels, strict=True):
            cells = table[table["panel"] == name].pivot_table("f_sparse", "bin", "level", aggfunc=_geomean)
            image = ax.imshow(cells.to_numpy(), cmap="cividis", vmin=0, vmax=1, aspect="auto", origin="lower")
            for (i, j), value in np.ndenumerate(cells.to_numpy()):
                if value == value:
                    ax.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=7,
                            color="black" if value > 0.55 else "white")  # fmt: skip
            ax.set_xticks(range(cells.shape[1]), [f"{level:g}" for level in cells.columns], fontsize=7)
            ax.set_yticks(range(cells.shape[0]), [f"{4**b:,} to {4 ** (b + 1) - 1:,}" for b in cells.index], fontsize=7)
            ax.set_title(name, fontsize=9)
            ax.set_xlabel("sparsity")
        if panels:
            axes[0].set_ylabel("N")
            fig.colorbar(image, ax=axes, shrink=0.6, label="fraction of SoL, geometric mean")
        _title(fig, pairs, "Fraction of the speed of light of the sparse kernels")
        return fig


def equality_plot(table: pd.DataFrame) -> Figure:
    """Parity by format and level of optimisation: 10 to 90 % of the pairs, the median, the mean with its interval.

    Args:
        table: of ``equality.equality``, with ``run``.
    """
    many = "run" in table and len(table["run"].unique()) > 1
    names = table["format"] + ", " + table["run"] if many else table["format"]
    keys = sorted({(str(n), str(v)) for n, v in zip(names, table["level"], strict=True)},
                  key=lambda k: (k[0], -LEVELS.index(k[1])))  # fmt: skip
    with style.look():
        fig = style.figure(7.0, 1.5 + 0.36 * max(len(keys), 1))
        ax = fig.subplots()
        ax.axvspan(*_WITHIN, color="#e4e4e4", linewidth=0, label="error below 10 %")
        ax.axvline(1.0, color="#222222", linewidth=0.8)
        for row, name in zip(table.to_dict("records"), names, strict=True):
            y = keys.index((str(name), str(row["level"])))
            ax.plot([row["parity_p10"], row["parity_p90"]], [y, y], color="#444444", linewidth=1.0)
            ax.plot([row["parity_low"], row["parity_high"]], [y, y], color=style.COLOURS[0], linewidth=6, alpha=0.45)
            ax.plot(row["parity_p50"], y, "o", color="#111111", markersize=4.5)
        ax.set_yticks(range(len(keys)), [f"{name}: {level}" for name, level in keys])
        ax.set_ylim(-0.6, max(len(keys), 1) - 0.4)
        _log(ax.xaxis, ax)
        ax.set_xlabel("parity (line: 10 to 90 % of the pairs)")
        what = "Point: median; thick: geometric mean, 95 % interval; grey: error below 10 %"
        fig.suptitle(f"How equal is equally optimised?\n{what}", fontsize=10, x=0.01, ha="left")
        return fig


def accuracy_plot(table: pd.DataFrame) -> Figure:
    """Sparsity Roofline of one network and pattern: accuracy against predicted (hollow) and measured (filled) speedup.

    Args:
        table: rows of ``accuracy.accuracy_speedup`` of one device, run, network and pattern.
    """
    parts = list(table.groupby(["dtype", "batch", "tokens"], sort=True, dropna=False))
    with style.look():
        fig = style.figure(3.1 * max(len(parts), 1) + 0.4, 3.3)
        axes = fig.subplots(1, max(len(parts), 1), squeeze=False, sharey=True)[0]
        for ax, ((dtype, batch, tokens), rows) in zip(axes, parts, strict=False):
            for which, face, dash in (("predicted", "none", "--"), ("measured", style.COLOURS[1], "-")):
                front = rows[rows[f"{which}_front"]].sort_values("accuracy")
                ax.plot(front[f"{which}_speedup"], front["accuracy"], dash, color="#444444", linewidth=0.9)
                ax.scatter(rows[f"{which}_speedup"], rows["accuracy"], facecolors=face, edgecolors="#222222", s=26,
                           linewidths=0.8, zorder=4, label=which)  # fmt: skip
            for row in rows.to_dict("records"):
                ax.annotate(f"{row['level']:g}", (row["measured_speedup"], row["accuracy"]), xytext=(4, -9),
                            textcoords="offset points", fontsize=7)  # fmt: skip
            _log(ax.xaxis, ax)
            ax.axvline(1.0, color="#999999", linewidth=0.8)
            where = f"{tokens:.0f} tokens" if tokens == tokens else f"batch {batch:.0f}"
            ax.set_title(f"{dtype}, {where}", fontsize=9)
            ax.set_xlabel("speedup of the prunable layers")
        axes[0].set_ylabel(str(table["metric"].iloc[0]) or "accuracy")
        axes[-1].legend()
        first = table.iloc[0]
        what = f"{first['network']}, {first['pattern']} ({first['method']}), {first['device']}"
        fig.suptitle(f"{what}: lines are Pareto fronts", fontsize=10, x=0.01, ha="left")
        return fig


def _grid(panels: Sequence[str], width: float, height: float) -> tuple[Figure, list[Axes]]:
    columns = min(max(len(panels), 1), 4)
    rows = -(-max(len(panels), 1) // columns)
    fig = style.figure(width * columns + 0.6, height * rows + 0.5)
    axes = list(fig.subplots(rows, columns, squeeze=False).flat)
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    if not panels:
        axes[0].text(0.5, 0.5, "Nothing to show", ha="center", transform=axes[0].transAxes)
    return fig, axes[: len(panels)]


def _outer(axes: list[Axes], x: str, y: str) -> None:
    for ax in axes:
        ax.set_xlabel(x)
        ax.grid(True)
    for ax in axes[::4]:
        ax.set_ylabel(y)


def _log(axis: Any, ax: Axes) -> None:
    from sparsity_roofline.validation.plots import plain_log

    (ax.set_yscale if axis is ax.yaxis else ax.set_xscale)("log")
    plain_log(axis)


def _geomean(values: pd.Series[float]) -> float:
    return bias(np.log(values.to_numpy(np.float64)))


def _title(fig: Figure, pairs: pd.DataFrame, what: str) -> None:
    device = ", ".join(sorted({str(v) for v in pairs["device"]}))
    fig.suptitle(f"{what}. {device}; pairs above the launch floor", fontsize=10.5, x=0.01, ha="left")
