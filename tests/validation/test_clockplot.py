"""The device's state over a run: what is drawn, where, and when there is nothing to draw."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sparsity_roofline.validation import clockplot, style
from sparsity_roofline.validation.clockplot import STATES, clock_plot, has_clocks, message, wall_minutes
from sparsity_roofline.validation.frame import normalise
from sparsity_roofline.validation.report import validate

from ._records import frame, record

START = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)


def run(n: int = 40, **more: Any) -> pd.DataFrame:
    """A run of ``n`` records, 3 s each, heating from 40 degrees; the last quarter is throttled."""
    rows = []
    for i in range(n):
        late = i >= 3 * n // 4
        conditions: dict[str, Any] = {
            "recorded_at": (START + timedelta(seconds=3 * i)).isoformat(timespec="milliseconds"),
            "sm_clock_mhz": 1410.0 if late else 1980.0, "temperature_c": 40.0 + i / 2, "power_w": 400.0 + 5 * i,
            "clock_state": "throttled" if late else "steady",
        }  # fmt: skip
        name = "dense" if i % 2 else "csr"
        rows.append(record(name, matrix=f"m{i}" if i % 2 == 0 else None, **{**conditions, **more}))
    return frame(*rows)


def drawn(records: pd.DataFrame) -> dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Column -> state -> points."""
    fig = clock_plot(normalise(records))
    names = [name for name, _ in clockplot.PANELS]
    return {
        name: {s: line.get_data() for s, line in zip(STATES, ax.get_lines(), strict=True)}  # type: ignore[misc]
        for name, ax in zip(names, fig.axes, strict=True)
    }


def test_every_record_is_a_point_at_its_time_in_its_state() -> None:
    points = drawn(run())
    x, y = points["sm_clock_mhz"]["throttled"]
    np.testing.assert_allclose(x, [3 * i / 60 for i in range(30, 40)])
    assert set(y) == {1410.0}
    x, y = points["temperature_c"]["steady"]
    np.testing.assert_allclose(y, [40 + i / 2 for i in range(30)])
    assert len(points["power_w"]["steady"][0]) == 30
    assert len(points["power_w"]["unknown"][0]) == 0


def test_a_missing_figure_is_no_point_and_no_zero() -> None:
    points = drawn(run(power_w=None))
    assert all(len(x) == 0 for x, _ in points["power_w"].values())
    fig = clock_plot(normalise(run(power_w=None)))
    assert [t.get_text() for t in fig.axes[2].texts] == ["not recorded"]


def test_a_record_without_a_time_of_day_is_left_out() -> None:
    records = run()
    records.loc[3, "recorded_at"] = ""
    minutes = wall_minutes(records)
    assert np.isnan(minutes[3])
    assert minutes[4] == pytest.approx(0.2)
    assert sum(len(x) for x, _ in drawn(records)["power_w"].values()) == 39


def test_seconds_and_milliseconds_may_be_mixed() -> None:
    times = pd.DataFrame({"recorded_at": ["2026-11-22T18:00:00+00:00", "2026-11-22T18:01:30.500+00:00"]})
    assert wall_minutes(times).tolist() == [0.0, pytest.approx(1.508333, abs=1e-6)]


def test_records_of_an_earlier_version_have_no_such_plot() -> None:
    old = normalise(frame(record("dense", sm_clock_mhz=1980.0), record("csr", sm_clock_mhz=1980.0)))
    assert not has_clocks(old)
    assert not has_clocks(normalise(run()).drop(columns=["temperature_c", "power_w"]))
    assert not has_clocks(normalise(run(recorded_at="")))
    assert has_clocks(normalise(run()))


def test_without_a_single_record() -> None:
    empty = normalise(run()).iloc[:0]
    assert not has_clocks(empty)
    clock_plot(empty)


@pytest.mark.filterwarnings("error")
def test_one_record(tmp_path: Path) -> None:
    made = style.save(clock_plot(normalise(run(1))), tmp_path / "one.png")
    assert made.stat().st_size > 0


def test_validate_writes_it_where_the_columns_are_there(tmp_path: Path) -> None:
    with_them = validate(run(), tmp_path / "new", resamples=10)
    without = validate(frame(record("dense"), record("csr")), tmp_path / "old", resamples=10)
    names = {p.name for p in with_them.written} - {p.name for p in without.written}
    assert names == {"clocks.png", "clocks.svg"}
    assert sum("Clocks were not steady for 10 of 40 timed records (10 throttled)" in m for m in with_them.messages) == 1
    assert not any("Clocks" in m for m in without.messages)


def test_steady_runs_are_not_mentioned() -> None:
    assert message(normalise(run(clock_state="steady"))) == ""
    assert message(normalise(run(clock_state="unknown"))) == ""
