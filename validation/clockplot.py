"""SM clock, temperature and power over the wall time of a run: what the device went through while it was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sparsity_roofline.validation import style
from sparsity_roofline.validation.plots import MANY

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANELS = (
    ("sm_clock_mhz", "SM clock, MHz"),
    ("temperature_c", "temperature, °C"),
    ("power_w", "power, W"),
)
"""Columns drawn, top to bottom."""

STATES = {"steady": "#0072B2", "drifting": "#E69F00", "throttled": "#D55E00", "unknown": "#777777"}


def has_clocks(records: pd.DataFrame) -> bool:
    """Do the records say when they were taken, and the clock, temperature or power of any?

    ``sm_clock_mhz`` alone does not count: records had it before they had the rest.
    """
    needed = [name for name, _ in PANELS if name != "sm_clock_mhz" and name in records.columns]
    if not needed or "recorded_at" not in records.columns:
        return False
    return bool(records[needed].notna().any(axis=None) and wall_minutes(records).notna().any())


def wall_minutes(records: pd.DataFrame) -> pd.Series[float]:
    """Minutes since the first record; NaN where a record does not say when."""
    times = pd.to_datetime(records["recorded_at"], format="ISO8601", utc=True, errors="coerce")
    return pd.Series((times - times.min()).dt.total_seconds() / 60, index=records.index)


def clock_plot(records: pd.DataFrame) -> Figure:
    """Three panels over one time axis, a point per timed or refused record, coloured by ``clock_state``.

    The clock is the timer's reading under load, temperature and power are those right after the samples. Several
    devices or runs in one table are drawn as they come, each from the first record of all.

    Args:
        records: normalised records (``frame.normalise``).
    """
    with style.look():
        fig = style.figure(9.2, 6.2)
        axes = list(fig.subplots(len(PANELS), 1, sharex=True))
        minutes = wall_minutes(records) if len(records) else pd.Series(dtype=float)
        states = records["clock_state"].where(records["clock_state"].isin(list(STATES)), "unknown")
        for ax, (column, label) in zip(axes, PANELS, strict=True):
            values = pd.to_numeric(records[column], errors="coerce")
            there = values.notna() & minutes.notna()
            for state, colour in STATES.items():
                at = there & (states == state)
                ax.plot(minutes[at], values[at], linestyle="none", marker="o", markersize=2.6, color=colour, alpha=0.75,
                        markeredgewidth=0, rasterized=bool(there.sum() > MANY))  # fmt: skip
            if not there.any():
                ax.text(0.5, 0.5, "not recorded", ha="center", va="center", transform=ax.transAxes, color="#777777")
            ax.set_ylabel(label)
            ax.grid(True)
            _frame(ax, values[there])
        axes[-1].set_xlabel("wall time since the first record, minutes")
        _legend(fig, states[minutes.notna()])
        fig.suptitle(_title(records, minutes), fontsize=10.5, x=0.01, ha="left")
        return fig


def _frame(ax: Any, values: pd.Series[float]) -> None:
    """A range of at least 5 %, so that the device's own steps do not look like a storm."""
    if values.empty:
        return
    low, high = float(values.min()), float(values.max())
    room = max(0.06 * (high - low), 0.025 * high, 1e-9)
    ax.set_ylim(low - room, high + room)


def _legend(fig: Figure, states: pd.Series[Any]) -> None:
    from matplotlib.lines import Line2D

    counts = states.value_counts()
    entries = [
        Line2D([], [], linestyle="none", marker="o", markersize=5, color=colour, label=f"{state} ({counts[state]})")
        for state, colour in STATES.items()
        if state in counts
    ]
    if entries:
        fig.legend(handles=entries, loc="outside right upper", title="clock state (records)", handletextpad=0.3)


def _title(records: pd.DataFrame, minutes: pd.Series[float]) -> str:
    devices = sorted({str(d) for d in records["device"]} - {""})
    name = devices[0] if len(devices) == 1 else f"{len(devices)} devices"
    clocks = sorted({str(c) for c in records["regime_clocks"]} - {""})
    span = float(np.nanmax(minutes)) if minutes.notna().any() else 0.0
    return (
        f"Clock, temperature and power over the run\n{name}, {len(records)} records in {span:.1f} minutes, "
        f"clocks {', '.join(clocks) or 'not said'}"
    )


def message(records: pd.DataFrame) -> str:
    """A line on times that were not taken at a steady clock, '' if there are none."""
    timed = records[(records["status"] == "ok") & records["clock_state"].isin(["drifting", "throttled"])]
    if timed.empty:
        return ""
    labelled = int(((records["status"] == "ok") & (records["clock_state"] != "")).sum())
    words = ", ".join(f"{n} {state}" for state, n in timed["clock_state"].value_counts().items())
    return f"Clocks were not steady for {len(timed)} of {labelled} timed records ({words}); see the column clock_state."
