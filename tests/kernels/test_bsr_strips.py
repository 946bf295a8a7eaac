"""The layout of ``bsr.wgmma`` unpacked by a reader of its own, and the order that brings like block rows together."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsity_roofline.kernels.bsr._strips import Strips, order_by_overlap, piece_of, strips_of
from sparsity_roofline.kernels.bsr.mma import slices_of
from sparsity_roofline.kernels.convert import BsrOperand, by_falling_length


def weight(mask: np.ndarray, r: int, c: int, seed: int = 0) -> tuple[BsrOperand, torch.Tensor]:
    """Blocks of a mask, and the dense weight they are."""
    held = torch.from_numpy(mask)
    at = held.nonzero()
    indptr = torch.zeros(mask.shape[0] + 1, dtype=torch.int32)
    indptr[1:] = held.sum(1).cumsum(0).int()
    values = torch.randn(at.shape[0], r, c, generator=torch.Generator().manual_seed(seed)).half()
    dense = torch.zeros(*mask.shape, r, c)
    dense[at[:, 0], at[:, 1]] = values.float()
    rows, cols = mask.shape
    return BsrOperand(indptr, at[:, 1].int(), values), dense.permute(0, 2, 1, 3).reshape(rows * r, cols * c)


def unpack(s: Strips, M: int, K: int) -> torch.Tensor:
    """The dense weight, by the words of ``Strips`` and the order of core matrices that the MMA's descriptor names."""
    out = torch.zeros(M, K)
    packed, flat = s.step // s.piece, s.tiles.float()
    m, k = np.meshgrid(np.arange(64), np.arange(s.piece), indexing="ij")
    at = k // 16 * 1024 + k % 16 // 8 * 512 + m // 8 * 64 + m % 8 * 8 + k % 8
    tile = 0
    for group, units in enumerate(s.rows.tolist()):
        for step in range(int(s.starts[group]), int(s.starts[group + 1])):
            *columns, first, mask = s.meta[step].tolist()
            assert first == tile
            assert mask
            for bit in range(s.strips * packed):
                if not mask >> bit & 1:
                    continue
                strip, i = divmod(bit, packed)
                values = flat[tile][torch.from_numpy(at)]
                tile += 1
                assert columns[i] >= 0
                for quarter in range(4):
                    row, part = units[strip * 4 + quarter], values[quarter * 16 : quarter * 16 + 16]
                    if row < 0:
                        assert not part.any()
                    else:
                        out[row : row + 16, columns[i] * s.piece : (columns[i] + 1) * s.piece] += part
    return out


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([(16, 16), (32, 32), (64, 64), (128, 128), (48, 16), (32, 64), (64, 32), (16, 128), (80, 48)]),
    st.integers(1, 4),
    st.sampled_from([32, 64]),
    st.integers(1, 9),
    st.integers(1, 6),
    st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    st.integers(0, 99),
)
def test_every_stored_element_is_found_where_the_mma_reads_it(
    block: tuple[int, int], strips: int, step: int, block_rows: int, block_cols: int, density: float, seed: int
) -> None:
    r, c = block
    rng = np.random.default_rng(seed)
    operand, dense = weight(rng.random((block_rows, block_cols)) < density, r, c)
    order = torch.from_numpy(rng.permutation(block_rows)).int()
    packed = strips_of(operand, order, block_cols * c, strips, step)
    assert torch.equal(unpack(packed, block_rows * r, block_cols * c), dense)
    rows = packed.rows.view(-1)
    assert sorted(rows[rows >= 0].tolist()) == list(range(0, block_rows * r, 16))


def test_pieces_are_what_a_block_consists_of() -> None:
    assert [piece_of(c) for c in (16, 32, 48, 64, 96, 128, 192, 8, 20)] == [16, 32, 16, 64, 32, 64, 64, 0, 0]


@pytest.mark.parametrize("members", [1, 2, 3, 5])
def test_order_by_overlap_is_a_permutation_and_shrinks_unions(members: int) -> None:
    rng = np.random.default_rng(3)
    mask = rng.random((64, 64)) < 0.25
    operand, _ = weight(mask, 16, 16)
    order = order_by_overlap(operand, 1024, members).numpy()
    assert sorted(order) == list(range(64))

    def union(rows: np.ndarray) -> int:
        return sum(int(mask[rows[i : i + members]].any(0).sum()) for i in range(0, 64, members))

    before = union(by_falling_length(operand.indptr).numpy())
    assert union(order) == before if members == 1 else union(order) < 0.95 * before


def test_rows_that_are_alike_end_up_in_one_run() -> None:
    kinds = np.kron(np.eye(4, dtype=bool), np.ones((1, 5), dtype=bool))  # four disjoint sets of columns
    mask = kinds[np.random.default_rng(0).permutation(np.repeat(np.arange(4), 3))]
    operand, _ = weight(mask, 16, 16)
    runs = mask[order_by_overlap(operand, 320, 3).numpy()].reshape(4, 3, -1)
    assert (runs == runs[:, :1]).all()


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([(16, 16, 1), (32, 16, 2), (32, 32, 1), (64, 64, 2), (64, 32, 4), (128, 128, 4), (96, 48, 2)]),
    st.integers(1, 6),
    st.integers(1, 5),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.integers(0, 99),
)
def test_slices_hold_every_element_in_the_registers_order(
    block: tuple[int, int, int], block_rows: int, block_cols: int, density: float, seed: int
) -> None:
    r, c, units = block
    operand, dense = weight(np.random.default_rng(seed).random((block_rows, block_cols)) < density, r, c)
    tiles, columns, groups = slices_of(operand, units)
    row, k = np.meshgrid(np.arange(16), np.arange(16), indexing="ij")
    lane = row % 8 * 4 + k % 8 // 2  # m16n8k16: the lane and, of its eight values, the one at (row, k)
    at = torch.from_numpy(lane * 8 + k // 8 * 4 + row // 8 * 2 + k % 2)
    out = torch.zeros_like(dense)
    for first_tile, first_column, count, first_row in groups.tolist():
        for i in range(count):
            k0 = int(columns[first_column + i]) * 16
            for u in range(units):
                part = tiles[first_tile + i].view(units, 256)[u].float()[at]
                out[first_row + 16 * u : first_row + 16 * u + 16, k0 : k0 + 16] += part
    assert torch.equal(out, dense)
    lengths = groups[:, 2].tolist()
    assert lengths == sorted(lengths, reverse=True)
    assert sorted(groups[:, 3].tolist()) == list(range(0, block_rows * r, 16 * units))
