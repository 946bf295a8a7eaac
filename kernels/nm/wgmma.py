"""``nm.wgmma``: 2:4 weights on Hopper's sparse warpgroup MMA. Launch code; the device code is ``_wgmma.cu``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sparsity_roofline.kernels import convert
from sparsity_roofline.kernels._cuda import compiled, handles
from sparsity_roofline.kernels._cuda.kernel import CudaKernel
from sparsity_roofline.kernels._cuda.operands import Operands
from sparsity_roofline.kernels._cuda.spmm import ZeroPlan
from sparsity_roofline.kernels.nm import _pack
from sparsity_roofline.kernels.nm.mma import is_two_of_four
from sparsity_roofline.kernels.protocol import Device, Prepared, Step, Support, no_step
from sparsity_roofline.model.case import Case, Format
from sparsity_roofline.model.matrix import Matrix

if TYPE_CHECKING:
    import torch

SOURCE = Path(__file__).with_name("_wgmma.cu")
BOX_ROWS = 64  # rows of X in a stage
MAX_STAGES = 32
SHARED_LIMIT = 228 * 1024  # of a multiprocessor
SHARED_EXTRA = 2048  # of every block: the system's and the barriers
ALIGNMENT = 16  # bytes, of X (tensor map) and of Y (vector stores)
COLUMNS_MULTIPLE = 8  # a row of X starts at a multiple of 16 bytes


class Tile(NamedTuple):
    """One compiled variant.

    Attributes:
        columns: of Y per block: 8, 16, 32, 64, 128 or 256.
        warpgroups: that multiply, of 64 rows each: 1 or 2.
        rows: blocks of a cluster on consecutive row tiles, which share what they fetch of X.
        split: blocks of a cluster along K, which add up their sums.
        blocks: on a multiprocessor.
        width: column tiles that are walked together.
        rotate: row tiles start at different steps, so that they do not ask for the same lines of X at once.
    """

    columns: int
    warpgroups: int = 2
    rows: int = 1
    split: int = 1
    blocks: int = 1
    width: int = 8
    rotate: bool = False

    @property
    def cluster(self) -> int:
        return self.rows * self.split

    @property
    def threads(self) -> int:
        """Of a block: one warpgroup fetches."""
        return 128 * (self.warpgroups + 1)

    @property
    def stage_bytes(self) -> int:
        return -(-(BOX_ROWS * self.columns * 2 + self.warpgroups * _pack.WGMMA_BYTES) // 1024) * 1024

    @property
    def sums_bytes(self) -> int:
        """fp32 sums that the blocks of a cluster send here."""
        return self.warpgroups * self.columns * 256 if self.split > 1 else 0

    @property
    def stages(self) -> int:
        """Of the ring in shared memory, 64 columns of W each."""
        room = SHARED_LIMIT // self.blocks - SHARED_EXTRA - self.sums_bytes
        return min(room // self.stage_bytes, MAX_STAGES)

    @property
    def shared(self) -> int:
        """Bytes of ring and sums."""
        return self.stages * self.stage_bytes + self.sums_bytes

    @property
    def box(self) -> tuple[int, int]:
        """Rows and columns of X that one copy brings."""
        return BOX_ROWS, min(self.columns, 64)

    @property
    def swizzle(self) -> int:
        """Of a box in shared memory, bytes: a row's, but rows of 16 bytes need none."""
        return self.box[1] * 2 if self.columns > 8 else 0

    def defines(self, dtype: str) -> tuple[tuple[str, int], ...]:
        """Macros of ``_wgmma.cu``."""
        return (
            ("BN", self.columns),
            ("WGS", self.warpgroups),
            ("STAGES", self.stages),
            ("CM", self.rows),
            ("SK", self.split),
            ("BLOCKS", self.blocks),
            ("WIDTH", self.width),
            ("ROTATE", int(self.rotate)),
            ("BF16", int(dtype == "bf16")),
        )


STEP_US = {(256, 2): 0.47, (256, 1): 0.31, (128, 2): 0.33}
"""Microseconds of 64 columns of W by (columns, warpgroups) where arithmetic bounds, measured on an H100."""
TILE_US, SUM_US = 1.5, 1.5
"""Microseconds to finish a tile, and to add up what a cluster shares."""
MANY_ROW_TILES = 24  # from here on that they ask for the same X at once is worth avoiding


