"""The refined model: it is the plain one with every term off, a bound stays a bound, and it moves the right way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsity_roofline.model import hardware, roofline
from sparsity_roofline.model.ceilings import Ceilings
from sparsity_roofline.model.dtype import DTYPES
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.expect import expected_case
from sparsity_roofline.model.pattern import Pattern
from sparsity_roofline.model.refined import PARTS, Terms, refined, side, waterfall
from sparsity_roofline.model.table import BITMAP, CaseTable
from sparsity_roofline.model.terms.constants import KernelConstants, device_constants, kernel_constants
from sparsity_roofline.model.terms.kernel import STAND_INS, describe, kernels
from sparsity_roofline.model.terms.tiles import Tiling

H100 = hardware.datasheet("h100")
KERNEL_OF = {"unstructured": "csr.triton", "block64": "bsr.triton", "2:4": "nm.cusparselt", "dense": "dense.cublas"}
MEASURED = Ceilings(
    device="NVIDIA H100 80GB HBM3",
    kind="measured",
    peaks={"fp16_flops": 790e12, "fp32_flops": 51e12, "bf16_flops": 810e12, "tf32_flops": 410e12},
    dram_bandwidth=3.08e12,
    l2_bytes=50 * 2**20,
    sm_count=132,
)

shapes = st.tuples(st.integers(1, 9000), st.integers(1, 9000), st.integers(1, 20000))
patterns = st.sampled_from(sorted(KERNEL_OF))
levels = st.floats(0.0, 0.99)


def table(M: int, K: int, N: int, pattern: str = "dense", sparsity: float = 0.9, dtype: str = "fp16") -> CaseTable:
    return CaseTable.of([expected_case(M, K, N, Pattern.parse(pattern), sparsity, dtype)])


@pytest.mark.parametrize("ceilings", [H100, MEASURED, hardware.datasheet("a100-sxm4-80gb"), hardware.datasheet("b200")])
def test_without_terms_it_is_the_plain_model(ceilings: Ceilings) -> None:
    cases = [
        expected_case(M, K, N, Pattern.parse(p), 0.8, d)
        for M, K, N in ((4096, 4096, 2048), (64, 147, 401408), (1000, 2048, 1))
        for p in KERNEL_OF
        for d in ("fp16", "fp32", "bf16")
    ]
    t = CaseTable.of(cases)
    plain, none = roofline.predict(t, ceilings), refined(t, ceilings, terms=Terms.none())
    np.testing.assert_allclose(none.refined_s, plain.sol_s, rtol=1e-12)
    np.testing.assert_allclose(none.refined_dense_s, plain.sol_dense_s, rtol=1e-12)
    np.testing.assert_allclose(none.speedup, plain.speedup, rtol=1e-12)


@given(shapes, patterns, levels, st.sampled_from(["fp16", "bf16", "tf32", "fp32"]), st.sampled_from([H100, MEASURED]))
@settings(deadline=None, max_examples=150)
def test_never_below_the_pattern_aware_bound(
    shape: tuple[int, int, int], pattern: str, sparsity: float, dtype: str, ceilings: Ceilings
) -> None:
    t = table(*shape, pattern, sparsity, dtype)
    kernel = KERNEL_OF[pattern]
    unit: Any = "cuda" if kernel == "csr.triton" else DTYPES[dtype].unit
    bound = roofline.predict(t, ceilings, "bound", unit=unit)
    full = refined(t, ceilings, kernel)
    assert full.refined_s[0] >= bound.sol_s[0] * (1 - 1e-9)
    assert full.refined_dense_s[0] >= bound.sol_dense_s[0] * (1 - 1e-9)


@pytest.mark.parametrize("kernel", sorted(kernels()))
def test_every_described_kernel_stays_above_its_bound_and_takes_time(kernel: str) -> None:
    known = kernels()[kernel]
    pattern = {"csr": "unstructured", "bsr": "block32", "nm": "2:4", "dense": "dense"}[known.format]
    for dtype in ("fp16", "fp32"):
        for shape in ((4096, 4096, 2048), (512, 4608, 49), (64, 64, 100352), (1, 1, 1)):
            t = table(*shape, pattern, 0.75, dtype)
            seconds = side(t, H100, kernel).seconds[0]
            bound = roofline.predict(t, H100, "bound", unit=known.runs_on(dtype)).sol_s[0]
            if known.stores == "bitmap":  # one bit an element where the format's cost charges an index
                t = replace(t, format_code=np.full_like(t.format_code, BITMAP))
                bound = roofline.predict(t, H100, "bound", unit=known.runs_on(dtype)).sol_s[0]
            assert np.isfinite(seconds)
            assert seconds >= max(bound, device_constants(H100).launch_floor_s) * (1 - 1e-9)


@given(shapes, st.sampled_from(["unstructured", "block64"]), levels, levels)
@settings(deadline=None, max_examples=100)
def test_denser_is_never_faster(shape: tuple[int, int, int], pattern: str, one: float, other: float) -> None:
    """Every part is monotone; L2's rate rises with density, but slower than the bytes do."""
    low, high = sorted((one, other), reverse=True)
    seconds = [side(table(*shape, pattern, s), H100, KERNEL_OF[pattern]).seconds[0] for s in (low, high)]
    assert seconds[0] <= seconds[1] * (1 + 1e-9)


