"""The bitmap layout, read back the way the device code reads it, by an independent model of its registers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sparsity_roofline.kernels.csr.bitmap_layout import BitmapOperand, bitmap_operand
from sparsity_roofline.kernels.csr.wgmma import by_fragment
from sparsity_roofline.model.matrix import Matrix


def fragments(operand: BitmapOperand, width: int) -> np.ndarray:
    """What every lane holds after decoding: (strips, panels, 4 parts, 32 lanes, 4 fragments, 4 registers, 2)."""
    masks = operand.masks.numpy().view(np.uint32)
    strips, panels = masks.shape[:2]
    bits = 32 // width
    out = np.zeros((strips, panels, 4, 32, 32))
    for strip, panel in np.ndindex(strips, panels):
        at = int(operand.offsets[strip * panels + panel]) * 16 // operand.values.element_size()
        for part in range(4):
            for lane in range(32):
                mask = int(masks[strip, panel, lane, part // width]) >> part % width * bits & ((1 << bits) - 1)
                for bit in range(bits):
                    if mask >> bit & 1:
                        out[strip, panel, part, lane, bit * width : (bit + 1) * width] = operand.values[at : at + width]
                        at += width
    return out.reshape(strips, panels, 4, 32, 4, 4, 2)


def dense_from_rows(held: np.ndarray) -> np.ndarray:
    """The dense matrix as ``_decode.cu`` writes it: a lane's 8 neighbouring columns of rows g and g + 8."""
    strips, panels = held.shape[:2]
    out = np.zeros((strips * 16, panels * 256))
    for strip, panel, word, lane, half, h in np.ndindex(strips, panels, 4, 32, 2, 2):
        a = held[strip, panel, word, lane, half * 2 : half * 2 + 2]
        k = panel * 256 + word * 64 + half * 32 + lane % 4 * 8
        out[strip * 16 + lane // 4 + h * 8, k : k + 8] = np.concatenate([a[0, h], a[0, 2 + h], a[1, h], a[1, 2 + h]])
    return out


def product_by_mma(held: np.ndarray, x: np.ndarray) -> np.ndarray:
    """W @ X out of m16n8k16 products whose B fragments come from the rows of X that ``_bitmap.cu`` reads."""
    strips, panels = held.shape[:2]
    x = np.vstack([x, np.zeros((panels * 256 - x.shape[0], x.shape[1]))])
    out = np.zeros((strips * 16, x.shape[1]))
    for strip, panel, word, q in np.ndindex(strips, panels, 4, 4):
        a = np.zeros((16, 16))
        for lane, r, e in np.ndindex(32, 4, 2):  # PTX ISA: A of m16n8k16, 16-bit
            row = lane // 4 + 8 * (r % 2)
            a[row, lane % 4 * 2 + e + 8 * (r // 2)] = held[strip, panel, word, lane, q, r, e]
        b = np.zeros((16, x.shape[1]))
        for matrix in range(2):
            for j in range(8):  # the row that lane j hands to ldmatrix, with e, h, t, q as the kernel computes them
                k = 8 * (j >> 1) + (j & 1) + 2 * matrix + 4 * (q & 1) + 32 * (q >> 1)
                b[8 * matrix + j] = x[panel * 256 + word * 64 + k]
        out[strip * 16 : strip * 16 + 16] += a @ b
    return out


@pytest.mark.parametrize(
    ("M", "K", "kept"), [(16, 256, 0.5), (33, 300, 0.2), (5, 40, 1.0), (48, 520, 0.02), (17, 256, 0.0)]
)
@pytest.mark.parametrize(("dtype", "width"), [("fp16", 1), ("fp16", 2), ("fp32", 1)])
def test_the_layout_holds_the_weight(M: int, K: int, kept: float, dtype: str, width: int) -> None:
    rng = np.random.default_rng(M)
    weight = rng.integers(1, 100, (M, K)).astype(np.float32) * (rng.random((M, K)) < kept)
    operand = bitmap_operand(Matrix.from_dense("w", weight), dtype, "cpu", width)
    held = fragments(operand, width)
    assert operand.strips == -(-M // 16)
    assert operand.panels == -(-K // 256)
    np.testing.assert_array_equal(dense_from_rows(held)[:M, :K], weight)
    assert np.count_nonzero(held) == np.count_nonzero(weight)
    x = rng.integers(-5, 5, (K, 3)).astype(float)
    np.testing.assert_array_equal(product_by_mma(held, x)[:M], weight @ x)


def test_capacity_is_the_longest_run_of_values() -> None:
    weight = np.zeros((32, 1024), dtype=np.float32)
    weight[16:, 300:900] = 1
    operand = bitmap_operand(Matrix.from_dense("w", weight), "fp16", "cpu")
    assert operand.capacity(1) == 16 * 256 * 2
    assert operand.capacity(2) == 16 * (900 - 512) * 2  # panels 2 and 3
    assert operand.capacity(4) == operand.capacity(7) == 16 * 600 * 2
    assert operand.nbytes == 2 * 4 * 512 + 9 * 4 + operand.values.nbytes


@pytest.mark.parametrize("tiles", [1, 2, 4, 8])
def test_ldmatrix_phases_touch_every_bank_group_once(tiles: int) -> None:
    """The scatter of ``_bitmap.cu``: rows 8 t + e (t < 4, e < 2) of any column unit lie in eight groups of 16 bytes."""

    def unit(k: int, c: int) -> int:
        e, t0, t1 = k & 1, k >> 3 & 1, k >> 4 & 1
        flip = {1: t0 << 1 | t1 << 2, 2: t0 | t1 << 2, 4: t0 | t1 << 1, 8: t0 | e << 1 | t1 << 2}[tiles]
        return (k * tiles + c) ^ flip

    for start in range(0, 256, 2):
        if start & 0b11000:
            continue
        for c in range(tiles):
            assert {unit(start + 8 * t + e, c) % 8 for t in range(4) for e in range(2)} == set(range(8))
    assert sorted(unit(k, c) for k in range(256) for c in range(tiles)) == list(range(256 * tiles))


def test_rows_of_x_follow_the_fragments() -> None:
    """The tensor map's view of X: what lies at row L of fragment q of a box is the column that A's k index L means."""
    x = torch.arange(64 * 3).view(64, 3)
    view = by_fragment(x)
    for start in (0, 32):
        box = view[:, :, start // 8 : start // 8 + 4].reshape(32, 3)  # (q, h, t, e) in memory order, t of this box
        for q, logical in np.ndindex(2, 16):
            h, t, e = logical // 8, logical % 8 // 2, logical % 2
            assert box[16 * q + logical].tolist() == x[start + 8 * t + 4 * q + 2 * h + e].tolist()
