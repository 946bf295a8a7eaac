"""The device table: invariants that catch a wrong figure, aliases, and devices by their drivers' names."""

from __future__ import annotations

import re
from collections import Counter
from datetime import date

import pytest

from sparsity_roofline.model import hardware
from sparsity_roofline.model.errors import UserError

ROWS = hardware.rows()
DENSE = {(r.gpu, r.quantity): r.value for r in ROWS if r.with_sparsity != "yes"}
SPARSE = {(r.gpu, r.quantity): r.value for r in ROWS if r.with_sparsity == "yes"}
GPUS = hardware.names()
GCD = ("MI250X", "MI250X-GCD")

# Fused multiply-adds per SM (or CU) and clock in fp16 with fp32 accumulation.
FMA = {"V100": 512, "T4": 512, "L4": 512, "L40S": 512, "MI250X": 512, "A100": 1024, "MI300X": 1024, "H100": 2048,
       "H200": 2048, "B200": 4096, "RTX": 256}  # fmt: skip
# Tensor clocks that differ from the boost clock. B200's is fitted to its own figure, so it is left out below.
TENSOR_CLOCK = {"H100-SXM5-80GB": 1830e6, "H200-SXM-141GB": 1830e6, "H100-PCIe-80GB": 1620e6, "L40S": 2490e6}
UNITS = {"flops": "FLOP/s", "ops": "OP/s", "dram_bandwidth": "B/s", "l2_bytes": "B", "sm_count": "count",
         "boost_clock": "Hz"}  # fmt: skip


def family(gpu: str) -> str:
    return gpu.split("-")[0]


def has(quantity: str) -> list[str]:
    return [gpu for gpu in GPUS if (gpu, quantity) in DENSE]


@pytest.mark.parametrize("gpu", [g for g in has("fp16_flops") if family(g) != "B200"])
def test_fp16_peak_follows_from_the_clock(gpu: str) -> None:
    clock = TENSOR_CLOCK.get(gpu, DENSE[gpu, "boost_clock"])
    assert DENSE[gpu, "fp16_flops"] == pytest.approx(DENSE[gpu, "sm_count"] * FMA[family(gpu)] * 2 * clock, rel=0.01)


@pytest.mark.parametrize("gpu", GPUS)
def test_fp32_peak_follows_from_the_clock(gpu: str) -> None:
    cores = 64 if family(gpu) in ("V100", "T4", "A100", "MI250X") else 128
    assert DENSE[gpu, "fp32_flops"] == pytest.approx(
        DENSE[gpu, "sm_count"] * cores * 2 * DENSE[gpu, "boost_clock"], rel=0.01
    )


@pytest.mark.parametrize(("gpu", "quantity"), sorted(SPARSE))
def test_sparse_peaks_are_twice_the_dense(gpu: str, quantity: str) -> None:
    if gpu == "L40S" and quantity in ("fp16_flops", "bf16_flops"):
        # The sheet prints 362.05 and 733, at two clocks.
        assert SPARSE[gpu, quantity] / DENSE[gpu, quantity] == pytest.approx(2.025, abs=0.001)
    else:
        assert SPARSE[gpu, quantity] == pytest.approx(2 * DENSE[gpu, quantity], abs=1.0e12)


def test_no_sparse_peaks_before_ampere() -> None:
    assert not {gpu for gpu, _ in SPARSE} & {"V100-SXM2", "V100-PCIe", "T4", *GCD}


@pytest.mark.parametrize("gpu", GPUS)
def test_peaks_of_one_device_fit_together(gpu: str) -> None:
    peak = {q: v for (g, q), v in DENSE.items() if g == gpu}
    fp16 = peak["fp16_flops"]
    if "bf16_flops" in peak:
        assert peak["bf16_flops"] == fp16
    if "tf32_flops" in peak:
        assert peak["tf32_flops"] == pytest.approx(fp16 / 2, rel=0.015)
    if "fp8_flops" in peak:
        assert peak["fp8_flops"] == pytest.approx(2 * fp16, rel=0.025 if gpu == "L40S" else 0.01)
    if "int8_ops" in peak:
        int8 = peak["int8_ops"]
        if family(gpu) in ("H100", "H200", "B200", "L4", "L40S", "MI300X"):
            assert int8 == peak["fp8_flops"]
        else:
            times = {"T4": 2, "A100": 2, "RTX": 4, "MI250X": 1}[family(gpu)]
            assert int8 == pytest.approx(times * fp16, rel=0.001)


