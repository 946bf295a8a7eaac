"""Counters of a call in the model's units. The numbers are an H100's (bsr.triton, block 64, 4096 x 4096 x 2048)."""

from __future__ import annotations

import pytest

from sparsity_roofline.bench.profile.facts import facts_of

BSR = {
    "name": "bsr_spmm",
    "gpu__time_duration.sum": 55296.0,
    "dram__bytes_read.sum": 25533440.0,
    "dram__bytes_write.sum": 4171008.0,
    "lts__t_sectors_srcunit_tex.sum": 10397937.0,
    "lts__t_sector_hit_rate.pct": 86.02760786738855,
    "lts__throughput.avg.pct_of_peak_sustained_elapsed": 65.6638770590172,
    "l1tex__t_sectors_pipe_lsu_mem_local_op_ld.sum": 0.0,
    "l1tex__t_sectors_pipe_lsu_mem_local_op_st.sum": 0.0,
    "gpc__cycles_elapsed.max": 102047.0,
    "sm__cycles_active.avg": 74779.95454545454,
    "sm__cycles_active.max": 85310.0,
    "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_elapsed": 34.68345905796167,
    "sm__ops_path_tensor_src_fp16.sum": 17179869184.0,
    "sm__ops_path_tensor_src_fp16.sum.peak_sustained": 540672.0,
    "sm__ops_path_tensor_src_tf32_dst_fp32.sum": 0.0,
    "sm__warps_active.avg.pct_of_peak_sustained_active": 16.723340520075368,
    "sm__maximum_warps_per_active_cycle_pct": 18.75,
    "launch__occupancy_limit_registers": 5.0,
    "launch__occupancy_limit_shared_mem": 3.0,
    "launch__occupancy_limit_warps": 16.0,
    "launch__occupancy_limit_blocks": 32.0,
    "launch__registers_per_thread": 90,
    "launch__shared_mem_per_block_allocated": 74880.0,
    "launch__block_size": 128,
    "launch__grid_size": 1024,
    "launch__waves_per_multiprocessor": 2.585858585858586,
    "smsp__average_warps_issue_stalled_long_scoreboard_per_issue_active.ratio": 2.9682130190483784,
    "smsp__average_warps_issue_stalled_barrier_per_issue_active.ratio": 1.2397571559507679,
    "smsp__average_warps_issue_stalled_selected_per_issue_active.ratio": 1.0,
    "smsp__average_warps_issue_stalled_not_selected_per_issue_active.ratio": 0.3,
}


def test_one_kernel() -> None:
    facts = facts_of([BSR])
    assert facts.kernels == ("bsr_spmm",)
    assert facts.dram == 25533440 + 4171008
    assert facts.l2_to_sm == 10397937 * 32
    assert facts.operations == 2 * 4096 * 4096 * 2048 / 4
    assert facts.tensor_use == pytest.approx(0.3468, abs=1e-4)
    assert facts.balance == pytest.approx(74779.95 / 85310, rel=1e-6)
    assert facts.busy == pytest.approx(85310 / 102047)
    assert (facts.limiter, facts.registers, facts.blocks) == ("shared memory", 90, 1024)
    assert facts.spilled == 0
    assert list(facts.stalls) == ["long_scoreboard", "barrier"]
    assert sum(facts.stalls.values()) == pytest.approx(1)


def test_kernels_of_one_call_add_up_and_shares_are_weighted_by_time() -> None:
    small = {
        "name": "reduce",
        "gpu__time_duration.sum": 55296.0 / 3,
        "dram__bytes_read.sum": 1e6,
        "dram__bytes_write.sum": 2e6,
        "lts__t_sector_hit_rate.pct": 10.0,
        "launch__registers_per_thread": 16,
    }
    facts = facts_of([BSR, small])
    assert facts.kernels == ("bsr_spmm", "reduce")
    assert facts.time_ns == pytest.approx(55296 * 4 / 3)
    assert facts.dram == 25533440 + 4171008 + 3e6
    assert facts.l2_hit == pytest.approx(0.75 * 0.8602760786738855 + 0.25 * 0.1)
    assert facts.registers == 90  # of the longest


def test_what_was_not_counted_is_none_not_zero() -> None:
    facts = facts_of([{"name": "k", "gpu__time_duration.sum": 1000.0}])
    assert facts.dram is None
    assert facts.l2_to_sm is None
    assert facts.operations is None
    assert facts.balance is None
    assert facts.spilled is None
    assert facts.limiter == ""
    assert not facts.stalls


def test_no_kernel_at_all() -> None:
    assert facts_of([]).kernels == ()
