"""Which assumption broke: hand-worked cases with round numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsity_roofline.bench.profile.diagnose import Finding, Limits, diagnose, latency_words
from sparsity_roofline.bench.profile.facts import Facts

MEMORY = Limits(flops=1e6, bytes=1e8, peak=1e15, bandwidth=1e12, floor_s=1e-6, unit="tensor", l2_bandwidth=8e12)
"""100 us of bytes, 1 ns of operations."""

COMPUTE = Limits(flops=1e11, bytes=1e6, peak=1e15, bandwidth=1e12, floor_s=1e-6, unit="tensor", l2_bandwidth=8e12)
"""100 us of operations, 1 us of bytes."""


def by_term(found: list[Finding]) -> dict[str, Finding]:
    return {finding.term: finding for finding in found}


def test_twice_the_bytes_at_full_bandwidth() -> None:
    found = by_term(diagnose(MEMORY, Facts(("k",), 2e5, dram_read=1.5e8, dram_write=0.5e8), 200e-6))
    assert found["more bytes"].mended_s == pytest.approx(100e-6)
    assert found["more bytes"].speedup == pytest.approx(2)
    assert "2.00 times the compulsory 100.0 MB" in found["more bytes"].words
    assert "bandwidth" not in found  # it is reached: 200 MB in 200 us


def test_the_right_bytes_at_half_the_bandwidth() -> None:
    found = by_term(diagnose(MEMORY, Facts(("k",), 2e5, dram_read=1e8, dram_write=0.0), 200e-6))
    assert "more bytes" not in found
    assert found["bandwidth"].mended_s == pytest.approx(100e-6)


def test_extra_bytes_save_little_where_dram_does_not_hold() -> None:
    found = by_term(diagnose(MEMORY, Facts(("k",), 1e6, dram_read=2e8, dram_write=0.0), 1000e-6))
    assert found["more bytes"].mended_s == pytest.approx(900e-6)  # 100 MB at full bandwidth
    assert found["bandwidth"].mended_s == pytest.approx(200e-6)


def test_an_idle_pipe_and_padding() -> None:
    facts = Facts(("k",), 4e5, tensor_use=0.5, operations=2e11)
    found = by_term(diagnose(COMPUTE, facts, 400e-6))
    assert found["pipe idle"].mended_s == pytest.approx(200e-6)
    assert found["more operations"].mended_s == pytest.approx(300e-6)  # half of the 200 us of work is padding


def test_l2_holds_the_kernel() -> None:
    facts = Facts(("k",), 4e5, tensor_use=0.25, l2_to_sm=8e12 * 400e-6 * 0.9)
    found = by_term(diagnose(COMPUTE, facts, 400e-6))
    assert found["L2 traffic"].mended_s == pytest.approx(100e-6)
    assert "90% of the 8.0 measured" in found["L2 traffic"].words
    idle = Facts(("k",), 4e5, tensor_use=0.25, l2_to_sm=8e12 * 400e-6 * 0.3)
    assert "L2 traffic" not in by_term(diagnose(COMPUTE, idle, 400e-6))


def test_imbalance_and_launch_floor() -> None:
    found = by_term(diagnose(COMPUTE, Facts(("a", "b"), 2e5, balance=0.6, busy=0.5, waves=1.2), 200e-6))
    assert found["imbalance"].mended_s == pytest.approx(200e-6 * (1 - 0.5 * 0.4))
    assert "launch floor" not in found  # 2 us of 200 is 1 %
    short = Limits(flops=1e6, bytes=1e3, peak=1e15, bandwidth=1e12, floor_s=1e-6, unit="cuda")
    found = by_term(diagnose(short, Facts(("a", "b"), 4e3), 4e-6))
    assert found["launch floor"].mended_s == pytest.approx(2e-6)
    assert "2 kernels" in found["launch floor"].words


def test_the_words_for_waiting() -> None:
    facts = Facts(("k",), 1.0, stalls={"long_scoreboard": 0.6, "barrier": 0.2}, occupancy=0.17, occupancy_limit=0.19,
                  limiter="registers")  # fmt: skip
    words = latency_words(facts)
    assert words.startswith("warps wait: waiting for global memory (L1, L2 or DRAM) (60%)")
    assert words.endswith("17% of the warp slots are filled, 19% at most (held by registers)")
    assert latency_words(Facts(("k",), 1.0)) == ""


SHARE = st.floats(0.01, 1.0)


@given(SHARE, SHARE, SHARE, st.floats(1e5, 1e10), st.floats(1e5, 1e10), st.floats(1.0, 50.0), st.booleans())
def test_nothing_mends_beyond_the_limit_and_the_largest_gain_comes_first(
    use: float, balance: float, busy: float, dram: float, l2: float, slow: float, memory: bool
) -> None:
    limits = MEMORY if memory else COMPUTE
    time = slow * limits.sol_s
    facts = Facts(("k",), time * 1e9, dram_read=dram, dram_write=0.0, l2_to_sm=l2, tensor_use=use, balance=balance,
                  busy=busy, operations=2 * limits.flops)  # fmt: skip
    found = diagnose(limits, facts, time)
    for finding in found:
        assert limits.sol_s * (1 - 1e-12) <= finding.mended_s < time
        assert finding.speedup == pytest.approx(time / finding.mended_s)
    assert [f.speedup for f in found] == sorted((f.speedup for f in found), reverse=True)
