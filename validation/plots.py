"""Figures of a validation: parity, roofline, fraction of the speed of light over sparsity.

Each function takes the joined pairs (the roofline: the records), returns a matplotlib figure and draws nothing on
screen; ``style.save`` writes it. All work without a single row and then say so in the figure.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sparsity_roofline.validation import style
from sparsity_roofline.validation.roofs import Roofs, roofs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_UNIT_WORDS = {"tensor": "tensor cores", "cuda": "CUDA cores", "cpu": "CPU"}
_MAX_FACETS = 4
_ROOF_LINES: dict[str, dict[str, Any]] = {
    "datasheet": {"color": "#222222", "linewidth": 1.1, "linestyle": "-", "zorder": 2},
    "measured": {"color": "#666666", "linewidth": 1.0, "linestyle": (0, (4, 2)), "zorder": 2},
}

MANY = 1500
"""Points beyond which an SVG holds them as an image: thousands of vector marks make a file of megabytes that draws
slowly. Axes, text and lines stay vectors."""


def _crowded_parity(pairs: pd.DataFrame, colour_by: str) -> Figure:
    """Measured against predicted speedup, one panel per format and dtype; pairs below the launch floor are left out."""
    words = {"kernel": "kernel", "bounds": "bound: dense > sparse"}
    below = pairs["below_floor"].astype(bool)
    kept = pairs[~below] if (~below).any() else pairs
    facets = [(form, dtype, part) for (form, dtype), part in kept.groupby(["format", "dtype"], sort=True)]
    columns = kept["format"].nunique()
    rows = -(-len(facets) // columns)
    fig = style.figure(3.4 * columns + 1.6, 3.7 * rows + 0.4)
    shade = style.colours(kept[colour_by].astype(str))
    panels = fig.subplots(rows, columns, squeeze=False)
    order = sorted(facets, key=lambda facet: (facet[1], facet[0]))
    for ax in panels.flat[len(order) :]:
        ax.set_axis_off()
    for ax, (form, dtype, part) in zip(panels.flat, order, strict=False):
        _scatter(ax, part, "predicted_speedup", "measured_speedup", shade, colour_by, size=13, alpha=0.6)
        _speedup_axes(ax, kept)
        ax.set_title(f"{form}, {dtype}: {len(part)} pairs", fontsize=9.5)
        ax.label_outer()
    _legend(fig, kept, shade, colour_by, words.get(colour_by, colour_by))
    left = f"; {len(pairs) - len(kept)} pairs below the launch floor not drawn" if len(kept) < len(pairs) else ""
    title = _title(pairs, f"Predicted and measured speedup over dense{left}")
    fig.suptitle(title, fontsize=10.5, x=0.01, ha="left")
    return fig


def parity_plot(pairs: pd.DataFrame, *, colour_by: str = "kernel") -> Figure:
    """Measured against predicted speedup with y = x and 2x lines, and beside it parity against the size of the case.

    Args:
        pairs: from ``join``.
        colour_by: ``kernel`` or ``bounds`` (dense > sparse bound).
    """
    with style.look():
        table = pairs.assign(bounds=pairs["bound_dense"] + " > " + pairs["bound_sparse"])
        if len(table) > MANY:
            return _crowded_parity(table, colour_by)
        fig = style.figure(10.4, 4.9)
        left, right = fig.subplots(1, 2, width_ratios=(1.0, 1.0))
        if pairs.empty:
            return _nothing(fig, [left, right], "no pair of a sparse and a dense time")
        shade = style.colours(table[colour_by].astype(str))
        _scatter(left, table, "predicted_speedup", "measured_speedup", shade, colour_by)
        left.vlines(table["predicted_speedup"], table["measured_speedup_low"], table["measured_speedup_high"],
                    colors=[shade[str(v)] for v in table[colour_by]], linewidths=0.7, alpha=0.6, zorder=3,
                    rasterized=len(table) > MANY)  # fmt: skip
        _speedup_axes(left, table)
        size = table.assign(gflop=2.0 * table["M"] * table["K"] * table["N"] / 1e9)
        _scatter(right, size, "gflop", "parity", shade, colour_by)
        _parity_axes(right, size["parity"])
        right.set_xlabel("dense operations of the case, GFLOP")
        words = {"kernel": "kernel", "bounds": "bound: dense > sparse"}
        _legend(fig, table, shade, colour_by, words.get(colour_by, colour_by))
        fig.suptitle(_title(pairs, "Predicted and measured speedup over dense"), fontsize=10.5, x=0.01, ha="left")
        return fig


def roofline_plot(records: pd.DataFrame, *, preset: str = "paper") -> Figure:
    """Achieved operation rate against arithmetic intensity, one panel per dtype, under the ceilings of the records.

    Data-sheet roofs are solid, measured ones dashed. Operations and bytes are those of ``preset``.

    Args:
        records: normalised records with ceilings (``frame.normalise``, ``frame.add_ceilings``).
        preset: cost preset of the x axis.
    """
    with style.look():
        ok = records[(records["status"] == "ok") & (records["time_ns"] > 0) & (records[f"bytes_{preset}"] > 0)]
        ok = ok[ok[f"flops_{preset}"] > 0]
        names = list(ok["dtype"].value_counts().index[:_MAX_FACETS])
        count = max(len(names), 1)
        fig = style.figure(2.0 + 4.3 * count if count > 1 else 7.6, 4.9)
        axes = list(fig.subplots(1, count, squeeze=False)[0])
        if ok.empty:
            return _nothing(fig, axes, "no timed record")
        table = ok.assign(
            intensity=ok[f"flops_{preset}"] / ok[f"bytes_{preset}"], rate=ok[f"flops_{preset}"] / ok["time_ns"] * 1e9
        )
        shade = style.colours(table.loc[table["format"] != "dense", "kernel"])
        shade |= dict.fromkeys(sorted(set(table.loc[table["format"] == "dense", "kernel"])), style.DENSE_COLOUR)
        known = roofs(ok)
        for ax, name in zip(axes, names, strict=True):
            rows = table[table["dtype"] == name]
            _scatter(ax, rows, "intensity", "rate", shade, "kernel")
            _draw_roofs(ax, [roof for roof in known if roof.dtype == name], rows)
            ax.set_title(name, loc="left", fontweight="bold")
            ax.set_xlabel(f"arithmetic intensity, FLOP/B ({preset} costs)")
        axes[0].set_ylabel("achieved rate, FLOP/s")
        _legend(fig, table, shade, "kernel", "kernel", roofs={roof.kind for roof in known})
        what = f"Roofline of {_one(ok['device'])}\ntimer {_one(ok['timer'])}, L2 {_one(ok['regime_l2'])}"
        fig.suptitle(what, fontsize=10.5, x=0.01, ha="left")
        return fig


def fraction_plot(pairs: pd.DataFrame) -> Figure:
    """Fraction of the speed of light against sparsity: points per case, a line through each kernel's geometric means.

    The dashed line is the geometric mean of the dense partners: parity is the distance of a kernel's line from it.
    """
    with style.look():
        fig = style.figure(7.6, 4.6)
        ax = fig.subplots()
        if pairs.empty:
            return _nothing(fig, [ax], "no pair of a sparse and a dense time")
        shade = style.colours(pairs["kernel"])
        for kernel, rows in pairs.groupby("kernel", sort=True):
            level = rows["target_sparsity"].fillna(rows["sparsity"]).round(4)
            means = np.exp(np.log(rows["f_sparse"]).groupby(level).mean())
            ax.plot(means.index, means.to_numpy(), color=shade[str(kernel)], linewidth=1.6, zorder=3)
        _scatter(ax, pairs, "sparsity", "f_sparse", shade, "kernel", size=14, alpha=0.35, ring="violation_sparse")
        dense = pairs.drop_duplicates("dense_record")
        mean = float(np.exp(np.log(dense["f_dense"]).mean()))
        ax.axhline(mean, color=style.DENSE_COLOUR, linewidth=1.1, linestyle=(0, (5, 3)))
        ax.annotate(f"dense ({_one(pairs['dense_kernel'])}): {mean:.2g}", (0, mean), xycoords=("axes fraction", "data"),
                    xytext=(3, 3), textcoords="offset points", fontsize=8, color=style.DENSE_COLOUR)  # fmt: skip
        ax.axhline(1.0, color="#888888", linewidth=0.8)
        ax.set_yscale("log")
        plain_log(ax.yaxis)
        ax.grid(True)
        ax.set_xlabel("sparsity")
        ax.set_ylabel(f"fraction of the speed of light ({pairs['preset'].iloc[0]} costs)")
        _legend(fig, pairs.assign(violation=pairs["violation_sparse"]), shade, "kernel", "kernel")
        fig.suptitle(_title(pairs, "Fraction of the speed of light"), fontsize=10.5, x=0.01, ha="left")
        return fig


def _scatter(
    ax: Axes, rows: pd.DataFrame, x: str, y: str, shade: dict[str, str], colour_by: str, size: float = 24,
    alpha: float = 0.75, ring: str = "violation",
) -> None:  # fmt: skip
    """Colour by ``colour_by``, marker by format, hollow below the launch floor, ringed where the bound is beaten."""
    below = rows["below_floor"].astype(bool) if "below_floor" in rows else pd.Series(False, index=rows.index)
    for (value, form), group in rows.groupby([colour_by, "format"], sort=True):
        colour, marker = shade[str(value)], style.MARKERS.get(str(form), style.OTHER_MARKER)
        for hollow in (False, True):
            part = group[below[group.index] == hollow]
            ax.scatter(part[x], part[y], s=size, marker=marker, linewidths=0.8 if hollow else 0.4, zorder=4,
                       alpha=alpha, facecolors="none" if hollow else colour,
                       edgecolors=colour if hollow else "white", rasterized=len(rows) > MANY)  # fmt: skip
    if ring in rows:
        bad = rows[rows[ring].astype(bool)]
        ax.scatter(bad[x], bad[y], s=size * 2.6, marker="o", facecolors="none", edgecolors="#C00000", linewidths=0.9,
                   zorder=5)  # fmt: skip


def _speedup_axes(ax: Axes, table: pd.DataFrame) -> None:
    """A decade is as long on both axes, so that y = x is a diagonal; break-even lines; the 2x band."""
    (x0, x1), (y0, y1) = (_decades(table[name]) for name in ("predicted_speedup", "measured_speedup"))
    # Equal decades make a narrow strip of a wide range of measured speedups: widen the shorter axis to 3/4 of it.
    x_pad, y_pad = (max(0.0, 0.75 * other - own) / 2 for other, own in ((y1 - y0, x1 - x0), (x1 - x0, y1 - y0)))
    x0, x1, y0, y1 = x0 - x_pad, x1 + x_pad, y0 - y_pad, y1 + y_pad
    ax.set(xscale="log", yscale="log", xlim=(10**x0, 10**x1), ylim=(10**y0, 10**y1))
    line = 10 ** np.array([x0 - 1, x1 + 1])
    ax.fill_between(line, line / 2, line * 2, color="#f1f1f1", linewidth=0, zorder=0)
    ax.plot(line, line, color="#222222", linewidth=1.1, zorder=2)
    for factor in (0.5, 2.0):
        ax.plot(line, factor * line, color="#888888", linewidth=0.8, linestyle=(0, (4, 3)), zorder=2)
    for draw in (ax.axhline, ax.axvline):
        draw(1.0, color="#aaaaaa", linewidth=0.8, zorder=1)
    ax.set_aspect("equal")
    for axis in (ax.xaxis, ax.yaxis):
        plain_log(axis)
    for factor, text in ((1.0, "y = x"), (2.0, "2x"), (0.5, "x/2")):
        low, high = max(x0, y0 - np.log10(factor)), min(x1, y1 - np.log10(factor))
        if high > low:
            x = 10 ** (low + 0.09 * (high - low))
            ax.annotate(text, (x, x * factor), ha="center", va="center", fontsize=8, color="#444444", rotation=45,
                        bbox=_behind(1.0), zorder=3)  # fmt: skip
    ax.set_xlabel("predicted speedup (SoL dense / SoL sparse)")
    ax.set_ylabel("measured speedup (T dense / T sparse)")


def _decades(values: pd.Series[float]) -> tuple[float, float]:
    """Range of log10, with 1 in it and a margin."""
    logs = np.log10(np.append(values.to_numpy(np.float64), 1.0))
    return float(logs.min()) - 0.13, float(logs.max()) + 0.13


def _parity_axes(ax: Axes, parity: pd.Series[float]) -> None:
    ax.set(xscale="log", yscale="log")
    low, high = min(float(parity.min()), 0.5) / 1.3, max(float(parity.max()), 2.0) * 1.3
    ax.set_ylim(low, high)
    ax.axhspan(0.5, 2.0, color="#f1f1f1", linewidth=0, zorder=0)
    ax.axhline(1.0, color="#222222", linewidth=1.1, zorder=2)
    for y in (0.5, 2.0):
        ax.axhline(y, color="#888888", linewidth=0.8, linestyle=(0, (4, 3)), zorder=2)
    for axis in (ax.xaxis, ax.yaxis):
        plain_log(axis)
    ax.grid(True)
    ax.set_ylabel("parity (f sparse / f dense = measured / predicted)")


def _draw_roofs(ax: Axes, found: list[Roofs], rows: pd.DataFrame) -> None:
    """Bandwidth slope and one plateau per unit; text on the line says which."""
    from matplotlib.ticker import FuncFormatter

    ax.set(xscale="log", yscale="log")
    tops = [peak for roof in found for peak in roof.peaks.values()]
    ridge = [peak / roof.bandwidth for roof in found for peak in roof.peaks.values() if roof.bandwidth > 0]
    low_x, high_x = (float(f([rows["intensity"].min(), rows["intensity"].max(), *ridge])) for f in (min, max))
    low_x, high_x = low_x / 2.5, high_x * 5
    x = np.geomspace(low_x, high_x, 400)
    low_y = float(rows["rate"].min()) / 2.5
    high_y = max([float(rows["rate"].max()), *tops]) * 2.2
    ax.set(xlim=(low_x, high_x), ylim=(low_y, high_y))
    plain_log(ax.xaxis)
    plain_log(ax.yaxis)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: _rate(v).strip()))
    for roof in found:
        style_of = _ROOF_LINES[roof.kind]
        if not roof.peaks:
            ax.plot(x, roof.bandwidth * x, **style_of)
        for unit in roof.peaks:
            ax.plot(x, roof.attainable(x, unit), **style_of)
    for unit in sorted({unit for roof in found for unit in roof.peaks}):
        both = [(roof.peaks[unit], roof.kind) for roof in found if unit in roof.peaks]
        text = f"{_UNIT_WORDS.get(unit, unit)}: " + ", ".join(f"{_rate(p)}FLOP/s {kind}" for p, kind in both)
        ax.annotate(text, (high_x, max(both)[0]), xytext=(-2, 2), textcoords="offset points", ha="right", va="bottom",
                    fontsize=7.5, color="#222222", bbox=_behind(0.6), zorder=3)  # fmt: skip
    slopes = [f"{_rate(roof.bandwidth)}B/s {roof.kind}" for roof in found if roof.bandwidth > 0]
    if slopes:
        ax.text(0.02, 0.99, "DRAM: " + ", ".join(slopes), transform=ax.transAxes, va="top", fontsize=7.5,
                color="#222222")  # fmt: skip
    ax.grid(True)


def _behind(pad: float) -> dict[str, Any]:
    """A white ground that keeps text on a line readable."""
    return {"facecolor": "white", "edgecolor": "none", "pad": pad, "alpha": 0.85}


def _legend(
    fig: Figure, rows: pd.DataFrame, shade: dict[str, str], colour_by: str, title: str,
    roofs: Collection[str] = (),
) -> None:  # fmt: skip
    """Outside on the right: a swatch per colour, a marker per format, and what hollow and ringed mean if they occur."""
    from matplotlib.lines import Line2D

    def entry(label: str, **kind: Any) -> Line2D:
        return Line2D([], [], linestyle="none", label=label, markersize=6.5, **kind)

    forms = rows.groupby(colour_by)["format"].agg(lambda f: sorted(set(f)))
    present = [name for name in shade if name in forms.index]
    marker = {name: style.MARKERS.get(forms[name][0], style.OTHER_MARKER) if len(forms[name]) == 1 else "o"
              for name in present}  # fmt: skip
    heading: dict[str, Any] = {"marker": "", "color": "none"}
    entries = [entry(title, **heading)]
    entries += [entry(n, marker=marker[n], color=shade[n], markeredgecolor="white") for n in present]
    if any(len(forms[name]) > 1 for name in present):
        entries += [entry("", **heading), entry("format", **heading)]
        entries += [
            entry(form, marker=style.MARKERS.get(form, style.OTHER_MARKER), color="#777777", markeredgecolor="white")
            for form in sorted(set(rows["format"]))
        ]
    if "below_floor" in rows and rows["below_floor"].any():
        entries.append(entry("below launch floor", marker="o", color="none", markeredgecolor="#555555"))
    if "violation" in rows and rows["violation"].any():
        entries.append(entry("beats the bound", marker="o", color="none", markeredgecolor="#C00000"))
    if roofs:
        entries += [entry("", **heading), entry("ceilings", **heading)]
        entries += [Line2D([], [], label=kind, **_ROOF_LINES[kind]) for kind in _ROOF_LINES if kind in roofs]
    made = fig.legend(handles=entries, loc="outside right upper", handletextpad=0.3, labelspacing=0.35)
    for text in made.get_texts():
        if text.get_text() in (title, "format", "ceilings"):
            text.set_fontweight("bold")


def _title(pairs: pd.DataFrame, what: str) -> str:
    made = ", synthetic weights" if pairs["synthetic"].all() else ""
    return (
        f"{what}\n{_one(pairs['device'])}, {_one(pairs['dtype'])}, {_one(pairs['preset'])} costs, "
        f"{_one(pairs['ceilings'])} ceilings, L2 {_one(pairs['regime_l2'])}{made}"
    )


def _one(values: pd.Series[Any]) -> str:
    names = sorted({str(v) for v in values} - {""})
    return " / ".join(names) if len(names) <= 3 else f"{len(names)} kinds"


def _rate(value: float) -> str:
    for scale, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= scale:
            return f"{value / scale:.3g} {prefix}"
    return f"{value:.3g} "


def plain_log(axis: Any) -> None:
    """Ticks at 1, 2, 5 per decade in plain numbers when few decades are shown, decades alone otherwise."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = sorted(axis.get_view_interval())
    decades = np.log10(high / low) if low > 0 else 9.0
    axis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0) if decades < 2.6 else (1.0,)))
    axis.set_minor_locator(LogLocator(base=10, subs=tuple(float(i) for i in range(2, 10))))
    axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}" if 1e-4 <= v < 1e5 else f"{v:.0e}"))
    axis.set_minor_formatter(NullFormatter())


def _nothing(fig: Figure, axes: list[Axes], why: str) -> Figure:
    for ax in axes:
        ax.set_axis_off()
    axes[0].text(0.5, 0.5, f"Nothing to show: {why}", ha="center", va="center", transform=axes[0].transAxes)
    return fig