@pytest.mark.parametrize("gpu", GPUS)
def test_bandwidth_and_ridge_points(gpu: str) -> None:
    bandwidth = DENSE[gpu, "dram_bandwidth"]
    assert 1e11 < bandwidth < 1e13
    assert 70 < DENSE[gpu, "fp16_flops"] / bandwidth < 450
    for (g, quantity), value in DENSE.items():
        if g == gpu and quantity.endswith(("_flops", "_ops")):
            assert 5 < value / bandwidth < 1000, quantity


def test_extremes_are_where_they_are_known_to_be() -> None:
    ridge = {(g, q): v / DENSE[g, "dram_bandwidth"] for (g, q), v in DENSE.items() if q.endswith(("_flops", "_ops"))}
    low, high = min(ridge, key=ridge.__getitem__), max(ridge, key=ridge.__getitem__)
    assert low == ("A100-SXM4-80GB", "fp32_flops")
    assert ridge[low] == pytest.approx(9.6, abs=0.05)
    assert high in {("L40S", "fp8_flops"), ("L40S", "int8_ops")}
    assert ridge[high] == pytest.approx(848, abs=1)


@pytest.mark.parametrize("row", ROWS, ids=lambda r: f"{r.gpu}/{r.quantity}/{r.with_sparsity}")
def test_every_row_has_a_source(row: hardware.Row) -> None:
    assert len(row.source) > 5
    assert row.source_status in {"published", "derived", "measured", "not verified"}
    kind = row.quantity if row.quantity in UNITS else row.quantity.split("_")[1]
    assert row.unit == UNITS[kind]
    assert row.with_sparsity in (("yes", "no") if kind in ("flops", "ops") else ("na",))
    assert row.value > 0
    assert date(2026, 1, 1) < date.fromisoformat(row.adopted) <= date(2099, 1, 1)


def test_keys_are_unique_and_the_needed_ones_present() -> None:
    keys = Counter((r.gpu, r.quantity, r.with_sparsity) for r in ROWS)
    assert max(keys.values()) == 1
    assert len(GPUS) == 20
    for gpu in GPUS:
        for quantity in ("fp32_flops", "fp16_flops", "dram_bandwidth", "l2_bytes", "sm_count", "boost_clock"):
            assert (gpu, quantity) in DENSE, (gpu, quantity)


def test_absent_peaks_stay_absent() -> None:
    """What a device does not support is not in the table."""
    no = {
        "bf16_flops": {"V100-SXM2", "V100-PCIe", "T4"},
        "tf32_flops": {"V100-SXM2", "V100-PCIe", "T4", *GCD},
        "fp8_flops": {"V100-SXM2", "V100-PCIe", "T4", "RTX-3090", *GCD, *(g for g in GPUS if family(g) == "A100")},
        "int8_ops": {"V100-SXM2", "V100-PCIe"},
    }
    for quantity, gpus in no.items():
        assert set(GPUS) - set(has(quantity)) == gpus, quantity


