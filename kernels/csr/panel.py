"""``csr.panel``: unstructured weights in IEEE fp32 on CUDA cores, panels of X in shared memory.

Launch code and the choice of a variant; the device code is ``_panel.cu``, the layout ``panel_layout.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sparsity_roofline.kernels import convert
from sparsity_roofline.kernels._cuda import compiled, handles
from sparsity_roofline.kernels._cuda.kernel import CudaKernel
from sparsity_roofline.kernels._cuda.operands import Operands
from sparsity_roofline.kernels.csr._fit import shared_limit
from sparsity_roofline.kernels.csr.panel_layout import UNIT, PanelOperand, header_bytes, pack
from sparsity_roofline.kernels.protocol import Device, Prepared, Step, Support, no_step
from sparsity_roofline.model.case import Case, Format
from sparsity_roofline.model.dtype import Unit
from sparsity_roofline.model.matrix import Matrix

if TYPE_CHECKING:
    import torch

HERE = Path(__file__).parent
GRID_Z = 65535
SPARSE, DENSE = 0.05, 0.2
"""Below the one, rows of a panel are so short that four beside each other pay; above the other, elements need the
shared memory that wider groups of rows would take (H100: LOG.md)."""


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


def candidates(case: Case, clusters: bool) -> Iterator[Tile]:
    """Variants for a case, the best first; panels get narrower until the elements fit beside X."""
    sparse = case.density < SPARSE
    if case.N > 64:
        shapes = [Tile(128, 16, 16, 128, 2, 1, 0)] if case.M >= 4096 else []
        shapes += [Tile(128, 16, 8, 128, 2, 1, 0), Tile(128, 8, 16, 64, 2, 1, 0), Tile(128, 8, 8, 64, 2, 1, 0)]
        if case.density > DENSE:
            shapes = shapes[-3:]
    elif case.N > 32:
        splits = 2 if case.K <= 4096 else 4
        shapes = [Tile(32, 16, 2, 256, 2, 4, 0)] if sparse else [Tile(64, 16, 2, 256, 2, splits, 1)]
    elif case.N > 16:
        shapes = [Tile(32, 16, 2, 256, 2, 4, 0)]
    else:
        shapes = [Tile(16, 8, 1, 256, 2, 2 if case.K < 2048 else 4, int(case.K < 2048))]
    for tile in shapes:
        yield _split(tile, case, clusters)
    while tile.KP > 16:
        tile = tile._replace(KP=tile.KP // 2)
        yield _split(tile, case, clusters)


def _split(tile: Tile, case: Case, clusters: bool) -> Tile:
    """The tile with no more parts than there are panels, in a cluster only where there are clusters."""
    panels = max(-(-case.K // tile.KP), 1)
    splits = tile.SPLITS
    while splits > panels:
        splits //= 2
    return tile._replace(SPLITS=splits, CLUSTER=int(tile.CLUSTER and clusters and splits > 1))


class _Prepared:
    def __init__(self, operand: PanelOperand, tile: Tile, case: Case, device: torch.device) -> None:
        module = compiled.module(HERE / "_panel.cu", device, tuple(tile._asdict().items()))
        self._launcher = Launcher(operand, case.M, case.K, case.N, tile, module)
        self._operands = Operands(case.M, case.K, case.N, case.dtype, device)
        self.config: dict[str, Any] = {
            **tile._asdict(),
            "layout": "panels",
            "layout_bytes": operand.nbytes,
            "workspace_bytes": self._launcher.workspace_bytes,
            "row_order": "by falling length",
            "math": "ieee",
            "accumulate": "fp32",
            "deterministic": True,
        }

    def launch(self, x: torch.Tensor, y: torch.Tensor) -> None:
        self._operands.check(x, y)
        self._launcher.launch(x, y)


class CsrPanel(CudaKernel):
    """Unstructured fp32 weights on CUDA cores, IEEE arithmetic: any shape, one kernel a launch."""

    name = "csr.panel"
    format: Format = "csr"
    dtypes = ("fp32",)

    def unit(self, dtype: str, device: Device) -> Unit:
        return "cuda"

    def supports(self, case: Case, device: Device) -> Support:
        answer = super().supports(case, device)
        if answer and case.N > GRID_Z * 128:
            return Support(f"N exceeds {GRID_Z * 128}: choose csr.decode")
        if answer and case.nnz + case.M * (case.K // 16 + 1) >= 2**31:
            return Support("too large for the 32-bit offsets of the panel layout: choose csr.triton")
        return answer

    def prepare(self, matrix: Matrix, case: Case, device: Device, step: Step = no_step) -> Prepared:
        import torch

        where = handles.resolve(device)
        with step("convert"):
            weight = convert.csr_operand(matrix, case.dtype, where)
            limit = shared_limit(where)
            for tile in candidates(case, torch.cuda.get_device_properties(where).major == 9):
                expected = header_bytes(tile.rows) + int(tile.rows * tile.KP * case.density * UNIT / 2)
                if tile.shared(expected // UNIT) > limit:
                    continue
                operand = pack(weight, case.K, tile.rows, tile.KP, tile.BN * 4)
                if tile.shared(operand.longest) <= limit:
                    break
            handles.synchronize(where)
        with step("plan"):
            return _Prepared(operand, tile, case, where)


KERNELS = [CsrPanel()]
