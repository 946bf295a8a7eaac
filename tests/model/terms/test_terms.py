"""Each term by itself: the worked example of its docstring with units, and what must always hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsity_roofline.model.terms import l2, latency, tiles, traffic, walk, waves
from sparsity_roofline.model.terms.overlap import combine

SIZE = st.floats(1.0, 1e6)
SHARE = st.floats(0.0, 1.0)


def a(*values: float) -> np.ndarray:
    return np.asarray(values, dtype=np.float64)


class TestTiles:
    def test_100_by_100_needs_four_tiles_of_64_by_64(self) -> None:
        assert tiles.count(a(100), a(100), a(64), a(64)) == 4

    def test_147_elements_take_three_steps_of_64(self) -> None:
        assert tiles.steps(a(147), a(64)) == 3

    def test_padded_operations(self) -> None:
        issued = tiles.padded_flops(a(4), a(64), a(64), a(64))
        assert issued == 4 * 2 * 64**3 == 2_097_152
        assert issued > 2 * 100 * 100 * 64  # useful operations

    def test_rows_of_40_elements_take_about_3_steps_of_16(self) -> None:
        assert tiles.mean_steps(a(40), a(16), a(1)) == pytest.approx(2.96875)
        assert tiles.mean_steps(a(128), a(64), a(64)) == 2, "whole blocks make whole steps"
        assert tiles.mean_steps(a(0), a(16), a(1)) == 0

    def test_mean_steps_is_the_mean_of_whole_steps(self) -> None:
        lengths = np.random.default_rng(0).binomial(2000, 0.05, 20000)
        exact = np.ceil(lengths / 16).mean()
        assert tiles.mean_steps(a(lengths.mean()), a(16), a(1)) == pytest.approx(exact, rel=0.01)

    def test_55_kb_and_4_warps_leave_room_for_4_programs(self) -> None:
        assert tiles.resident(55 * 1024, 4, 128) == 4

    def test_a_program_that_fits_nowhere_still_runs_once(self) -> None:
        assert tiles.resident(1e9, 64, 255) == 1
        assert tiles.resident(0, 1, 1) == tiles.PROGRAMS

    def test_sums_of_128_by_256_leave_room_for_one(self) -> None:
        assert tiles.accumulators_held(a(128, 64, 8), a(256, 64, 8)).tolist() == [1, 8, 8]


class TestWaves:
    def test_109_tiles_on_108_multiprocessors_take_two_waves(self) -> None:
        assert waves.wave_factor(a(109), 108.0) == pytest.approx(2 / (109 / 108))

    def test_one_tile_leaves_131_of_132_idle(self) -> None:
        assert waves.wave_factor(a(1), 132.0) == pytest.approx(132)

    @given(st.integers(1, 10**6), st.integers(1, 200))
    def test_waves_never_help_and_cost_one_wave_at_most(self, count: int, slots: int) -> None:
        factor = float(waves.wave_factor(a(count), float(slots))[0])
        assert 1.0 - 1e-12 <= factor <= 1.0 + slots / count

    def test_one_long_row_sets_the_time(self) -> None:
        # 10 tiles of 3 on 5 slots: 6 each; one of 8 takes 8 / 6.
        assert waves.balance_factor(a(3), a(8), a(10), 5.0) == pytest.approx(8 / 6)

    def test_balance_is_the_lower_bound_of_every_schedule(self) -> None:
        rng = np.random.default_rng(1)
        for _ in range(50):
            work, slots = rng.integers(1, 30, rng.integers(1, 40)), int(rng.integers(1, 9))
            ends = np.zeros(slots)
            for w in sorted(work.tolist(), reverse=True):
                ends[ends.argmin()] += w
            shared = work.sum() / slots
            factor = float(waves.balance_factor(a(work.mean()), a(work.max()), a(len(work)), float(slots))[0])
            assert factor * shared <= ends.max() + 1e-9
            assert ends.max() <= 4 / 3 * factor * shared + work.max() / 3 + 1e-9

    def test_the_expected_longest_of_64_rows(self) -> None:
        # mean 64 of 256: sd 6.93, sqrt(2 ln 64) 2.88
        assert waves.expected_longest(a(64), a(256), a(64)) == pytest.approx(64 + 2.884 * 6.928, rel=1e-3)

    def test_the_expected_longest_against_drawn_masks(self) -> None:
        draws = np.random.default_rng(2).binomial(512, 0.25, (400, 128)).max(axis=1).mean()
        assert waves.expected_longest(a(128), a(512), a(128)) == pytest.approx(draws, rel=0.03)

    @given(SHARE, st.integers(1, 5000), st.integers(1, 5000))
    def test_the_longest_lies_between_mean_and_extent(self, density: float, extent: int, rows: int) -> None:
        longest = float(waves.expected_longest(a(density * extent), a(extent), a(rows))[0])
        assert density * extent - 1e-9 <= longest <= extent + 1e-9


class TestTraffic:
    def test_half_of_what_is_touched_fits(self) -> None:
        # 50 MB written, 50 MB read, 25 MB held: 50 (1 - 25 / 100) = 37.5 MB
        assert traffic.written_back(a(50e6), a(50e6), 25e6) == pytest.approx(37.5e6)

    def test_a_small_product_leaves_nothing_for_dram(self) -> None:
        assert traffic.written_back(a(1e6), a(2e6), 25e6) == 0
        assert traffic.written_back(a(0), a(0), 25e6) == 0

    @given(SIZE, SIZE, SIZE, SHARE)
    def test_never_below_what_the_bound_charges(
        self, output: float, read: float, capacity: float, share: float
    ) -> None:
        charged = float(traffic.written_back(a(output), a(read), share * capacity)[0])
        assert max(0.0, output - capacity) - 1e-6 * output <= charged <= output

    def test_bytes_of_a_tile(self) -> None:
        # fp16, K = 4096, 128 x 256: 4096 (128 + 256) 2 B = 3.1 MB
        assert traffic.tile_bytes(a(128), a(256), a(4096), a(2), a(4096), 2.0) == 4096 * 384 * 2
        # csr, one row of 10 elements with 4-byte indices: 10 (2 + 4) + 10 * 64 * 2 B
        assert traffic.tile_bytes(a(1), a(64), a(10), a(6), a(10), 2.0) == 10 * 6 + 10 * 64 * 2


class TestL2:
    def test_the_published_shares_of_an_h100(self) -> None:
        # 7.6 TB/s unshared, BN = 256, fp16: .12, .22, .39 and .66 of 989.4 TFLOP/s
        fed = l2.feed_flops(a(16, 32, 64, 128), a(256), 2.0, 7.6e12)
        assert (fed / 989.4e12).round(2).tolist() == [0.12, 0.22, 0.39, 0.66]
        assert fed.round(-12).tolist() == [114e12, 216e12, 389e12, 649e12]

    def test_times_add_not_rates(self) -> None:
        # a quarter at 14.5, three quarters at 7.7 TB/s
        assert float(l2.rate(7.7e12, 14.5e12, a(0.25))[0]) == pytest.approx(8.72e12, rel=1e-3)

    @given(SHARE, SHARE)
    def test_denser_is_never_slower(self, one: float, other: float) -> None:
        low, high = l2.rate(8e12, 14e12, np.sort(a(one, other)))
        assert 8e12 * (1 - 1e-12) <= low <= high * (1 + 1e-12) <= 14e12 * (1 + 2e-12)


class TestLatency:
    def test_loads_of_a_64_by_64_tile(self) -> None:
        assert latency.narrow_loads(a(4096), a(16, 8, 4, 2), 2.0).tolist() == [0, 1024, 2048, 4096]

    def test_a_load_brings_one_element_at_least(self) -> None:
        assert latency.narrow_loads(a(100), a(1), 4.0) == 100


class TestOverlap:
    def test_3_and_4_make_7_5_or_4(self) -> None:
        assert combine([a(3), a(4)], 1.0) == 7
        assert combine([a(3), a(4)], 2.0) == 5
        assert combine([a(3), a(4)], np.inf) == 4

    @given(st.lists(st.floats(0, 1e3), min_size=1, max_size=5), st.floats(1.0, 40.0))
    def test_between_the_largest_and_the_sum(self, times: list[float], p: float) -> None:
        total = float(combine([a(t) for t in times], p)[0])
        assert max(times) * (1 - 1e-12) <= total <= sum(times) * (1 + 1e-9) + 1e-300

    def test_nothing_takes_no_time(self) -> None:
        assert combine([a(0), a(0)], 1.5) == 0


class TestWalk:
    def test_two_block_rows_share_an_eighth_of_their_columns_at_a_quarter(self) -> None:
        assert walk.union(a(0.25), a(2)) == 0.4375
        assert walk.union(a(0.25), a(0.5)) == 0.25, "a tile lower than a block walks that block's columns"

    @given(SHARE, st.floats(0.1, 64.0))
    def test_a_union_lies_between_one_member_and_all_columns(self, density: float, members: float) -> None:
        share = float(walk.union(a(density), a(members))[0])
        assert density - 1e-12 <= share <= min(1.0, max(members, 1.0) * density + 1e-12)

    def test_a_union_against_drawn_masks(self) -> None:
        mask = np.random.default_rng(3).random((4, 100_000)) < 0.2
        assert walk.union(a(0.2), a(4)) == pytest.approx(mask.any(axis=0).mean(), abs=0.01)