def choose(M: int, N: int, K: int, multiprocessors: int) -> Tile:
    """The variant for a shape: of few columns by what keeps most of W under way, of many by an estimate of the time."""
    groups, steps = -(-M // _pack.WGMMA_ROWS), -(-K // _pack.WGMMA_COLUMNS)
    if N > 128:
        return min(_candidates(groups), key=lambda tile: _estimate(tile, groups, N, steps, multiprocessors))
    columns = next(c for c in (8, 16, 32, 64, 128) if c >= N)
    pairs = -(-groups // 2)
    rotate = columns <= 32 and pairs >= MANY_ROW_TILES
    if groups > multiprocessors:
        return Tile(columns, blocks=2 if columns == 64 else 1, rotate=rotate)
    split = _split(groups, multiprocessors, steps)
    if split == 8:
        return Tile(columns, split=8)
    if columns <= 32 and 4 * pairs <= multiprocessors and steps >= 8:
        return Tile(columns, split=4, blocks=2, rotate=rotate)
    return Tile(columns, warpgroups=1, split=split, rotate=rotate)


def _split(blocks: int, multiprocessors: int, steps: int) -> int:
    """Into how many parts along K ``blocks`` are cut so that all run at once, with two steps each at least.

    Clusters of two blocks fill the device; of clusters of four or eight a tenth of it has no room for.
    """
    room = {1: multiprocessors, 2: multiprocessors, 4: multiprocessors * 9 // 10, 8: multiprocessors * 9 // 10}
    return max((s for s in room if blocks * s <= room[s] and 2 * s <= steps), default=1)


def _candidates(groups: int) -> list[Tile]:
    together = [Tile(256, rows=2)] if groups > 2 else []
    return [Tile(256), *together, Tile(256, warpgroups=1), *(Tile(128, split=s) for s in (1, 2, 4, 8))]


def _estimate(tile: Tile, groups: int, N: int, steps: int, multiprocessors: int) -> float:
    """Microseconds: rounds of blocks times the steps of one. X read from L2 by fewer blocks pays from two rounds on."""
    blocks = -(-groups // (tile.warpgroups * tile.rows)) * tile.rows * -(-N // tile.columns) * tile.split
    rounds = -(-blocks // (multiprocessors if tile.split <= 2 else multiprocessors * 9 // 10))
    crowded = 1.1 if rounds > 1 and tile.rows == 1 else 1.0
    step = STEP_US[tile.columns, tile.warpgroups] * crowded
    return rounds * (-(-steps // tile.split) * step + TILE_US + (SUM_US if tile.split > 1 else 0))


class _Prepared:
    def __init__(self, units: torch.Tensor, case: Case) -> None:
        import torch

        device = units.device
        self._units, self._case = units, case
        self._operands = Operands(case.M, case.K, case.N, case.dtype, device, ALIGNMENT)
        multiprocessors = torch.cuda.get_device_properties(device).multi_processor_count
        tile = choose(case.M, case.N, case.K, multiprocessors)
        module = compiled.module(SOURCE, device, tile.defines(case.dtype))
        self._tile, self._function = tile, module.function("nm_wgmma", tile.shared)
        clusters = -(-units.shape[0] // (tile.warpgroups * tile.rows)) * -(-case.N // tile.columns)
        if tile.split == 1:  # persistent; blocks that share K have one tile each
            clusters = min(clusters, self._resident(multiprocessors))
        self._grid = clusters * tile.cluster
        self._map: tuple[int, compiled.TensorMap] | None = None  # and the address of the x it was made for
        self.config: dict[str, Any] = {
            **tile._asdict(),
            "stages": tile.stages,
            "position_bits": 2,
            "weight_bytes": units.nbytes,
            "workspace_bytes": 0,
            "math": "wgmma.sp.k32",
            "accumulate": "fp32",
            "deterministic": True,
        }

    def _resident(self, multiprocessors: int) -> int:
        """Clusters that the device holds at a time: one more would start when the others are done."""
        threads, cluster = self._tile.threads, self._tile.cluster
        if cluster > 1:
            return self._function.active_clusters(threads, cluster)
        return self._function.blocks_per_multiprocessor(threads) * multiprocessors

    def launch(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """See ``Prepared.launch``; x and y start at multiples of 16 bytes."""
        self._operands.check(x, y)
        if self._map is None or self._map[0] != x.data_ptr():
            self._map = x.data_ptr(), compiled.TensorMap(x, self._tile.box, self._tile.swizzle)
        c = self._case
        self._function.launch((self._grid,), self._tile.threads, self._map[1], self._units, y, c.M, c.N, c.K)


class NmWgmma(CudaKernel):
    """2:4 (or sparser) weights in 16 bits on an H100 or H200, N a multiple of 8; M and K are padded in W alone."""

    name = "nm.wgmma"
    format: Format = "nm"
    capability = (9, 0)

    def supports(self, case: Case, device: Device) -> Support:
        answer = super().supports(case, device)
        if not answer:
            return answer
        if not is_two_of_four(case):
            return Support(f"multiplies 2:4 (and 1:4, 1:2), not {case.n}:{case.m}: use nm.triton")
        if case.N % COLUMNS_MULTIPLE:
            return Support(f"N must be a multiple of {COLUMNS_MULTIPLE}, not {case.N}: use nm.mma or pad X")
        return answer

    def prepare(self, matrix: Matrix, case: Case, device: Device, step: Step = no_step) -> Prepared:
        where = handles.resolve(device)
        if 0 in (case.M, case.K, case.N):
            return ZeroPlan(case, where)
        with step("convert"):
            operand = convert.nm_operand(matrix, 2, 4, case.dtype, where)
        with step("pack"):
            units = _pack.wgmma_units(operand)
            handles.synchronize(where)
        return _Prepared(units, case)


KERNELS = [NmWgmma()]