@given(st.sampled_from([(512, 512), (4096, 1024), (3072, 768)]), patterns, st.integers(1, 400), st.integers(1, 400))
@settings(deadline=None, max_examples=100)
def test_more_columns_are_never_faster(shape: tuple[int, int], pattern: str, one: int, other: int) -> None:
    """Over multiples of 64, whose rows are all aligned: an odd N may be slower than the next even one."""
    seconds = [
        side(table(*shape, 64 * n, pattern, 0.8), H100, KERNEL_OF[pattern]).seconds[0] for n in sorted((one, other))
    ]
    assert seconds[0] <= seconds[1] * (1 + 1e-9)


@given(shapes, patterns, levels, st.floats(1.0, 10.0))
@settings(deadline=None, max_examples=60)
def test_more_bandwidth_never_hurts(shape: tuple[int, int, int], pattern: str, sparsity: float, factor: float) -> None:
    t, faster = table(*shape, pattern, sparsity), replace(H100, dram_bandwidth=factor * H100.dram_bandwidth)
    device = device_constants(H100)
    rates = {n: factor * getattr(device, n) for n in ("l2_bandwidth", "l2_shared_bandwidth", "l2_write_bandwidth")}
    before = refined(t, H100, KERNEL_OF[pattern], device=device)
    for after in (
        refined(t, faster, KERNEL_OF[pattern], device=device),
        refined(t, H100, KERNEL_OF[pattern], device=replace(device, **rates)),
    ):
        assert after.refined_s[0] <= before.refined_s[0] * (1 + 1e-9)
        assert after.refined_dense_s[0] <= before.refined_dense_s[0] * (1 + 1e-9)


def test_large_dense_products_scale_with_their_work() -> None:
    one, eight = (side(table(M, K, N), H100).seconds[0] for M, K, N in ((4096, 4096, 4096), (8192, 8192, 8192)))
    assert eight / one == pytest.approx(8, rel=0.1)


def test_time_divides_by_the_devices_speed() -> None:
    """A device that does everything twice as fast takes half the time."""
    t, d = table(3072, 768, 512, "block64", 0.75), device_constants(H100)
    k, _ = kernel_constants("bsr.triton", "fp16", H100)
    twice = replace(H100, peaks={q: 2 * p for q, p in H100.peaks.items()}, dram_bandwidth=2 * H100.dram_bandwidth)
    rates = {n: 2 * getattr(d, n) for n in ("l2_bandwidth", "l2_shared_bandwidth", "l2_write_bandwidth")}
    times = {n: getattr(k, n) / 2 for n in ("step_s", "tile_s", "split_s")}
    before = side(t, H100, "bsr.triton").seconds[0]
    after = side(
        t, twice, "bsr.triton", constants=replace(k, **times),
        device=replace(d, **rates, launch_floor_s=d.launch_floor_s / 2),
    ).seconds[0]  # fmt: skip
    assert after == pytest.approx(before / 2, rel=1e-12)


