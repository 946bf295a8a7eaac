"""Speed of light at the clock held, against figures worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sparsity_roofline.model import hardware, held
from sparsity_roofline.model.case import Case
from sparsity_roofline.model.ceilings import Ceilings
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.roofline import sol_case

H100 = hardware.datasheet("h100")


def dense(M: int, K: int, N: int, dtype: str) -> Case:
    return Case(
        collection="t", matrix="w", M=M, K=K, N=N, pattern="dense", format="dense", dtype=dtype, nnz=M * K
    )  # fmt: skip


def test_half_the_clock_doubles_a_compute_bound_time() -> None:
    # 2 * 8192^3 operations at 989.5 TFLOP/s and 1830 MHz: 1.1112 ms; at 915 MHz twice that. Bytes take 0.12 ms.
    case = dense(8192, 8192, 8192, "fp16")
    printed = 2 * 8192**3 / 989.5e12
    assert sol_case(case, H100)[0] == pytest.approx(printed, rel=2e-4)
    seconds, bound = held.sol_held(case, H100, 915e6)
    assert seconds == pytest.approx(2 * printed, rel=2e-4)
    assert bound == "compute"


def test_tensor_cores_held_above_their_printed_clock_have_more_to_give() -> None:
    # 989.5 TFLOP/s * 1980 / 1830 = 1070.6 TFLOP/s, the clock an H100 holds on light work.
    assert held.at_clock(H100, 1980e6).peak("fp16", "tensor") == pytest.approx(1070.6e12, rel=1e-3)
    # The FP32 peak is printed for 1980 MHz already.
    assert held.at_clock(H100, 1980e6).peak("fp32", "cuda") == H100.peak("fp32", "cuda")
    assert held.at_clock(H100, 1830e6).peak("fp16", "tensor") == H100.peak("fp16", "tensor")


def test_the_memory_term_stays() -> None:
    # 14336 x 16 x 4096 in fp16 moves 118 MB: 35 us of DRAM, 1.9 us of tensor cores. Half the clock changes nothing.
    case = dense(14336, 4096, 16, "fp16")
    moved = 2 * (14336 * 4096 + 4096 * 16 + 14336 * 16)
    seconds, bound = held.sol_held(case, H100, 990e6)
    assert seconds == pytest.approx(moved / H100.dram_bandwidth, rel=1e-9)
    assert seconds == sol_case(case, H100)[0]
    assert bound == "memory"


def test_a_low_clock_can_change_what_binds() -> None:
    case = dense(4096, 4096, 256, "fp16")  # 8.68 us of compute at 1830 MHz, 11.3 us of memory
    assert sol_case(case, H100)[1] == "memory"
    seconds, bound = held.sol_held(case, H100, 915e6)
    assert bound == "compute"
    assert seconds == pytest.approx(2 * 2 * 4096 * 4096 * 256 / 989.5e12, rel=2e-4)


@pytest.mark.parametrize("device", ["h100", "h200", "H100-PCIe-80GB", "L40S"])
def test_documented_tensor_clocks_reproduce_the_printed_peaks(device: str) -> None:
    """SMs x FMA per SM and cycle x 2 x clock; 2048 FMA on Hopper, 512 on Ada."""
    sheet = hardware.datasheet(device)
    fma = 512 if device == "L40S" else 2048
    assert sheet.sm_count
    at_clock = sheet.sm_count * fma * 2 * held.printed_clock_hz(sheet, "fp16_flops")
    assert at_clock == pytest.approx(sheet.peak("fp16", "tensor"), rel=0.01)


def test_every_documented_device_is_in_the_table() -> None:
    assert set(held.TENSOR_CLOCK_HZ) <= set(hardware.names())


def test_elsewhere_the_boost_clock_is_the_tensor_clock() -> None:
    a100 = hardware.datasheet("a100")
    assert held.printed_clock_hz(a100, "fp16_flops") == held.printed_clock_hz(a100, "fp32_flops") == 1410e6


def test_ceilings_without_a_clock_are_refused() -> None:
    measured = Ceilings("cpu", "measured", {"fp32_flops": 1e11}, 1e10)
    with pytest.raises(UserError, match="name no clock"):
        held.at_clock(measured, 2e9)
    with pytest.raises(UserError, match="name no clock"):
        held.at_clock(replace(H100, boost_clock_hz=None), 2e9)


@pytest.mark.parametrize("clock", [0.0, -1.0, float("nan")])
def test_no_clock_is_none(clock: float) -> None:
    with pytest.raises(UserError, match="is none"):
        held.at_clock(H100, clock)


def test_the_clock_is_in_the_identity() -> None:
    assert held.at_clock(H100, 1755e6).identity == f"{H100.identity}@1755MHz"
    assert held.at_clock(H100, 1755e6).kind == "datasheet"
