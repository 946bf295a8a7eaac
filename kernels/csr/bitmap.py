"""``csr.bitmap``: unstructured weights at few columns, decoded from a bitmap into tensor-core registers.

Launch code and the choice of a variant; the device code is ``_bitmap.cu``, the layout ``bitmap_layout.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sparsity_roofline.kernels._cuda import compiled
from sparsity_roofline.kernels.csr.bitmap_layout import COLUMNS, BitmapOperand

if TYPE_CHECKING:
    import torch

HERE = Path(__file__).parent
HEADERS = (HERE / "_bitmap.cuh",)


class Tile(NamedTuple):
    """One compiled variant.

    Attributes:
        NT: columns of Y per block / 8.
        RT: strips of 16 rows per warp.
        WARPS: per block.
        PANELS: of 256 columns of W per step.
        STAGES: steps in shared memory.
        SPLITS: blocks that share the inner dimension.
        CLUSTER: 1 if these form a cluster and add up in shared memory (Hopper), 0 if through global memory.
    """

    NT: int
    RT: int
    WARPS: int
    PANELS: int
    STAGES: int
    SPLITS: int
    CLUSTER: int

    @property
    def rows(self) -> int:
        """Of Y per block."""
        return self.WARPS * self.RT * 16

    def shared(self, capacity: int) -> int:
        """Bytes of shared memory when a warp's values of one step take ``capacity`` bytes."""
        stage = self.PANELS * COLUMNS * self.NT * 16 + self.WARPS * self.RT * (self.PANELS * 512 + capacity)
        return max(self.STAGES * stage, self.rows * self.NT * 8 * 4 if self.CLUSTER else 0)


class Launcher:
    """A bitmap weight and one variant of the device code, ready to multiply.

    The sums of a split inner dimension meet in a workspace of its own, so two launches of one object must not overlap.
    """

    def __init__(self, operand: BitmapOperand, M: int, K: int, N: int, tile: Tile, module: compiled.Module) -> None:
        import torch

        self._operand, self._shape, self.tile = operand, (M, K, N), tile
        self.capacity = operand.capacity(tile.PANELS)
        steps = -(-operand.panels // tile.PANELS)
        self._steps = -(-steps // tile.SPLITS)
        self._grid = (-(-M // tile.rows), tile.SPLITS, -(-N // (tile.NT * 8)))
        self._function = module.function("bitmap_spmm", tile.shared(self.capacity))
        tiles = self._grid[0] * self._grid[2] if tile.SPLITS > 1 and not tile.CLUSTER else 0
        device = operand.masks.device
        self._partial = torch.empty(tiles * tile.SPLITS * tile.rows * tile.NT * 8, dtype=torch.float32, device=device)
        self._arrived = torch.zeros(tiles, dtype=torch.int32, device=device)
        self.workspace_bytes = self._partial.nbytes + self._arrived.nbytes

    def launch(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Enqueue Y = W @ X: x (K, N), y (M, N), contiguous."""
        M, K, N = self._shape
        vectors = N % 8 == 0 and x.data_ptr() % 16 == 0
        pairs = N % 2 == 0 and y.data_ptr() % 4 == 0
        self._function.launch(
            self._grid,
            self.tile.WARPS * 32,
            self._operand.masks,
            self._operand.offsets,
            self._operand.values,
            x,
            y,
            self._partial,
            self._arrived,
            M,
            K,
            N,
            self._operand.strips,
            self._operand.panels,
            self._steps,
            self.capacity,
            vectors | pairs << 1,
        )
