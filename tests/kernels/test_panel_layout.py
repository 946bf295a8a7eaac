"""The panel layout, multiplied the way the device code walks it."""

from __future__ import annotations

import numpy as np
import pytest

from sparsity_roofline.kernels.convert import csr_operand
from sparsity_roofline.kernels.csr.panel_layout import PanelOperand, header_bytes, pack
from sparsity_roofline.model.matrix import Matrix


def product(operand: PanelOperand, x: np.ndarray, M: int, rows: int, panel: int) -> np.ndarray:
    """W @ X by blocks: row starts from a block's head, elements in pairs, X by byte offset into a panel plus a row."""
    n = x.shape[1]
    row_bytes = 4 * n
    groups = -(-M // rows)
    x = np.vstack([x, np.zeros((operand.panels * panel - x.shape[0], n))])
    raw = operand.blocks.numpy().view(np.uint8).reshape(-1, 16)
    out = np.full((M, n), np.nan)
    for group in range(groups):
        sums = np.zeros((rows, n))
        for p in range(operand.panels):
            start, stop = operand.starts[group * operand.panels + p : group * operand.panels + p + 2]
            block = raw[start:stop]
            assert len(block) <= operand.longest
            shared = np.vstack([x[p * panel : (p + 1) * panel], np.zeros((1, n))])
            heads = block.reshape(-1).view(np.uint16)
            assert heads[0] * 16 == header_bytes(rows)
            assert heads[rows] == len(block)
            for row in range(rows):
                for unit in block[heads[row] : heads[row + 1]]:
                    values, offsets = unit.view(np.float32)[::2], unit.view(np.uint32)[1::2]
                    for value, offset in zip(values, offsets, strict=True):
                        assert offset % row_bytes == 0
                        sums[row] += value * shared[offset // row_bytes]
        for row in range(rows):
            if group * rows + row < M:
                out[operand.order[group * rows + row]] = sums[row]
    return out


@pytest.mark.parametrize(
    ("M", "K", "kept", "rows", "panel"),
    [(40, 70, 0.4, 16, 32), (33, 64, 0.1, 8, 64), (1, 5, 1.0, 4, 16), (20, 40, 0.0, 32, 16), (65, 130, 0.9, 64, 128)],
)
def test_the_layout_multiplies(M: int, K: int, kept: float, rows: int, panel: int) -> None:
    rng = np.random.default_rng(M)
    weight = rng.integers(1, 9, (M, K)).astype(np.float32) * (rng.random((M, K)) < kept * rng.random((M, 1)) * 2)
    operand = pack(csr_operand(Matrix.from_dense("w", weight), "fp32", "cpu"), K, rows, panel, 4 * 3)
    x = rng.integers(-9, 9, (K, 3)).astype(float)
    np.testing.assert_array_equal(product(operand, x, M, rows, panel), weight @ x)
    assert sorted(operand.order.tolist()) == list(range(M))


def test_a_block_too_long_for_its_row_starts_is_refused() -> None:
    weight = np.ones((512, 300), dtype=np.float32)
    with pytest.raises(OverflowError, match="panel layout"):
        pack(csr_operand(Matrix.from_dense("w", weight), "fp32", "cpu"), 300, 512, 300, 16)
