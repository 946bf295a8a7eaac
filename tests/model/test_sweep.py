"""Which pattern wins where."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsity_roofline.model import hardware
from sparsity_roofline.model.declared import Declared, find
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.sweep import at_balance, sweep

H100 = hardware.datasheet("h100")
PATTERNS = [find(name) for name in ("unstructured on CUDA cores", "2:4", "block32")]


def test_a_sweep_is_hand_worked() -> None:
    found = sweep(
        [find("2:4"), find("1:4"), find("block32+2:4")], (4096, 4096), [0.2, 0.4, 0.6], [1, 8192], "fp16", H100
    )
    # 2:4 takes part where it keeps enough, and gains the same everywhere; 1:4 keeps enough at 0.2 only
    assert found.speedup[0, :2, 1] == pytest.approx([2, 2])
    assert np.isnan(found.speedup[0, 2]).all()
    assert found.speedup[1, 0, 1] == pytest.approx(4)
    assert np.isnan(found.speedup[1, 1:]).all()
    # 0.6 is more than a half-full block can hold
    assert found.speedup[2, :2, 1] == pytest.approx([5, 2.5])
    assert np.isnan(found.speedup[2, 2]).all()
    # N = 1: 2 * 4096^2 + 4 * 4096 bytes dense against 1.125 * 4096^2 + 4 * 4096
    assert found.speedup[0, 0, 0] == pytest.approx((2 * 4096 + 4) / (1.125 * 4096 + 4))
    assert found.winners()[:, 1].tolist() == [2, 2, -1]
    assert found.patterns == ("2:4", "1:4", "block32+2:4")


def test_the_first_named_wins_a_tie() -> None:
    a, b = (Declared(name, "b * d * M * K") for name in ("a", "b"))
    found = sweep([a, b], (512, 512), [0.5], [1], "fp16", H100)
    assert found.winners().tolist() == [[0]]
    assert sweep([b, a], (512, 512), [0.5], [1], "fp16", H100).patterns == ("b", "a")
    close = replace(found, speedup=np.array([[[1.5]], [[1.51]]]))
    assert close.winners().tolist() == [[0]]
    assert close.winners(0.001).tolist() == [[1]]
    assert replace(found, speedup=np.array([[[1.0]], [[0.9]]])).winners().tolist() == [[-1]]


def test_what_a_pattern_needs() -> None:
    block = find("block32")
    plain, twice = (
        sweep([block], (4096, 4096), [0.1, 0.6], [64], "fp16", H100, needs=needs)
        for needs in (None, {"block32x32": 2.0})
    )
    doubled = sweep([block], (4096, 4096), [0.2], [64], "fp16", H100)
    assert twice.speedup[0, 0] == doubled.speedup[0, 0]
    assert twice.speedup[0, 0, 0] < plain.speedup[0, 0, 0]
    assert np.isnan(twice.speedup[0, 1, 0])  # it would have to keep 1.2 of the weight
    with pytest.raises(UserError, match="no pattern 'nobody'"):
        sweep([block], (64, 64), [0.1], [64], "fp16", H100, needs={"nobody": 2})


def test_balance_changes_the_bandwidth_alone() -> None:
    found = at_balance(H100, "fp16", 100.0)
    assert H100.peaks["fp16_flops"] / found.dram_bandwidth == pytest.approx(100)
    assert found.peaks == H100.peaks
    assert found.kind == "assumed"
    with pytest.raises(UserError, match="not positive"):
        at_balance(H100, "fp16", 0)


@pytest.mark.parametrize(
    ("shape", "densities", "columns", "said"),
    [((0, 4), [0.5], [1], "at least 1"), ((4, 4), [0.0], [1], "densities"), ((4, 4), [1.5], [1], "densities"),
     ((4, 4), [0.5], [0], "at least 1")],
)  # fmt: skip
def test_sweeps_of_nothing(shape: tuple[int, int], densities: list[float], columns: list[int], said: str) -> None:
    with pytest.raises(UserError, match=said):
        sweep(PATTERNS, shape, densities, columns, "fp16", H100)


@settings(max_examples=25)
@given(st.integers(32, 3000), st.integers(32, 3000), st.floats(8, 2000))
def test_less_kept_never_gains_less(M: int, K: int, balance: float) -> None:
    densities = [0.02, 0.1, 0.3, 0.5]
    found = sweep(PATTERNS, (M, K), densities, [1, 100, 10000], "fp16", at_balance(H100, "fp16", balance))
    assert np.all(np.diff(found.sparse_s, axis=1) >= -1e-12 * found.sparse_s[:, 1:])
    assert np.all(np.diff(found.sparse_s, axis=2) >= 0)
    winners = found.winners()
    best = np.nanmax(found.speedup, axis=0)
    won = winners >= 0
    assert np.all(best[won] > 1)
    picked = np.take_along_axis(found.speedup, np.maximum(winners, 0)[None], axis=0)[0]
    assert np.all(picked[won] >= 0.99 * best[won])
