"""After how many calls a conversion has paid."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sparsity_roofline as sr
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.reuse import conversion_s, reuses


def test_conversion_is_hand_worked() -> None:
    # 2:4 of a 4096 x 4096 fp16 weight: 33554432 B read, 9/16 of that written, at 3.35e12 B/s
    assert conversion_s(2 * 4096**2, 1.125 * 4096**2, 3.35e12).item() == pytest.approx(15.65e-6, rel=1e-3)
    assert conversion_s(100, 10, 10, passes=2).item() == 21
    with pytest.raises(UserError, match="at least once"):
        conversion_s(1, 1, 1, passes=0.5)


def test_a_prediction_says_when_it_pays() -> None:
    frame = sr.predict("4096x4096x16", pattern=["2:4", "dense", "unstructured"], sparsity=0.5, device="h100")
    rows = frame.set_index("pattern")
    # dense 2 * (4096^2 + 2 * 16 * 4096) B = 33.8 MB, 2:4 19.1 MB: each call saves 14.7 MB of 52.4 MB converted
    row = rows.loc["2:4"]
    dense, sparse = 2 * (4096**2 + 2 * 16 * 4096), 1.125 * 4096**2 + 4 * 16 * 4096
    assert row["stored_bytes"] == 1.125 * 4096**2
    assert row["convert_us"] == pytest.approx(3.125 * 4096**2 / 3.35e12 * 1e6)
    assert row["reuses"] == math.ceil(3.125 * 4096**2 / (dense - sparse)) == 4
    assert np.isnan(rows.loc["dense", ["convert_us", "reuses"]].to_numpy(float)).all()
    # 6 bytes a kept element at 50 %: more bytes than dense, so it never pays
    assert rows.loc["unstructured", "reuses"] == math.inf


@given(st.integers(0, 2**40), st.integers(-(2**30), 2**30))
def test_the_smallest_number_of_calls(extra: int, gain: int) -> None:
    found = reuses(float(extra), float(gain)).item()
    if gain <= 0:
        assert found == math.inf
    else:
        assert found == math.ceil(Fraction(extra, gain))
        assert found * gain >= extra
    assert np.isnan(reuses(np.nan, 1.0))


@given(st.floats(1, 1e12), st.floats(1, 1e12), st.floats(1, 1e13), st.floats(1, 10))
def test_conversion_is_never_faster_with_more_to_move(
    dense: float, stored: float, bandwidth: float, more: float
) -> None:
    base = conversion_s(dense, stored, bandwidth)
    assert conversion_s(dense * more, stored, bandwidth) >= base
    assert conversion_s(dense, stored * more, bandwidth) >= base
    assert conversion_s(dense, stored, bandwidth, passes=more) >= base
    assert conversion_s(dense, stored, bandwidth * more) <= base
