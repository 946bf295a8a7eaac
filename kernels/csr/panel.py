"""``csr.panel``: unstructured weights in IEEE fp32 on CUDA cores, panels of X in shared memory.

Launch code and the choice of a variant; the device code is ``_panel.cu``, the layout ``panel_layout.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sparsity_roofline.kernels._cuda import compiled
from sparsity_roofline.kernels.csr.panel_layout import UNIT, PanelOperand

if TYPE_CHECKING:
    import torch

HERE = Path(__file__).parent


class Tile(NamedTuple):
    """One compiled variant.

    Attributes:
        BN: columns of Y per block; BN / 4 lanes take one row.
        WARPS: per block.
        SLOTS: rows that a lane takes one after the other.
        KP: rows of X per panel.
        STAGES: panels in shared memory.
        SPLITS: blocks that share the inner dimension.
        CLUSTER: 1 if these form a cluster and add up in shared memory (Hopper), 0 if through global memory.
    """

    BN: int
    WARPS: int
    SLOTS: int
    KP: int
    STAGES: int
    SPLITS: int
    CLUSTER: int

    @property
    def rows(self) -> int:
        """Of Y per block."""
        return self.WARPS * self.SLOTS * (128 // self.BN)

    def shared(self, longest: int) -> int:
        """Bytes of shared memory when the longest block of elements has ``longest`` units."""
        stage = (self.KP + 1) * self.BN * 4 + longest * UNIT
        return max(self.STAGES * stage, self.rows * self.BN * 4 if self.CLUSTER else 0)


class Launcher:
    """A weight in blocks and one variant of the device code, ready to multiply.

    The sums of a split inner dimension meet in a workspace of its own, so two launches of one object must not overlap.
    """

    def __init__(self, operand: PanelOperand, M: int, K: int, N: int, tile: Tile, module: compiled.Module) -> None:
        import torch

        self._operand, self._shape, self.tile = operand, (M, K, N), tile
        self._share = -(-operand.panels // tile.SPLITS)
        self._grid = (-(-M // tile.rows), tile.SPLITS, -(-N // tile.BN))
        self._function = module.function("panel_spmm", tile.shared(operand.longest))
        tiles = self._grid[0] * self._grid[2] if tile.SPLITS > 1 and not tile.CLUSTER else 0
        device = operand.starts.device
        self._partial = torch.empty(tiles * tile.SPLITS * tile.rows * tile.BN, dtype=torch.float32, device=device)
        self._arrived = torch.zeros(tiles, dtype=torch.int32, device=device)
        self.workspace_bytes = self._partial.nbytes + self._arrived.nbytes

    def launch(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Enqueue Y = W @ X: x (K, N), y (M, N), contiguous."""
        M, K, N = self._shape
        vectors = N % 4 == 0 and x.data_ptr() % 16 == 0 and y.data_ptr() % 16 == 0
        self._function.launch(
            self._grid,
            self.tile.WARPS * 32,
            self._operand.starts,
            self._operand.blocks,
            self._operand.order,
            x,
            y,
            self._partial,
            self._arrived,
            M,
            K,
            N,
            self._operand.panels,
            self._share,
            self._operand.longest * UNIT,
            int(vectors),
        )
