"""``nm.mma``: 2:4 weights on sparse tensor cores for few columns. Launch code; the device code is ``_mma.cu``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sparsity_roofline.kernels import convert
from sparsity_roofline.kernels._cuda import compiled, handles
from sparsity_roofline.kernels._cuda.kernel import CudaKernel
from sparsity_roofline.kernels._cuda.operands import Operands
from sparsity_roofline.kernels._cuda.spmm import ZeroPlan
from sparsity_roofline.kernels.nm import _pack
from sparsity_roofline.kernels.protocol import Device, Prepared, Step, Support, no_step
from sparsity_roofline.model.case import Case, Format
from sparsity_roofline.model.matrix import Matrix

if TYPE_CHECKING:
    import torch

SOURCE = Path(__file__).with_name("_mma.cu")
GRID_Y = 65535
WIDE_X, PAIRS_Y = 1, 2
"""Flags of a launch: X can be read 16 bytes at a time, Y written two values at a time."""


class Tile(NamedTuple):
    """One compiled variant.

    Attributes:
        columns: of Y per block: 8, 16, 32, 64 or 128.
        row_warps: warps of 32 rows each.
        k_warps: groups of ``row_warps`` warps that share a block's part of K.
        stages: of the ring in shared memory, 128 columns of W each.
        blocks: on a multiprocessor.
    """

    columns: int
    row_warps: int
    k_warps: int
    stages: int
    blocks: int

    @property
    def threads(self) -> int:
        return 32 * self.row_warps * self.k_warps

    @property
    def partial_bytes(self) -> int:
        """One group's fp32 sums."""
        return self.row_warps * 32 * self.columns * 4

    @property
    def shared(self) -> int:
        """Bytes: the rings of all groups, and the sums that the other groups hand to the first."""
        stage = self.row_warps * _pack.MMA_BYTES + _pack.MMA_COLUMNS * self.columns * 2
        return self.k_warps * self.stages * stage + (self.k_warps - 1) * self.partial_bytes

    def defines(self, dtype: str) -> tuple[tuple[str, int], ...]:
        """Macros of ``_mma.cu``."""
        return (
            ("NT", self.columns),
            ("WR", self.row_warps),
            ("WK", self.k_warps),
            ("STAGES", self.stages),
            ("BF16", int(dtype == "bf16")),
        )


def choose(N: int) -> Tile:
    """The variant for N columns."""
    if N <= 8:
        return Tile(8, 4, 1, 4, 2)
    if N <= 16:
        return Tile(16, 4, 1, 4, 2)
    if N <= 32:
        return Tile(32, 4, 1, 4, 2)
    return Tile(64, 4, 1, 3, 2)


def is_two_of_four(case: Case) -> bool:
    """Does every mask of the case's pattern have at most two elements in each aligned group of four columns?"""
    return (case.m == 4 and case.n <= 2) or (case.n, case.m) == (1, 2)


class _Prepared:
    def __init__(self, units: torch.Tensor, tile: Tile, case: Case) -> None:
        import torch

        device = units.device
        self._units, self._case = units, case
        self._operands = Operands(case.M, case.K, case.N, case.dtype, device)
        function = compiled.module(SOURCE, device, tile.defines(case.dtype)).function("nm_mma", tile.shared)
        self._function, self._threads = function, tile.threads
        block_rows = -(-units.shape[0] // tile.row_warps)
        panels = -(-case.N // tile.columns)
        resident = torch.cuda.get_device_properties(device).multi_processor_count * tile.blocks
        total = block_rows * units.shape[1]
        ranges = min(max(resident // panels, 1), total)
        self._share = divmod(total, ranges)
        self._grid = (ranges, panels)
        # Each block leaves at most two partial sums: of the block row it starts in and of the one it ends in.
        self._partial = torch.empty(2 * ranges * panels * tile.partial_bytes, dtype=torch.uint8, device=device)
        self._arrived = torch.zeros(panels * block_rows, dtype=torch.int32, device=device)
        self.config: dict[str, Any] = {
            **tile._asdict(),
            "ranges": ranges,
            "position_bits": 2,
            "weight_bytes": units.nbytes,
            "workspace_bytes": self._partial.nbytes + self._arrived.nbytes,
            "math": "mma.sp.m16n8k32",
            "accumulate": "fp32",
            "deterministic": True,
        }

    def launch(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """See ``Prepared.launch``. Launches share a workspace: on one stream at a time."""
        self._operands.check(x, y)
        c = self._case
        flags = WIDE_X * (c.N % 8 == 0 and x.data_ptr() % 16 == 0) + PAIRS_Y * (c.N % 2 == 0 and y.data_ptr() % 4 == 0)
        arguments = (self._units, x, y, self._partial, self._arrived, c.M, c.N, c.K, *self._share, flags)
        self._function.launch(self._grid, self._threads, *arguments)


class NmMma(CudaKernel):
    """2:4 (or sparser) weights in 16 bits, any shape; W is read once per 64 columns, at 1.125 bytes an element."""

    name = "nm.mma"
    format: Format = "nm"

    def supports(self, case: Case, device: Device) -> Support:
        answer = super().supports(case, device)
        if not answer:
            return answer
        if not is_two_of_four(case):
            return Support(f"multiplies 2:4 (and 1:4, 1:2), not {case.n}:{case.m}: use nm.triton")
        if (limit := GRID_Y * choose(case.N).columns) < case.N:
            return Support(f"at most {limit} columns, not {case.N}: use nm.triton")
        return answer

    def prepare(self, matrix: Matrix, case: Case, device: Device, step: Step = no_step) -> Prepared:
        where = handles.resolve(device)
        if 0 in (case.M, case.K, case.N):
            return ZeroPlan(case, where)
        with step("convert"):
            operand = convert.nm_operand(matrix, 2, 4, case.dtype, where)
        with step("pack"):
            units = _pack.mma_units(operand)
            handles.synchronize(where)
        return _Prepared(units, choose(case.N), case)


KERNELS = [NmMma()]
