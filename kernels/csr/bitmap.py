"""``csr.bitmap``: unstructured weights at few columns, decoded from a bitmap into tensor-core registers.

Launch code and the choice of a variant; the device code is ``_bitmap.cu``, the layout ``bitmap_layout.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sparsity_roofline.kernels._cuda import compiled, handles
from sparsity_roofline.kernels._cuda.kernel import CudaKernel
from sparsity_roofline.kernels._cuda.operands import Operands
from sparsity_roofline.kernels.csr._fit import first_fitting, shared_limit
from sparsity_roofline.kernels.csr.bitmap_layout import COLUMNS, BitmapOperand, bitmap_operand, fits
from sparsity_roofline.kernels.protocol import Device, Prepared, Step, Support, no_step
from sparsity_roofline.model.case import Case, Format
from sparsity_roofline.model.matrix import Matrix

if TYPE_CHECKING:
    import torch

HERE = Path(__file__).parent
HEADERS = (HERE / "_bitmap.cuh",)
GRID_Z = 65535
BLOCKS_EACH = 4  # blocks that a multiprocessor should have at least
MANY_BLOCKS = 6  # from here on other blocks hide what a ring of steps would


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
        stage = self.PANELS * COLUMNS * self.NT * 16 + self.WARPS * self.RT * (self.PANELS * 256 + capacity)
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


def candidates(M: int, K: int, N: int, multiprocessors: int, clusters: bool) -> list[Tile]:
    """Variants for a shape, the best first; the last one fits any weight into 96 KiB of shared memory.

    N decides the columns of a block. The inner dimension is split until every multiprocessor has blocks to change
    between: what these wait for is the memory's latency (see LOG.md).
    """
    NT = next(n for n in (1, 2, 4, 8) if n * 8 >= min(N, 64))
    warps, strips = (4, 2) if NT == 8 else (4, 1)
    panels = max(-(-K // COLUMNS), 1)
    blocks = -(-M // (warps * strips * 16)) * -(-N // (NT * 8))
    splits = 1
    while splits < 8 and splits * 2 <= panels and blocks * splits < BLOCKS_EACH * multiprocessors:
        splits *= 2
    cluster = int(clusters and splits > 1)
    stages = 1 if blocks * splits >= MANY_BLOCKS * multiprocessors else 2
    first = Tile(NT, strips, warps, 1, stages, splits, cluster)
    return [first, first._replace(STAGES=1), Tile(NT, 1, 2, 1, 1, splits, cluster)]


class _Prepared:
    def __init__(self, operand: BitmapOperand, case: Case, device: torch.device) -> None:
        import torch

        properties = torch.cuda.get_device_properties(device)
        tiles = candidates(case.M, case.K, case.N, properties.multi_processor_count, properties.major == 9)
        limit = shared_limit(device)
        tile = first_fitting(tiles, lambda tile: tile.shared(operand.capacity(tile.PANELS)), limit) or tiles[-1]
        defines = (("BF16", int(case.dtype == "bf16")), *tile._asdict().items())
        module = compiled.module(HERE / "_bitmap.cu", device, defines, HEADERS)
        self._launcher = Launcher(operand, case.M, case.K, case.N, tile, module)
        self._operands = Operands(case.M, case.K, case.N, case.dtype, device)
        self.config: dict[str, Any] = {
            **tile._asdict(),
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


class CsrBitmap(CudaKernel):
    """Unstructured 16-bit weights on tensor cores for few columns: any shape, summed in fp32, one kernel a launch."""

    name = "csr.bitmap"
    format: Format = "csr"

    def supports(self, case: Case, device: Device) -> Support:
        answer = super().supports(case, device) and fits(case)
        if answer and case.N > GRID_Z * 64:
            return Support(f"N exceeds {GRID_Z * 64}: choose csr.decode")
        return answer

    def prepare(self, matrix: Matrix, case: Case, device: Device, step: Step = no_step) -> Prepared:
        where = handles.resolve(device)
        with step("convert"):
            operand = bitmap_operand(matrix, case.dtype, where, 2)
            handles.synchronize(where)
        with step("plan"):
            return _Prepared(operand, case, where)


KERNELS = [CsrBitmap()]
