"""``csr.wgmma``: unstructured weights at many columns on Hopper, decoded from a bitmap into warpgroup-MMA registers.

Launch code and the choice of a variant; the device code is ``_wgmma.cu``, the layout ``bitmap_layout.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sparsity_roofline.kernels._cuda import compiled, handles
from sparsity_roofline.kernels._cuda.kernel import CudaKernel
from sparsity_roofline.kernels._cuda.operands import Operands
from sparsity_roofline.kernels.csr.bitmap_layout import COLUMNS, BitmapOperand, bitmap_operand, fits
from sparsity_roofline.kernels.protocol import Device, Prepared, Step, Support, no_step
from sparsity_roofline.model.case import Case, Format
from sparsity_roofline.model.matrix import Matrix

if TYPE_CHECKING:
    import torch

HERE = Path(__file__).parent
HEADERS = (HERE / "_bitmap.cuh",)
THREADS = 384
BAND = 8  # columns of tiles that are walked before the next ones
SHARED = 227 * 1024 - 512  # bytes a block may have, less what the device code declares itself


class Tile(NamedTuple):
    """One compiled variant.

    Attributes:
        BN: columns of Y per tile.
        XSTAGES: steps of 64 rows of X in shared memory.
        WSTAGES: panels of 256 columns of W in shared memory.
    """

    BN: int
    XSTAGES: int
    WSTAGES: int

    def shared(self, capacity: int) -> int:
        """Bytes of shared memory when the longest panel of a strip has ``capacity`` bytes of values."""
        return 1024 + self.XSTAGES * 128 * self.BN + self.WSTAGES * 8 * (256 + capacity)


class Launcher:
    """A bitmap weight (width 2) and one variant of the device code, ready to multiply.

    The sums of a split inner dimension meet in a workspace of its own, so two launches of one object must not overlap.

    Args:
        parts: blocks that share the inner dimension.
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
    ) -> None:
        import torch

        self._operand, self._shape, self.tile = operand, (M, K, N), tile
        self._capacity = operand.capacity(1)
        self._parts = parts
        self._rows, self._columns = -(-M // 128), -(-N // tile.BN)
        self._function = module.function("bitmap_wgmma", tile.shared(self._capacity))
        device = operand.masks.device
        resident = torch.cuda.get_device_properties(device).multi_processor_count
        self._grid = (min(self._rows * self._columns * parts, resident),)
        tiles = self._rows * self._columns if parts > 1 else 0
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
            BAND,
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


STEP_CYCLES = {64: 640, 128: 830, 256: 1130}
"""Of a step of 64 columns of W, by BN: below 256 what a warp needs to decode it, at 256 the tensor cores (H100)."""

TILE_CYCLES, PART_CYCLES = 5000, 12
"""Of starting and storing a tile; of adding up parts, for each part and column."""


def choose(M: int, K: int, N: int, multiprocessors: int) -> tuple[int, int]:
    """BN and parts of least cost: rounds of tiles over the multiprocessors times the cycles of one."""

    def cost(plan: tuple[int, int]) -> float:
        BN, parts = plan
        tiles = -(-M // 128) * -(-N // BN) * parts
        steps = -(-panels // parts) * (COLUMNS // 64)
        one = steps * STEP_CYCLES[BN] + TILE_CYCLES + (PART_CYCLES * parts * BN if parts > 1 else 0)
        return -(-tiles // multiprocessors) * one

    panels = max(-(-K // COLUMNS), 1)
    return min([(BN, parts) for BN in STEP_CYCLES for parts in (1, 2, 4, 8) if parts <= panels], key=cost)


def variant(BN: int, capacity: int) -> Tile:
    """The variant with two panels of W and as many steps of X as shared memory holds beside them."""
    for count in range({64: 8, 128: 6, 256: 4}[BN], 1, -1):
        tile = Tile(BN, count, 2)
        if tile.shared(capacity) <= SHARED:
            return tile
    return Tile(64, 2, 1)


class _Prepared:
    def __init__(self, operand: BitmapOperand, case: Case, device: torch.device) -> None:
        import torch

        count = torch.cuda.get_device_properties(device).multi_processor_count
        BN, parts = choose(case.M, case.K, case.N, count)
        tile = variant(BN, operand.capacity(1))
        defines = (("BF16", int(case.dtype == "bf16")), *tile._asdict().items())
        module = compiled.module(HERE / "_wgmma.cu", device, defines, HEADERS)
        self._launcher = Launcher(operand, case.M, case.K, case.N, tile, module, parts)
        self._operands = Operands(case.M, case.K, case.N, case.dtype, device, alignment=16)
        self.config: dict[str, Any] = {
            **tile._asdict(),
            "parts": parts,
            "band": BAND,
            "layout": "bitmap, 2 elements to a bit",
            "layout_bytes": operand.nbytes,
            "workspace_bytes": self._launcher.workspace_bytes,
            "math": case.dtype,
            "accumulate": "fp32",
            "deterministic": True,
        }

    def launch(self, x: torch.Tensor, y: torch.Tensor) -> None:
        self._operands.check(x, y)
        self._launcher.launch(x, y)


class CsrWgmma(CudaKernel):
    """Unstructured 16-bit weights on Hopper's warpgroup MMA: W stays compressed up to the registers, fp32 sums."""

    name = "csr.wgmma"
    format: Format = "csr"
    capability = (9, 0)

    def supports(self, case: Case, device: Device) -> Support:
        answer = super().supports(case, device) and fits(case)
        if answer and (case.N % 8 or case.K % 8 or not case.K):
            return Support(f"K and N must be multiples of 8, not {case.K} and {case.N}: choose csr.decode")
        return answer

    def prepare(self, matrix: Matrix, case: Case, device: Device, step: Step = no_step) -> Prepared:
        where = handles.resolve(device)
        with step("convert"):
            operand = bitmap_operand(matrix, case.dtype, where, 2)
            handles.synchronize(where)
        with step("plan"):
            return _Prepared(operand, case, where)


KERNELS = [CsrWgmma()]