def test_a_worked_example_in_microseconds() -> None:
    """One 128 x 128 tile wave: 1408 x 384 fp16, K = 1024, on a made-up device with round figures."""
    made = Ceilings("made-up", "measured", {"fp16_flops": 100e12}, 1e12, l2_bytes=10e6, sm_count=33)
    device = replace(
        device_constants(made), l2_bandwidth=4e12, l2_shared_bandwidth=4e12, l2_write_bandwidth=2e12, l2_held=5e6,
        launch_floor_s=1e-6,
    )  # fmt: skip
    figures = KernelConstants(unit_fraction=0.5, l2_factor=1.0, step_s=1e-7, tile_s=2e-6)
    one = Tiling(*(np.asarray([[x]]) for x in (128.0, 128.0, 64.0, 1.0, 1.0)))
    M, K, N = 1408, 1024, 384
    found = side(table(M, K, N), made, "dense.triton", tiling=one, constants=figures, device=device)
    # 11 x 3 = 33 tiles, one wave: 2 M N K / (50e12) = 22.15 us
    assert found.parts["compute"][0] == pytest.approx(2 * M * N * K / 50e12)
    # W 2.88 MB + X 0.79 MB; Y 1.08 MB of 4.75 MB touched, 5 MB held: none written back
    assert found.parts["dram"][0] == pytest.approx(2 * (M * K + K * N) / 1e12)
    # each tile fetches 1024 (128 + 128) 2 B = 524 kB
    assert found.parts["l2"][0] == pytest.approx(33 * 1024 * 256 * 2 / 4e12)
    assert found.parts["store"][0] == pytest.approx(2 * M * N / 2e12)
    assert found.parts["steps"][0] == pytest.approx(2e-6 + 16 * 1e-7)
    assert found.parts["setup"][0] == 1e-6
    busy, store, steps = 22.146, 0.5407, 3.6
    total = (busy**1.5 + store**1.5 + steps**1.5) ** (1 / 1.5) + 1
    assert found.seconds[0] * 1e6 == pytest.approx(total, rel=1e-4)
    assert found.leading[0] == "compute"


def test_the_waterfall_ends_at_the_full_model_and_begins_at_the_plain_one() -> None:
    t = table(4096, 4096, 2048, "block64", 0.75)
    steps = waterfall(t, H100)
    assert [name for name, _ in steps] == ["plain", *Terms.names()]
    assert steps[0][1].refined_s[0] == roofline.predict(t, H100).sol_s[0]
    assert steps[-1][1].refined_s[0] == refined(t, H100).refined_s[0]


def test_terms_can_be_switched_on_alone() -> None:
    t = table(512, 512, 64, "unstructured", 0.9)
    plain = refined(t, H100, terms=Terms.none()).refined_s[0]
    setup = refined(t, H100, terms=Terms.only("setup")).refined_s[0]
    assert setup - plain == pytest.approx(device_constants(H100).launch_floor_s)
    with pytest.raises(UserError, match="unknown term 'cache'"):
        Terms.only("cache")


def test_a_longer_row_costs_time_only_where_it_is_the_longest() -> None:
    t = table(2048, 512, 48, "unstructured", 0.98)
    seconds = [side(t, H100, "csr.triton", max_row_nnz=[longest]).seconds[0] for longest in (12, 300, 500, np.nan)]
    assert seconds[0] < seconds[1] < seconds[2]
    assert seconds[0] <= seconds[3] < seconds[1]
    with pytest.raises(UserError, match="max_row_nnz has shape"):
        side(t, H100, "csr.triton", max_row_nnz=[1, 2])


def test_misaligned_rows_cost_time() -> None:
    odd, even = (side(table(1024, 512, n, "2:4"), H100, "nm.triton").seconds[0] for n in (195, 208))
    assert odd > 1.2 * even


