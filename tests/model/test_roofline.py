"""The prediction: the roofline itself, whose peak is charged, what is stated beside the figures, and its properties."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsity_roofline.model import hardware
from sparsity_roofline.model.case import Case
from sparsity_roofline.model.ceilings import Ceilings
from sparsity_roofline.model.cost import PRESETS, Cost, CostOptions
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.expect import expected_case
from sparsity_roofline.model.pattern import Pattern
from sparsity_roofline.model.roofline import predict, sol, sol_case, totals
from sparsity_roofline.model.table import CaseTable

H100 = hardware.datasheet("h100")
# Round figures: 100 operations a second on tensor cores, 10 on CUDA cores, 1 byte a second, 50 bytes of L2.
TOY = Ceilings(
    "toy", "datasheet", {"fp16_flops": 100.0, "fp16_flops@2:4": 220.0, "fp32_flops": 10.0}, 1.0, 50, sm_count=1
)
CPU = Ceilings("some CPU", "measured", {"fp32_flops": 1e11, "bf16_flops": 2e11}, 2e10, l2_bytes=3e7)


def row(**columns: object) -> CaseTable:
    return CaseTable.from_columns(**{"M": 6, "K": 8, "N": 5, "dtype": "fp16", **columns})


def case(pattern: str, sparsity: float, dtype: str = "fp16", M: int = 512, K: int = 512, N: int = 256) -> Case:
    return expected_case(M, K, N, Pattern.parse(pattern), sparsity, dtype)


def test_the_larger_of_two_times() -> None:
    zero = np.zeros(4)
    c = Cost(np.array([10.0, 1.0, 4.0, 0.0]), np.array([1.0, 10.0, 2.0, 0.0]), zero, zero)
    s = sol(c, 2.0, 1.0)
    assert s.compute_s.tolist() == [5, 0.5, 2, 0]
    assert s.memory_s.tolist() == [1, 10, 2, 0]
    assert s.latency_s.tolist() == [5, 10, 2, 0]
    assert s.bound.tolist() == ["compute", "memory", "compute", "compute"]
    one_each = sol(c, [2.0, 1.0, 4.0, 1.0], [1.0, 10.0, 1.0, 1.0])
    assert one_each.latency_s.tolist() == [5, 1, 2, 0]


def test_hand_worked_prediction() -> None:
    # Dense: 480 operations at 100/s, 236 bytes. csr with 7 elements: 70 operations, 70 + 80 + 60 bytes.
    p = predict(row(format="csr", nnz=7), TOY)
    assert (p.sol_dense_s[0], p.bound_dense[0]) == (236, "memory")
    assert (p.sol_s[0], p.bound[0]) == (210, "memory")
    assert p.speedup[0] == 236 / 210
    assert (p.flops[0], p.bytes[0], p.flops_dense[0], p.bytes_dense[0]) == (70, 210, 480, 236)


@pytest.mark.parametrize(
    ("columns", "preset", "unit", "rate"),
    [
        ({"format": "csr", "nnz": 48}, "paper", None, 100),
        ({"format": "csr", "nnz": 48}, "paper", "cuda", 100),  # one peak per dtype, whatever runs it
        ({"format": "csr", "nnz": 48}, "unit", None, 10),
        ({"format": "csr", "nnz": 48}, "unit", "cuda", 10),
        ({"format": "csr", "nnz": 48}, "unit", "tensor", 100),
        ({"format": "csr", "nnz": 48}, "bound", None, 100),  # no kernel named: the largest
        ({"format": "csr", "nnz": 48}, "bound", "cuda", 10),
        ({"format": "dense"}, "unit", None, 100),
        ({"format": "dense"}, "unit", "cuda", 10),
        ({"format": "nm", "n": 2, "m": 4}, "unit", None, 100),
        ({"format": "nm", "n": 2, "m": 4}, "bound", None, 110),  # half the printed 2:4 peak where that is more
        ({"format": "nm", "n": 1, "m": 4}, "bound", None, 100),
        ({"format": "dense", "dtype": "fp32"}, "paper", None, 10),
        ({"format": "dense", "dtype": "fp32"}, "bound", None, 10),
    ],
)
def test_whose_peak(columns: dict[str, object], preset: str, unit: str | None, rate: float) -> None:
    fast = replace(TOY, dram_bandwidth=1e12)  # leaves the compute time alone
    p = predict(row(**columns), fast, preset, unit=unit)  # type: ignore[arg-type]
    assert p.bound[0] == "compute"
    assert p.flops[0] / p.sol_s[0] == pytest.approx(rate, rel=1e-12)


def test_the_dense_side_keeps_its_own_peak() -> None:
    fast = replace(TOY, dram_bandwidth=1e12)
    for preset in PRESETS:
        p = predict(row(format="csr", nnz=48), fast, preset, unit="cuda")
        assert p.flops_dense[0] / p.sol_dense_s[0] == pytest.approx(100)
    p = predict(row(format="csr", nnz=48), fast, options=CostOptions(compute_peak="cuda", dense_peak="cuda"))
    assert p.speedup[0] == pytest.approx(1)


def test_two_four_work_is_charged_once() -> None:
    """Halved work at the dense peak, or the full work at twice the rate: the same time, never a quarter."""
    table = CaseTable.from_columns(M=4096, K=4096, N=4096, format="nm", dtype="fp16", n=2, m=4)
    halved = predict(table, H100, options=CostOptions(nm_work="halved_at_dense_peak"))
    full = predict(table, H100, options=CostOptions(nm_work="full_at_sparse_peak"))
    assert halved.speedup[0] == 2
    assert full.speedup[0] == pytest.approx(2, rel=1e-3)
    assert full.flops[0] == full.flops_dense[0]
    with pytest.raises(UserError, match="2:4"):
        predict(table, hardware.datasheet("v100-sxm2"), options=CostOptions(nm_work="full_at_sparse_peak"))
    with pytest.raises(UserError, match="CUDA cores have no 2:4 peak"):
        predict(table, H100, options=CostOptions(nm_work="full_at_sparse_peak", compute_peak="cuda"))


def test_a_cpu_has_one_kind_of_unit() -> None:
    for preset in PRESETS:
        p = predict(row(format=["csr", "dense"], dtype="bf16", nnz=[7, 48]), replace(CPU, dram_bandwidth=1e15), preset)
        assert (p.flops / p.sol_s).tolist() == pytest.approx([2e11, 2e11])
    assert sol_case(case("unstructured", 0.9, "fp32"), CPU, "unit", "cpu")[0] > 0
    with pytest.raises(UserError, match="fp16"):
        predict(row(format="dense"), CPU)


def test_what_the_figures_rest_on_is_stated() -> None:
    p = predict(row(format="csr", nnz=7), H100, "bound", unit="cuda")
    assert p.ceilings_kind == "datasheet"
    meta = p.meta()
    assert meta["device"] == "H100-SXM5-80GB"
    assert meta["preset"] == "bound"
    assert meta["unit"] == "cuda"
    assert CostOptions(**meta["options"]) == PRESETS["bound"]
    assert predict(row(format="csr", nnz=7, dtype="fp32"), CPU).ceilings_kind == "measured"
    assert predict(row(format="csr", nnz=7), H100, options=CostOptions(index_bytes=2)).preset == "custom"
    assert set(p.columns()) == {"sol_s", "sol_dense_s", "bound", "bound_dense", "flops", "bytes", "flops_dense",
                                "bytes_dense", "speedup"}  # fmt: skip


def binary_entropy(p: float) -> float:
    return -p * math.log2(p) - (1 - p) * math.log2(1 - p)


def test_the_bound_leaves_out_what_l2_holds_and_what_nobody_reads() -> None:
    p = predict(row(format="csr", nnz=7, used_columns=3), TOY, "bound")
    positions = 48 * binary_entropy(7 / 48) - math.log2(8 * 48 * (7 / 48) * (41 / 48)) / 2  # bits: 7 of 6 x 8 places
    assert p.bytes[0] == pytest.approx(2 * 7 + positions / 8 + 2 * 3 * 5 + (60 - 50))
    assert p.bytes_dense[0] == 96 + 80 + (60 - 50)


@pytest.mark.parametrize("preset", list(PRESETS))
@pytest.mark.parametrize("pattern", ["dense", "unstructured", "block16", "2:4"])
@pytest.mark.parametrize("unit", ["cuda", "tensor", None])
def test_one_case_and_a_table_agree(preset: str, pattern: str, unit: str | None) -> None:
    one = case(pattern, 0.8)
    seconds, bound, flops, moved = sol_case(one, H100, preset, unit)  # type: ignore[arg-type]
    p = predict(CaseTable.of([case("dense", 0), one]), H100, preset, unit=unit)  # type: ignore[arg-type]
    assert (seconds, bound, flops, moved) == (p.sol_s[1], p.bound[1], p.flops[1], p.bytes[1])


def test_totals_divide_sums() -> None:
    table = CaseTable.of([case("unstructured", 0.9), case("unstructured", 0.5, M=2048)])
    p = predict(table, H100)
    t = totals(p, [3, 1])
    assert t.sol_s == pytest.approx(3 * p.sol_s[0] + p.sol_s[1])
    assert t.speedup == pytest.approx((3 * p.sol_dense_s[0] + p.sol_dense_s[1]) / (3 * p.sol_s[0] + p.sol_s[1]))
    assert (t.cases, t.count) == (2, 4)
    assert t.flops == 3 * p.flops[0] + p.flops[1]
    assert t.bytes_dense == 3 * p.bytes_dense[0] + p.bytes_dense[1]
    assert totals(p) == totals(p, np.ones(2))
    with pytest.raises(UserError, match="one per case"):
        totals(p, [1.0])


def test_empty_prediction_and_empty_matrix() -> None:
    p = predict(CaseTable.of([]), H100)
    assert len(p) == 0
    assert math.isnan(totals(p).speedup)
    nothing = predict(CaseTable.from_columns(M=[0, 0], K=[0, 4], N=0, format="dense", dtype="fp16"), H100)
    assert nothing.sol_s.tolist() == [0, 0]
    assert np.isnan(nothing.speedup).all()
    no_elements = predict(row(format="csr", nnz=0), H100)
    assert no_elements.bound[0] == "memory"
    assert no_elements.speedup[0] > 1


def test_a_missing_peak_names_the_dtype() -> None:
    with pytest.raises(UserError, match="fp8"):
        predict(row(format="dense", dtype=["fp16", "fp8"]), hardware.datasheet("a100"))
    with pytest.raises(UserError, match="unknown cost preset"):
        predict(row(format="dense"), H100, "plain")


shapes = st.tuples(st.integers(1, 9000), st.integers(1, 9000), st.integers(1, 10**6))
presets = st.sampled_from(list(PRESETS))
dtypes = st.sampled_from(["fp32", "fp16", "int8"])
devices = st.sampled_from(["h100", "a100", "l40s", "rtx 4090", "mi300x"])


@given(shapes, presets, dtypes, devices)
def test_dense_against_itself_is_one(shape: tuple[int, int, int], preset: str, dtype: str, device: str) -> None:
    M, K, N = shape
    table = CaseTable.from_columns(M=M, K=K, N=N, format="dense", dtype=dtype)
    p = predict(table, hardware.datasheet(device), preset)
    assert p.speedup[0] == 1
    assert p.sol_s[0] == p.sol_dense_s[0] > 0


@given(shapes, presets, dtypes, devices, st.data())
def test_fewer_elements_never_take_longer(
    shape: tuple[int, int, int], preset: str, dtype: str, device: str, data: st.DataObject
) -> None:
    M, K, N = shape
    nnz = sorted(data.draw(st.lists(st.integers(0, M * K), min_size=2, max_size=6)))
    table = CaseTable.from_columns(M=M, K=K, N=N, format="csr", dtype=dtype, nnz=nnz)
    p = predict(table, hardware.datasheet(device), preset)
    assert np.all(np.diff(p.sol_s) >= 0)
    assert np.all(np.diff(p.speedup) <= 0)


@given(shapes, dtypes, devices, st.floats(0, 1), st.sampled_from(["cuda", "tensor", None]))
def test_presets_are_ordered(
    shape: tuple[int, int, int], dtype: str, device: str, sparsity: float, unit: str | None
) -> None:
    """bound <= unit for the same kernel, and paper <= unit: neither less traffic nor a higher peak takes longer."""
    M, K, N = shape
    ceilings = hardware.datasheet(device)
    if unit == "tensor" and dtype == "fp32":
        unit = "cuda"
    one = expected_case(M, K, N, Pattern.parse("unstructured"), sparsity, dtype)
    seconds = {preset: sol_case(one, ceilings, preset, unit)[0] for preset in PRESETS}  # type: ignore[arg-type]
    assert seconds["bound"] <= seconds["unit"]
    assert seconds["paper"] <= seconds["unit"]
    anybody = sol_case(one, ceilings, "bound")[0]
    assert anybody <= seconds["bound"]


@given(shapes, dtypes, st.floats(0.01, 100))
def test_twice_the_device_is_half_the_time(shape: tuple[int, int, int], dtype: str, times: float) -> None:
    M, K, N = shape
    table = CaseTable.from_columns(M=M, K=K, N=N, format=["dense", "csr"], dtype=dtype, nnz=M * K // 2)
    faster = replace(
        H100,
        identity="",
        peaks={name: rate * times for name, rate in H100.peaks.items()},
        dram_bandwidth=H100.dram_bandwidth * times,
    )
    slow, fast = predict(table, H100), predict(table, faster)
    assert slow.sol_s == pytest.approx(fast.sol_s * times, rel=1e-12)
    assert slow.speedup == pytest.approx(fast.speedup, rel=1e-12)
    assert slow.ceilings_identity != fast.ceilings_identity or times == 1