@pytest.mark.parametrize(
    ("typed", "gpu"),
    [
        ("h100", "H100-SXM5-80GB"),
        ("H100 SXM", "H100-SXM5-80GB"),
        ("h100-sxm5-80gb", "H100-SXM5-80GB"),
        ("H100_PCIE", "H100-PCIe-80GB"),
        ("a100", "A100-SXM4-80GB"),
        ("A100 PCIe 40", "A100-PCIe-40GB"),
        ("a100-40gb-sxm", None),
        ("h200", "H200-SXM-141GB"),
        ("RTX 4090", "RTX-4090"),
        ("rtx5090", "RTX-5090"),
        ("l4", "L4"),
        ("L40s", "L40S"),
        ("l40", None),
        ("mi250x", "MI250X"),
        ("MI250X GCD", "MI250X-GCD"),
        ("a100 sxm", None),
        ("rtx", None),
        ("h", None),
        ("", None),
        ("gh200", None),
    ],
)
def test_aliases(typed: str, gpu: str | None) -> None:
    if gpu:
        assert hardware.datasheet(typed).device == gpu
    else:
        with pytest.raises(UserError, match=re.escape(repr(typed))):
            hardware.datasheet(typed)


def test_an_ambiguous_name_lists_its_candidates_only() -> None:
    with pytest.raises(UserError) as error:
        hardware.datasheet("a100 pcie")
    assert "A100-PCIe-40GB, A100-PCIe-80GB" in str(error.value)
    assert "H100" not in str(error.value)


@pytest.mark.parametrize("gpu", GPUS)
def test_every_name_finds_itself(gpu: str) -> None:
    ceilings = hardware.datasheet(gpu.lower().replace("-", " "))
    assert ceilings.device == gpu
    assert ceilings.kind == "datasheet"
    assert ceilings.peak("fp32", "cuda") == DENSE[gpu, "fp32_flops"]
    assert ceilings.dram_bandwidth == DENSE[gpu, "dram_bandwidth"]
    assert ceilings.l2_bytes == DENSE[gpu, "l2_bytes"]
    assert ceilings.sm_count == DENSE[gpu, "sm_count"]


@pytest.mark.parametrize(
    ("reported", "memory", "gpu"),
    [
        ("NVIDIA H100 80GB HBM3", 85_029_158_912, "H100-SXM5-80GB"),
        ("NVIDIA H100 80GB HBM3", None, "H100-SXM5-80GB"),
        ("NVIDIA H100 80GB HBM3", 101_000_000_000, None),
        ("NVIDIA H100 PCIe", 85_029_158_912, "H100-PCIe-80GB"),
        ("NVIDIA H100 NVL", 100_000_000_000, None),
        ("NVIDIA H200", 150_754_820_096, "H200-SXM-141GB"),
        ("NVIDIA H200 NVL", None, None),
        ("NVIDIA GH200 480GB", None, None),
        ("NVIDIA A100-SXM4-40GB", 42_405_855_232, "A100-SXM4-40GB"),
        ("NVIDIA A100-SXM4-80GB", 85_097_971_712, "A100-SXM4-80GB"),
        ("NVIDIA A100-PCIE-40GB", None, "A100-PCIe-40GB"),
        ("NVIDIA A100 80GB PCIe", None, "A100-PCIe-80GB"),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", None, None),
        ("Tesla V100-SXM2-16GB", None, "V100-SXM2"),
        ("Tesla V100-PCIE-32GB", None, "V100-PCIe"),
        ("Tesla T4", None, "T4"),
        ("NVIDIA L4", None, "L4"),
        ("NVIDIA L40S", None, "L40S"),
        ("NVIDIA L40", None, None),
        ("NVIDIA B200", None, "B200-HGX"),
        ("NVIDIA GeForce RTX 4090", None, "RTX-4090"),
        ("NVIDIA GeForce RTX 4090 D", None, None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None, None),
        ("NVIDIA GeForce RTX 3090 Ti", None, None),
        ("NVIDIA GeForce RTX 5080", None, "RTX-5080"),
        ("NVIDIA GeForce RTX 5090", None, "RTX-5090"),
        ("AMD Instinct MI250X", None, "MI250X-GCD"),
        ("AMD Instinct MI300X", None, "MI300X"),
        ("", None, None),
    ],
)
def test_devices_are_recognised_exactly_or_not_at_all(reported: str, memory: int | None, gpu: str | None) -> None:
    assert hardware.match(reported, memory) == gpu
