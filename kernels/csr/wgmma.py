"""``csr.wgmma``: unstructured weights at many columns on Hopper, decoded from a bitmap into warpgroup-MMA registers.

Launch code and the choice of a variant; the device code is ``_wgmma.cu``, the layout ``bitmap_layout.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sparsity_roofline.kernels._cuda import compiled
from sparsity_roofline.kernels.csr.bitmap_layout import BitmapOperand

if TYPE_CHECKING:
    import torch

HERE = Path(__file__).parent
HEADERS = (HERE / "_bitmap.cuh",)
THREADS = 384
SHARED = 227 * 1024 - 512  # bytes a block may have, less what the device code declares itself


class Tile(NamedTuple):
    """One compiled variant.

    Attributes:
        BN: columns of Y per tile.
        XSTAGES: steps of 64 rows of X in shared memory.
        WSTAGES: panels of 256 columns of W in shared memory.
        CLUSTER: blocks that share X.
    """

    BN: int
    XSTAGES: int
    WSTAGES: int
    CLUSTER: int

    def shared(self, capacity: int) -> int:
        """Bytes of shared memory when the longest panel of a strip has ``capacity`` bytes of values."""
        return 1024 + self.XSTAGES * 128 * self.BN + self.WSTAGES * 8 * (512 + capacity)


class Launcher:
    """A bitmap weight and one variant of the device code, ready to multiply.

    The sums of a split inner dimension meet in a workspace of its own, so two launches of one object must not overlap.

    Args:
        parts: blocks that share the inner dimension.
        band: columns of tiles that are walked before the next ones.
    """

    def __init__(
        self,
        operand: BitmapOperand,
        M: int,
        K: int,
        N: int,
        tile: Tile,
        module: compiled.Module,
        parts: int = 1,
        band: int = 8,
    ) -> None:
        import torch

        self._operand, self._shape, self.tile = operand, (M, K, N), tile
        self._capacity = operand.capacity(1)
        self._parts, self._band = parts, band
        self._rows = -(-M // (128 * tile.CLUSTER))
        self._columns = -(-N // tile.BN)
        self._function = module.function("bitmap_wgmma", tile.shared(self._capacity))
        device = operand.masks.device
        resident = torch.cuda.get_device_properties(device).multi_processor_count // tile.CLUSTER
        self._grid = (min(self._rows * self._columns * parts, resident) * tile.CLUSTER,)
        tiles = self._rows * tile.CLUSTER * self._columns if parts > 1 else 0
        self._partial = torch.empty(tiles * parts * 128 * tile.BN, dtype=torch.float32, device=device)
        self._arrived = torch.zeros(tiles * 2, dtype=torch.int32, device=device)
        self.workspace_bytes = self._partial.nbytes + self._arrived.nbytes
        self._x: tuple[int, Any] = (0, None)

    def launch(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Enqueue Y = W @ X: x (K, N), y (M, N), contiguous."""
        M, K, N = self._shape
        if self._x[0] != x.data_ptr():
            self._x = x.data_ptr(), permuted(x)
        self._function.launch(
            self._grid,
            THREADS,
            self._x[1],
            self._operand.masks,
            self._operand.offsets,
            self._operand.values,
            y,
            self._partial,
            self._arrived,
            M,
            K,
            N,
            self._operand.strips,
            self._operand.panels,
            self._rows,
            self._columns,
            self._parts,
            self._band,
            self._capacity,
        )


def permuted(x: torch.Tensor) -> compiled.TensorMap:
    """X (K, N) as boxes of 32 rows by 64 columns, rows in the order of the bitmap layout's fragments.

    Row 8 t + 4 q + 2 h + e becomes row 16 q + 8 h + 2 t + e of its box.
    """
    return compiled.TensorMap(by_fragment(x), (2, 2, 4, 2, 64), swizzle=128)


def by_fragment(x: torch.Tensor) -> torch.Tensor:
    """X (K, N) as (q, h, t, e, N): a view whose rows follow the fragments; t runs over K / 8."""
    K, N = x.shape
    return x.as_strided((2, 2, K // 8, 2, N), (4 * N, 2 * N, 8 * N, N, 1))
