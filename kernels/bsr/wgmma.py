"""``bsr.wgmma``: block-sparse rows on Hopper's warpgroup MMA, in CUDA C++. Launch code; device code: ``_wgmma.cu``."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapreplace
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sparsity_roofline.kernels import convert
from sparsity_roofline.kernels._cuda import compiled
from sparsity_roofline.kernels.bsr._strips import STRIP, UNIT, Strips, order_by_overlap, piece_of, strips_of
from sparsity_roofline.kernels.protocol import YES, BaseKernel, Device, Prepared, Step, Support, no_step
from sparsity_roofline.model.case import Case, Format
from sparsity_roofline.model.matrix import Matrix

if TYPE_CHECKING:
    import torch

SOURCE = Path(__file__).with_name("_wgmma.cu")
L2_BYTES_PER_NS = 57.0  # a multiprocessor's share of 7.5 TB/s (measured, H100)
MMA_CLOCK_GHZ = 1.5  # columns of a 64 x 16 by 16 x n product take half a clock each; less than the clock, as measured
TILE_NS = 1500.0  # start and store of a tile
SHARED_LIMIT = 227 * 1024 - 1024  # a block's shared memory on Hopper, less barriers and masks


class Plan(NamedTuple):
    """One compiled variant and how work is cut.

    Attributes:
        BN: columns of Y of a block.
        strips: strips of 64 rows of a block, which share tiles of X.
        parts: runs of steps a group is cut into, each a block's.
        panel: column tiles that are walked together (pairs of them where W is shared).
        step: columns of W that make a step.
        resident: blocks that a multiprocessor holds, by design (narrow ones may find room for more).
        share: what two neighbouring blocks fetch once for both: 0 nothing, 1 tiles of W, 2 tiles of X.
    """

    BN: int
    strips: int
    parts: int = 1
    panel: int = 8
    share: int = 0
    resident: int = 1
    step: int = 64

    @property
    def stage_bytes(self) -> int:
        return self.step * 2 * (self.BN + STRIP * self.strips)

    @property
    def group(self) -> int:
        """Strips whose columns make one list of steps."""
        return self.strips * (2 if self.share == 2 else 1)

    @property
    def stages(self) -> int:
        return min((SHARED_LIMIT // self.resident - 1024) // self.stage_bytes, 512 // self.step)

    @property
    def shared(self) -> int:
        return self.stages * self.stage_bytes + 1024

    def defines(self, piece: int, dtype: str) -> tuple[tuple[str, int], ...]:
        """Macros of ``_wgmma.cu``. Where accumulators fill the registers, an MMA of half the width takes its place."""
        half = (self.BN == 256 and self.strips == 3) or self.resident == 2
        return (
            ("BN", self.BN),
            ("G", self.strips),
            ("STEP", self.step),
            ("CK", piece),
            ("STAGES", self.stages),
            ("BF16", int(dtype == "bf16")),
            ("NI", self.BN // 2 if half else self.BN),
            ("SHARE", self.share),
            ("RESIDENT", self.resident),
        )


def choose(M: int, K: int, N: int, r: int, multiprocessors: int = 132) -> Plan:
    """The variant for a shape and blocks of r rows.

    At N up to 64 the bytes of W bound the time: narrow tiles, one strip a block, groups cut until every multiprocessor
    holds two blocks. Beyond, as many strips share a tile of X as leave no multiprocessor idle in the last round.
    """
    strips, steps = -(-M // STRIP), max(-(-K // 64), 1)
    if N <= 64:
        BN = 16 if N <= 16 else 32 if N <= 32 else 64
        return Plan(BN, 1, min(max((4 if BN == 16 else 2) * multiprocessors // (2 * strips), 1), max(steps // 4, 1)))
    if strips * -(-N // 256) < multiprocessors:  # few tiles: narrower ones, and groups in parts
        BN = 128 if strips * -(-N // 128) > multiprocessors else 64
        tiles = -(-strips // 2) * -(-N // BN)
        return Plan(BN, 2, min(max(multiprocessors // tiles, 1), max(steps // 8, 1)))
    if r >= 128:
        return Plan(256, 2)

    def rounds(G: int) -> int:
        return G * -(-(-(-strips // G) * -(-N // 256)) // multiprocessors)

    return Plan(256, 3 if rounds(3) <= rounds(2) else 2)


def items_of(strips: Strips, parts: int) -> list[tuple[int, int, int, int, int]]:
    """Work items (group, first step, last step + 1, part, parts of the group), longest first."""
    starts = strips.starts.tolist()
    out = []
    runs = sorted(enumerate(pairwise(starts)), key=lambda run: run[1][0] - run[1][1])
    for group, (begin, end) in runs:
        count = max(min(parts, end - begin), 1)
        cuts = [begin + (end - begin) * i // count for i in range(count + 1)]
        out += [(group, cuts[i], cuts[i + 1], i, count) for i in range(count)]
    return out


def cost_of(steps: int, tiles: int, plan: Plan, piece: int) -> float:
    """Time of an item by one column tile, in ns: bytes through a multiprocessor's share of L2, or its tensor cores."""
    fetched = 2 * plan.BN * plan.step * steps + 2 * STRIP * piece * tiles
    return TILE_NS + max(fetched / L2_BYTES_PER_NS, tiles * piece / 16 * max(plan.BN, 32) / 2 / MMA_CLOCK_GHZ)


