"""Agreement of two runs, hand-worked."""

from __future__ import annotations

import pandas as pd
import pytest

from sparsity_roofline.bench.evidence.repeat import repeat
from sparsity_roofline.model.errors import UserError


def run(times: list[float], **more: str) -> pd.DataFrame:
    rows = {
        "case": [f"c{i}" for i in range(len(times))],
        "kernel": "k",
        "status": "ok",
        "time_ns": times,
        "time_ci_low_ns": [0.996 * t for t in times],
        "time_ci_high_ns": [1.004 * t for t in times],
        "device": "d",
        "timer": "t",
        "regime_l2": "hot",
        "regime_clocks": "as-found",
    }
    return pd.DataFrame({**rows, **more})


def test_shares_bias_and_classes() -> None:
    found = {part.name: part for part in repeat(run([1e5, 1e5, 1e4, 1e4]), run([1e5, 1.025e5, 1e4, 1.5e4]))}
    assert found["all"].beyond == (0.5, 0.5, 0.25)
    assert found["20 us and more"].beyond == (0.5, 0.5, 0.0)
    assert found["below 20 us"].worst == pytest.approx(0.5)
    assert found["20 us and more"].bias == pytest.approx(1.025**0.5)
    assert found["all"].apart == (0.5, 0.5)


def test_intervals_apart_in_either_direction() -> None:
    (part, *_) = repeat(run([1e5, 1e5, 1e5, 1e5]), run([1.009e5, 0.98e5, 1.007e5, 1e5]))
    assert part.apart == (0.5, 0.25)


@pytest.mark.parametrize("column", ["device", "timer", "regime_l2", "regime_clocks"])
def test_other_conditions_are_refused(column: str) -> None:
    with pytest.raises(UserError, match=column):
        repeat(run([1e5]), run([1e5], **{column: "other"}))


def test_nothing_in_common_is_refused() -> None:
    with pytest.raises(UserError, match="in common"):
        repeat(run([1e5]), run([1e5]).assign(kernel="other"))