def test_alignment_is_each_operands_own() -> None:
    """K = 147 leaves rows of W at odd places and those of X where they were; a csr weight has no rows to align."""
    figures = KernelConstants(narrow_s=1e-9)
    steps = {
        (K, N, p): side(table(512, K, N, p, 0.5), H100, k, constants=figures).parts["steps"][0]
        for K in (128, 147)
        for N in (128, 121)
        for p, k in (("dense", "dense.triton"), ("unstructured", "csr.triton"))
    }
    assert steps[147, 128, "dense"] > 1.5 * steps[128, 128, "dense"]
    assert steps[147, 121, "dense"] > 1.2 * steps[147, 128, "dense"]
    assert steps[147, 128, "unstructured"] < 1.3 * steps[128, 128, "unstructured"]


def test_a_kernel_without_a_description_is_stood_in_for() -> None:
    t = table(512, 512, 512, "block64", 0.5)
    one = refined(t, H100, "bsr.somebody")
    assert one.sparse.kernel[0] == STAND_INS["bsr"]
    assert one.refined_s[0] == refined(t, H100).refined_s[0]
    with pytest.raises(UserError, match=r"multiplies csr, not bsr"):
        refined(t, H100, "csr.triton")
    with pytest.raises(UserError, match="no kernel is described for bitmap"):
        describe(None, "bitmap")


def test_a_dtype_without_a_peak_is_refused() -> None:
    with pytest.raises(UserError, match="fp8"):
        refined(table(64, 64, 64, dtype="fp8"), hardware.datasheet("a100"))


def test_mixed_tables_match_their_rows() -> None:
    cases = [expected_case(512, 512, n, Pattern.parse(p), 0.8, d)
             for p in KERNEL_OF for d in ("fp16", "fp32") for n in (16, 200)]  # fmt: skip
    whole = refined(CaseTable.of(cases), H100)
    for i, case in enumerate(cases):
        alone = refined(CaseTable.of([case]), H100)
        assert alone.refined_s[0] == whole.refined_s[i]
        assert alone.refined_dense_s[0] == whole.refined_dense_s[i]
        assert all(alone.sparse.parts[p][0] == whole.sparse.parts[p][i] for p in PARTS)


def test_an_empty_table_is_no_error() -> None:
    t = table(64, 64, 64).take(slice(0, 0))
    found = refined(t, H100)
    assert len(found) == 0
    assert found.columns()["refined_s"].shape == (0,)


def test_what_it_rests_on_is_told() -> None:
    t = table(4096, 4096, 2048)
    assert refined(t, H100).meta()["calibrated"]
    elsewhere = refined(t, hardware.datasheet("a100"))
    assert not elsewhere.meta()["calibrated"]
    assert elsewhere.meta()["device"] == "A100-SXM4-80GB"
    assert set(elsewhere.columns()) >= {"refined_s", "refined_dense_s", "refined_speedup", "refined_l2_s"}


@pytest.mark.parametrize("name", hardware.names())
def test_every_device_of_the_table_has_figures(name: str) -> None:
    ceilings = hardware.datasheet(name)
    d = device_constants(ceilings)
    assert 0 < d.dram_fraction <= 1
    assert all(0 < f <= 1 for f in d.peak_fraction.values())
    assert ceilings.dram_bandwidth < d.l2_bandwidth <= d.l2_shared_bandwidth
    assert 0 < d.l2_held <= ceilings.l2_bytes
    assert side(table(1024, 1024, 1024), ceilings).seconds[0] > 0


def test_ceilings_with_l2_figures_of_their_own_keep_them() -> None:
    own = replace(MEASURED, l2_bandwidth=8e12, l2_shared_bandwidth=15e12, l2_write_bandwidth=4.2e12, l2_held_bytes=3e7)
    d = device_constants(own)
    assert (d.l2_bandwidth, d.l2_shared_bandwidth, d.l2_write_bandwidth, d.l2_held) == (8e12, 15e12, 4.2e12, 3e7)
    assert d.peak_fraction == {}, "measured ceilings are what the device reaches"
    assert d.dram_fraction == 1.0