def schedule_of(costs: Sequence[float], columns: int, panel: int, workers: int) -> list[list[int]]:
    """Rounds of tiles, one a worker (-1: none), so that all workers are busy for about the same time.

    Tiles are numbered as ``tile_of`` in ``_wgmma.cu`` does it. Each goes, in their order, to the worker that is free
    first, as a queue would have it, but the same one every time.

    Args:
        costs: of each item by one column tile.
        columns: column tiles.
        panel: column tiles walked together.
        workers: blocks, or clusters, that run together.
    """
    tiles = len(costs) * columns
    if tiles <= workers:
        return [list(range(tiles)) + [-1] * (workers - tiles)]
    queue = [(0.0, worker) for worker in range(workers)]
    lists: list[list[int]] = [[] for _ in range(workers)]
    for tile in range(tiles):
        start, inside = divmod(tile, len(costs) * panel)
        item = inside // min(panel, columns - start * panel)
        busy, worker = queue[0]
        lists[worker].append(tile)
        heapreplace(queue, (busy + costs[item], worker))
    return [list(round) for round in zip_longest(*lists, fillvalue=-1)]


def heads_of(strips: Strips, items: torch.Tensor) -> torch.Tensor:
    """(items, 32, ints of a step): the first 32 steps of each item; what lies beyond the item's end is never used."""
    import torch

    steps = items[:, 1:2].long() + torch.arange(32, device=items.device)
    return strips.meta[steps.clamp(max=strips.meta.shape[0] - 1)].contiguous()


class _Prepared:
    def __init__(self, strips: Strips, plan: Plan, case: Case) -> None:
        import torch

        device = strips.tiles.device
        self._strips, self._plan, self._case = strips, plan, case
        items = items_of(strips, plan.parts)
        self._items = torch.tensor(items, dtype=torch.int32, device=device)
        self._heads = heads_of(strips, self._items)
        self._count, self._tiles_n = len(items), -(-case.N // plan.BN)
        columns = self._tiles_n + (self._tiles_n % 2 if plan.share == 1 else 0)
        split = any(item[4] > 1 for item in items)
        groups = strips.rows.shape[0]
        size = self._count * columns * plan.group * STRIP * plan.BN if split else 1
        self._workspace = torch.empty(size, dtype=torch.float32, device=device)
        self._arrived = torch.zeros(groups * columns * plan.group if split else 1, dtype=torch.int32, device=device)
        module = compiled.module(SOURCE, str(device), plan.defines(strips.piece, case.dtype))
        self._function = module.function("bsr_wgmma", shared=plan.shared)
        self._threads = 128 * (plan.strips + 1)
        resident = self._function.blocks_per_multiprocessor(self._threads)
        resident *= torch.cuda.get_device_properties(device).multi_processor_count
        blocks = self._count * columns * (2 if plan.share == 2 else 1)
        self._grid = min(blocks, resident // 2 * 2 if plan.share else resident)
        pairs = 2 if plan.share else 1
        per_step = torch.diff(strips.meta[:, -2].cpu(), append=torch.tensor([strips.tiles.shape[0]]))
        counted = torch.cat([torch.zeros(1, dtype=torch.int64), torch.cumsum(per_step, 0)]).tolist()
        costs = [cost_of(item[2] - item[1], counted[item[2]] - counted[item[1]], plan, strips.piece) for item in items]
        rounds = schedule_of(costs, columns // 2 if plan.share == 1 else columns, plan.panel, self._grid // pairs)
        self._rounds, self._schedule = len(rounds), torch.tensor(rounds, dtype=torch.int32, device=device)
        self._x: tuple[int, Any] = (0, None)
        self.config: dict[str, Any] = {
            **plan._asdict(),
            "stages": plan.stages,
            "piece": strips.piece,
            "weight_bytes": strips.tiles.nbytes + strips.meta.nbytes,
            "workspace_bytes": self._workspace.nbytes if split else 0,
            "deterministic": True,
            "accumulate": "fp32",
        }

    def launch(self, x: torch.Tensor, y: torch.Tensor) -> None:
        if not y.numel():
            return
        if self._x[0] != x.data_ptr():
            atom = min(self._plan.BN, 64)
            self._x = x.data_ptr(), compiled.TensorMap(x, (self._strips.piece, atom), swizzle=2 * atom)
        M, N = y.shape
        self._function.launch(
            (self._grid,),
            self._threads,
            self._x[1],
            self._strips.tiles,
            self._strips.meta,
            self._heads,
            self._items,
            self._strips.rows,
            y,
            self._workspace,
            self._arrived,
            M,
            N,
            self._schedule,
            self._rounds,
            self._count,
            self._tiles_n,
            self._plan.panel,
        )


class BsrWgmma(BaseKernel):
    """Blocks of r x c, both multiples of 16, in 16 bits, on Hopper."""

    name = "bsr.wgmma"
    format: Format = "bsr"
    dtypes = ("fp16", "bf16")
    ours = True

    def available(self, device: Device) -> Support:
        return super().available(device) and compiled.needs_compiler((9, 0))

    def supports(self, case: Case, device: Device) -> Support:
        answer = super().supports(case, device)
        if not answer:
            return answer
        r, c = case.block_rows, case.block_cols
        if min(r, c) < 1 or r % UNIT or not piece_of(c):
            return Support(f"rows and columns of a block must be multiples of {UNIT}, not {r} x {c}: use bsr.triton")
        if case.N % 8:
            return Support(f"N must be a multiple of 8, not {case.N} (rows of X start at 16 bytes): use bsr.triton")
        return YES

    def prepare(self, matrix: Matrix, case: Case, device: Device, step: Step = no_step) -> Prepared:
        r = case.block_rows
        plan = choose(case.M, case.K, case.N, r)
        with step("convert"):
            operand = convert.bsr_operand(matrix, r, case.block_cols, case.dtype, device)
        with step("order rows"):
            order = order_by_overlap(operand, case.K, plan.group * STRIP // r)
        with step("pack strips"):
            strips = strips_of(operand, order, case.K, plan.group, plan.step)
        return _Prepared(strips, plan, case)


KERNELS = [BsrWgmma()]
