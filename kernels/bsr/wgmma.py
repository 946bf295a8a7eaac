"""``bsr.wgmma``: block-sparse rows on Hopper's warpgroup MMA, in CUDA C++. Launch code; device code: ``_wgmma.cu``."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapreplace
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsity_roofline.kernels import convert
from sparsity_roofline.kernels._cuda import compiled
from sparsity_roofline.kernels._cuda.kernel import CudaKernel
from sparsity_roofline.kernels.bsr._strips import STRIP, UNIT, Strips, order_by_overlap, piece_of, strips_of
from sparsity_roofline.kernels.bsr.plans import Plan, choose
from sparsity_roofline.kernels.protocol import YES, Device, Prepared, Step, Support, no_step
from sparsity_roofline.model.case import Case, Format
from sparsity_roofline.model.matrix import Matrix

if TYPE_CHECKING:
    import torch

SOURCE = Path(__file__).with_name("_wgmma.cu")
L2_BYTES_PER_NS = 57.0  # a multiprocessor's share of 7.5 TB/s (measured, H100)
MMA_CLOCK_GHZ = 1.5  # columns of a 64 x 16 by 16 x n product take half a clock each; less than the clock, as measured
TILE_NS = 1500.0  # start and store of a tile
SHARED_LIMIT = 227 * 1024 - 512  # a block's shared memory on Hopper, less barriers and masks
STEP = 64  # columns of W in a step of the ring


def stages_of(plan: Plan) -> int:
    """Buffers of the ring that fit."""
    return min((SHARED_LIMIT - 1024) // _stage_bytes(plan), 8)


def shared_of(plan: Plan) -> int:
    """Bytes of dynamic shared memory: the ring, and what aligns it."""
    return stages_of(plan) * _stage_bytes(plan) + 1024


def _stage_bytes(plan: Plan) -> int:
    return STEP * 2 * (plan.BN + STRIP * plan.strips)


def defines_of(plan: Plan, piece: int, dtype: str) -> tuple[tuple[str, int], ...]:
    """Macros of ``_wgmma.cu``. Where accumulators fill the registers, an MMA is cut in two."""
    return (
        ("BN", plan.BN),
        ("G", plan.strips),
        ("STEP", STEP),
        ("CK", piece),
        ("STAGES", stages_of(plan)),
        ("BF16", int(dtype == "bf16")),
        ("NI", plan.BN // 2 if plan.BN == 256 and plan.strips == 3 else plan.BN),
        ("SHARE", plan.share),
        ("RESIDENT", 1),
    )


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
    fetched = 2 * plan.BN * STEP * steps + 2 * STRIP * piece * tiles
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
        module = compiled.module(SOURCE, str(device), defines_of(plan, strips.piece, case.dtype))
        self._function = module.function("bsr_wgmma", shared=shared_of(plan))
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
            "stages": stages_of(plan),
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


class BsrWgmma(CudaKernel):
    """Blocks of r x c, both multiples of 16, in 16 bits, on Hopper."""

    name = "bsr.wgmma"
    format: Format = "bsr"
    capability = (9, 0)

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
        blocks = -(-case.M // r) * -(-case.K // case.block_cols)
        plan = choose(case.M, case.K, case.N, r, case.stored_blocks / max(blocks, 1))
        with step("convert"):
            operand = convert.bsr_operand(matrix, r, case.block_cols, case.dtype, device)
        with step("order rows"):
            order = order_by_overlap(operand, case.K, plan.group * STRIP // r)
        with step("pack strips"):
            strips = strips_of(operand, order, case.K, plan.group, STEP)
        return _Prepared(strips, plan, case)


KERNELS = [BsrWgmma()]
