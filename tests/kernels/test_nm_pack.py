"""Packed 2:4 weights, read back lane by lane as the PTX ISA words it, against the dense weight."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsity_roofline.kernels.convert import nm_operand, stored_as_dense
from sparsity_roofline.kernels.nm import _pack
from sparsity_roofline.model.matrix import Matrix
from sparsity_roofline.model.pattern import Pattern


def weight(M: int, K: int, seed: int, kept: float = 1.0) -> Matrix:
    """At most two of every four columns, at random places."""
    rng = np.random.default_rng(seed)
    groups = -(-K // 4)
    keep = (rng.random((M, groups, 4)).argsort(2) < 2) & (rng.random((M, groups, 4)) < kept)
    dense = (rng.integers(1, 2048, (M, K)) * keep.reshape(M, -1)[:, :K]).astype(np.float32)
    return Matrix.from_dense("test", dense, pattern=Pattern.parse("2:4"))


def words(unit: np.ndarray) -> np.ndarray:
    return unit.view(np.uint32)


def scatter(out: np.ndarray, row: int, group: int, values: list[float], nibble: int) -> None:
    """Place two kept values by their positions; positions must ascend."""
    low, high = nibble & 3, nibble >> 2
    assert low < high
    out[row, 4 * group + low] += values[0]
    out[row, 4 * group + high] += values[1]


def metadata_word(lanes: np.ndarray, selector: int, row: int, half: int) -> int:
    """Metadata of 16 columns: lane 4 g + 2 selector + half holds rows g (low 16 bits) and g + 8 (high)."""
    word = int(lanes[4 * (row % 8) + 2 * selector + half])
    return word >> 16 if row >= 8 else word & 0xFFFF


def fragment_16x16(registers: np.ndarray) -> np.ndarray:
    """The A operand of m16n8k16 from its four registers a lane, (32, 4) words of two fp16: PTX ISA's formula."""
    out = np.zeros((16, 16), dtype=np.float16)
    for lane in range(32):
        for i in range(8):
            row = lane // 4 + (8 if i in (2, 3, 6, 7) else 0)
            column = lane % 4 * 2 + (i & 1) + (8 if i >= 4 else 0)
            out[row, column] = registers[lane].view(np.float16)[i]
    return out


def from_mma(units: np.ndarray) -> np.ndarray:
    groups, chunks, _ = units.shape
    out = np.zeros((groups * 32, chunks * 128))
    for g in range(groups):
        for c in range(chunks):
            pieces = words(np.ascontiguousarray(units[g, c])).reshape(9, 32, 4)
            for step in range(4):
                for tile in range(2):
                    kept = fragment_16x16(pieces[2 * step + tile])
                    for row in range(16):
                        for quarter in range(8):
                            meta = metadata_word(pieces[8][:, step], tile, row, quarter // 4)
                            values = kept[row, 2 * quarter : 2 * quarter + 2]
                            nibble = meta >> 4 * (quarter % 4) & 15
                            scatter(out, g * 32 + tile * 16 + row, c * 32 + step * 8 + quarter, list(values), nibble)
    return out


def from_wgmma(units: np.ndarray) -> np.ndarray:
    groups, steps, _ = units.shape
    out = np.zeros((groups * 64, steps * 64))
    for group in range(groups):
        for step in range(steps):
            unit = np.ascontiguousarray(units[group, step])
            lanes = words(unit[2048:]).reshape(4, 32)
            for k32 in range(2):
                core = unit[k32 * 1024 :][:1024].view(np.float16)
                for row in range(64):
                    for quarter in range(8):
                        # leading offset 128 bytes between halves, stride offset 256 bytes between 8-row groups
                        at = row // 8 * 128 + quarter // 4 * 64 + row % 8 * 8 + quarter % 4 * 2
                        meta = metadata_word(lanes[row // 16], k32, row % 16, quarter // 4)
                        nibble = meta >> 4 * (quarter % 4) & 15
                        column = step * 16 + k32 * 8 + quarter
                        scatter(out, group * 64 + row, column, list(core[at : at + 2]), nibble)
    return out


READERS = {"mma": (_pack.mma_units, from_mma), "wgmma": (_pack.wgmma_units, from_wgmma)}


@pytest.mark.parametrize("layout", READERS)
@pytest.mark.parametrize(
    ("M", "K", "kept"), [(64, 256, 1.0), (33, 130, 0.5), (1, 3, 1.0), (130, 70, 0.8), (16, 64, 0.0)]
)
def test_reads_back(layout: str, M: int, K: int, kept: float) -> None:
    matrix = weight(M, K, M + K, kept)
    pack, read = READERS[layout]
    units = pack(nm_operand(matrix, 2, 4, "fp16", "cpu"))
    assert units.is_contiguous()
    out = read(units.numpy())
    dense = stored_as_dense(matrix, "fp16", "cpu").double().numpy()
    assert np.array_equal(out[:M, :K], dense)
    out[:M, :K] = 0
    assert not out.any()


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 40), st.integers(1, 140), st.floats(0, 1), st.integers(0, 99))
def test_reads_back_whatever_is_missing(M: int, K: int, kept: float, seed: int) -> None:
    matrix = weight(M, K, seed, kept)
    out = from_mma(_pack.mma_units(nm_operand(matrix, 2, 4, "fp16", "cpu")).numpy())
    assert np.array_equal(out[:M, :K], stored_as_dense(matrix, "fp16", "cpu").double().numpy())


def test_bytes() -> None:
    operand = nm_operand(weight(256, 256, 0), 2, 4, "bf16", "cpu")
    for units, size in ((_pack.mma_units(operand), _pack.MMA_BYTES), (_pack.wgmma_units(operand), _pack.WGMMA_BYTES)):
        assert units.dtype == torch.int16
        assert units.shape[2] * 2 == size
        assert units.numel() * 2 == 256 * 256 * 9 // 8
