"""The refined model on anyone's latencies: hit rates, composition, fits that never see what they predict."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsity_roofline.model import hardware
from sparsity_roofline.model.refined import Terms, side
from sparsity_roofline.model.terms.constants import KernelConstants
from sparsity_roofline.validation.external import validate_measurements
from sparsity_roofline.validation.external.mapping import load
from sparsity_roofline.validation.external.predictors import tables
from sparsity_roofline.validation.external.read import read
from sparsity_roofline.validation.external.refine import (
    VARIANTS,
    Variant,
    calibrated,
    composed,
    folds,
    hit_rate,
    refined,
    transferred,
)

SHAPES = [(m, k) for m in (1024, 2048, 4096, 8192) for k in (1024, 3072, 8192)]


def made(folder: Path, seconds: float = 4e-6, share: float = 0.7, l2: str = "cold") -> Path:
    """Times of an imaginary GPU that follows the refined model with other constants, 2:4 at ``share`` of its rate."""
    lines = ["gpu,dtype,M,K,N,pattern,l2,dense_us,sparse_us"]
    for M, K in SHAPES:
        for N in (64, 1024, 8192):
            dense = seconds + max(2 * M * K * N / 0.75 / 989.5e12, 2 * (M * K + K * N + M * N) / 3e12)
            sparse = 1.5 * seconds + max(M * K * N / share / 989.5e12, 2 * (0.5625 * M * K + K * N + M * N) / 3e12)
            lines.append(f"h100,fp16,{M},{K},{N},2:4,{l2},{dense * 1e6:.4f},{sparse * 1e6:.4f}")
    path = folder / "made.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(("load", "rate"), [(0.5, 1), (1, 1), (2, 0.2031878), (10, 4.542e-5)])
def test_hit_rates(load: float, rate: float) -> None:
    """The smaller solution of p = exp(-(1 - p) F / C), by hand for F = 2 C: exp(-2 * 0.7968) = 0.2032."""
    assert hit_rate(np.array([load * 50.0]), 50.0)[0] == pytest.approx(rate, rel=1e-4)


@given(st.lists(st.floats(0, 1e12), min_size=2, max_size=10), st.floats(1, 1e9))
def test_larger_footprints_hit_less(footprints: list[float], capacity: float) -> None:
    found = hit_rate(np.sort(np.array(footprints)), capacity)
    assert np.all((found >= 0) & (found <= 1))
    assert np.all(np.diff(found) <= 1e-12)
    assert hit_rate(np.array([1.0]), 0.0).tolist() == [0.0]


def test_hit_rate_against_a_simulated_cache() -> None:
    """A cache of 200 lines with random replacement, read in a cycle of 300 lines."""
    rng, cache, hits, reads = np.random.default_rng(0), {}, 0, 0
    slots = [-1] * 200
    for turn in range(60):
        for line in range(300):
            if line in cache:
                hits += turn >= 20
            else:
                slot = int(rng.integers(200))
                cache.pop(slots[slot], None)
                slots[slot] = line
                cache[line] = slot
            reads += turn >= 20
    assert hits / reads == pytest.approx(hit_rate(np.array([300.0]), 200.0)[0], abs=0.03)


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=list(VARIANTS))
def test_composition_is_the_models_own(tmp_path: Path, variant: Variant) -> None:
    measured = read(made(tmp_path))
    table, ceilings = tables(measured), measured.ceilings["H100-SXM5-80GB"]
    found = side(table, ceilings, "nm.cusparselt", terms=variant.terms)
    again = composed(found.parts, found.parts["compute"], found.parts["dram"], variant.terms)
    assert again == pytest.approx(found.seconds, rel=1e-12)


def test_cold_rows_are_the_refined_model(tmp_path: Path) -> None:
    measured = read(made(tmp_path))
    ceilings = measured.ceilings["H100-SXM5-80GB"]
    found = refined(measured)
    assert found.dense_s == pytest.approx(side(tables(measured).as_dense(), ceilings, "dense.cublas").seconds)
    assert found.sparse_s == pytest.approx(side(tables(measured), ceilings).seconds)
    # A device without fits takes an H100's kernels, not the defaults.
    other = hardware.datasheet("h100-pcie")
    lent = transferred("dense.cublas", "bf16", other)
    assert lent == transferred("dense.cublas", "bf16", ceilings) != KernelConstants()
    assert transferred(None, "bf16", other) is None
    hot = refined(read(made(tmp_path, l2="hot")))
    assert np.all(hot.dense_s <= found.dense_s * (1 + 1e-9))
    assert hot.dense_s.sum() < found.dense_s.sum()


def test_a_fit_finds_what_was_put_in(tmp_path: Path) -> None:
    measured = read(made(tmp_path))
    rows = measured.rows
    truth = (rows["dense_s"] / rows["sparse_s"]).to_numpy()
    found = calibrated(measured)
    assert np.isfinite(found.speedup).all()
    before, after = (float(np.mean(np.abs(p.speedup / truth - 1))) for p in (refined(measured), found))
    assert after < 0.08
    assert after < before


def test_no_row_is_predicted_by_a_fit_that_saw_its_shape(tmp_path: Path) -> None:
    """Spoil one shape's times: its own predictions may not follow them."""
    path = made(tmp_path)
    measured = read(path)
    fold = folds(measured)
    shapes = list(zip(measured.rows["M"], measured.rows["K"], strict=True))
    assert len({(s, f) for s, f in zip(shapes, fold, strict=True)}) == len(SHAPES)
    assert set(fold.tolist()) == set(range(5))
    spoiled = read(path)
    at = (spoiled.rows["M"] == 8192) & (spoiled.rows["K"] == 8192)
    spoiled.rows.loc[at, "dense_s"] *= 50
    one, other = calibrated(measured), calibrated(spoiled)
    assert one.dense_s[at] == pytest.approx(other.dense_s[at], rel=1e-9)
    seen = fold != fold[np.flatnonzero(at)[0]]
    assert np.abs(one.dense_s[seen] / other.dense_s[seen] - 1).max() > 1e-3


def test_too_few_rows_are_not_fitted(tmp_path: Path) -> None:
    path = tmp_path / "few.csv"
    path.write_text("gpu,dtype,M,K,N,pattern,dense_us,sparse_us\n" + "h100,fp16,64,64,64,2:4,5,5\n" * 10)
    assert np.isnan(calibrated(read(path)).speedup).all()
    found = validate_measurements(path, calibrate=True, resamples=10)
    assert set(found.errors["model"]) == {"constant", "plain", "refined"}
    assert found.ablation["mape speedup"].isna().all()


def test_every_variant_is_another_model() -> None:
    assert len({(v.hot, v.sustained, *(getattr(v.terms, n) for n in Terms.names())) for v in VARIANTS.values()}) == 6
    assert load("slidesparse").kernels == {"dense": "dense.cublas", "sparse": "nm.cusparselt"}
    assert math.isclose(sum(1 for v in VARIANTS.values() if v == Variant()), 1)
