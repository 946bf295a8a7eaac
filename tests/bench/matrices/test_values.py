from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from sparsity_roofline.bench.matrices.values import SMALLEST_VALUE, seeded_values, seeded_weight


def test_pinned_on_every_platform() -> None:
    """Fixed figures: a change of the generator would silently change every published synthetic matrix."""
    assert seeded_values(4, 0, "x").tolist() == pytest.approx([-1.430251, -1.512583, 0.5826917, 0.8753574], rel=1e-6)
    assert seeded_weight((1, 3), 7, "layer").ravel().tolist() == pytest.approx(
        [0.2361756, -0.931788, -0.6982877], rel=1e-6
    )


def test_another_process_draws_the_same() -> None:
    code = (
        "from sparsity_roofline.bench.matrices.values import seeded_values as v; print(v(5, 3, 'a/b').tobytes().hex())"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout.strip()
    assert printed == seeded_values(5, 3, "a/b").tobytes().hex()


def test_values_survive_every_half_precision() -> None:
    values = seeded_values(200_000, 0, "many")
    assert values.dtype == np.float32
    assert np.abs(values).min() >= SMALLEST_VALUE
    assert np.count_nonzero(values.astype(np.float16)) == values.size
    assert abs(values.mean()) < 0.01
    assert abs(values.std() - 1) < 0.01


def test_weights_look_like_a_layer() -> None:
    weight = seeded_weight((256, 512), 0, "layer")
    half = weight.astype(np.float16)
    assert np.abs(half).min() >= np.finfo(np.float16).smallest_normal
    rows = np.sqrt((weight**2).mean(axis=1))
    assert 0.8 < np.median(rows) / (2 / 512) ** 0.5 < 1.2
    assert rows.std() / rows.mean() > 0.15


def test_names_and_seeds_separate_streams() -> None:
    draws = [seeded_values(8, seed, name).tolist() for seed in (0, 1) for name in ("a", "b")]
    assert len({tuple(draw) for draw in draws}) == 4
    assert seeded_values(0, 0, "none").shape == (0,)
    assert seeded_weight((0, 4), 0, "none").shape == (0, 4)
