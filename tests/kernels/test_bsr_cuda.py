"""The CUDA kernels of BSR: what is chosen, how work is dealt out, and that every choice compiles within its budget."""

from __future__ import annotations

import re
import subprocess
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from sparsity_roofline.kernels.bsr import ffma, mma, plans, wgmma
from sparsity_roofline.model.case import Case
from sparsity_roofline.model.matrix import Matrix
from sparsity_roofline.model.pattern import Pattern

SHAPES = [(512, 4608), (2048, 512), (768, 3072), (3072, 768), (4096, 4096), (14336, 4096), (4096, 14336)]
COLUMNS = [16, 64, 256, 2048, 16384]


@pytest.mark.parametrize("blocks", [1, 7, 132])
@pytest.mark.parametrize(("items", "columns", "panel"), [(1, 1, 8), (5, 3, 2), (22, 64, 4), (9, 11, 8), (40, 1, 1)])
def test_every_tile_is_dealt_once_and_time_evenly(items: int, columns: int, panel: int, blocks: int) -> None:
    costs = [1000.0 - 20.0 * item for item in range(items)]
    rounds = wgmma.schedule_of(costs, columns, panel, blocks)
    assert all(len(row) == blocks for row in rounds)
    assert [tile for row in rounds for tile in row if tile >= 0].__len__() == items * columns
    assert {tile for row in rounds for tile in row} - {-1} == set(range(items * columns))
    for worker in range(blocks):  # the kernel knows a block's first tile without looking, and stops at the first -1
        own = [row[worker] for row in rounds]
        assert own[0] == (worker if worker < items * columns else -1)
        assert -1 not in own[: sum(tile >= 0 for tile in own)]

    def item(tile: int) -> int:
        start, inside = divmod(tile, items * panel)
        return inside // min(panel, columns - start * panel)

    loads = [sum(costs[item(row[w])] for row in rounds if row[w] >= 0) for w in range(blocks)]
    assert max(loads) - min(loads) <= max(costs)
    assert sorted(item(t) for row in rounds for t in row if t >= 0) == sorted(list(range(items)) * columns)


def chosen() -> set[plans.Plan]:
    cases = product(SHAPES, COLUMNS, (16, 32, 64, 128), (0.5, 0.0625))
    return {plans.choose(M, K, N, r, d) for (M, K), N, r, d in cases}


def test_every_plan_fits_shared_memory_and_has_a_ring() -> None:
    for plan in chosen():
        assert wgmma.shared_of(plan) <= 227 * 1024 - 512
        assert wgmma.stages_of(plan) >= 4
    for (M, K), N, r, d in product(SHAPES, COLUMNS[:3], (16, 32, 64, 128), (0.03, 0.5)):
        tile = mma.choose(M, K, N, r, d)
        assert r % (16 * tile.units) == 0
        assert tile.shared <= 227 * 1024
    for (M, _), N, r in product(SHAPES, COLUMNS, (16, 32, 48, 64, 128, 192)):
        assert r % ffma.choose(M, N, r).BM == 0


def test_a_variant_that_was_measured_best_is_chosen_for_the_very_case() -> None:
    times: dict[tuple[int, int, float], dict[plans.Plan, float]] = {}
    for record in plans._records():
        times.setdefault((record.N, record.r, record.density), {})[record.plan] = record.us
    assert len(times) > 60
    for (N, r, density), row in times.items():
        plan = plans.choose(4096, 4096, N, r, density)
        assert row.get(plan, 0.0) <= 1.02 * min(row.values()), (N, r, density, plan)  # 0: not tried in this very case


def test_fewer_rounds_beat_a_faster_tile() -> None:
    plan = plans.choose(
        768, 3072, 2048, 64, 0.5
    )  # 6 x 8 tiles of 128 x 256 would leave two multiprocessors in three idle
    assert 768 // (64 * plan.strips) * -(-2048 // plan.BN) >= 66


def resources(code: bytes, tmp_path: Path) -> tuple[int, int]:
    """Registers a thread and bytes of stack, where spills live."""
    triton = pytest.importorskip("triton")
    (tmp_path / "kernel.cubin").write_bytes(code)
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    command = [str(tool), "--dump-resource-usage", str(tmp_path / "kernel.cubin")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", said)
    assert found, said
    return int(found[1]), int(found[2])


@pytest.mark.slow
def test_what_is_chosen_compiles_without_spills_worth_the_name(tmp_path: Path) -> None:
    pytest.importorskip("cuda.bindings.nvrtc", reason="cuda-bindings is not installed")
    from sparsity_roofline.kernels._cuda.compiled import cubin

    for plan in chosen():
        threads = 128 * (plan.strips + 1)
        for piece in (16, 64):
            registers, stack = resources(cubin(wgmma.SOURCE, "sm_90a", wgmma.defines_of(plan, piece, "bf16")), tmp_path)
            assert registers * threads <= 65536, plan
            assert stack <= 64, plan  # the producer's, once in 32 steps
    for tile in {mma.choose(M, K, N, 64, 0.25) for (M, K), N in product(SHAPES, COLUMNS[:3])}:
        names = (("UNITS", tile.units), ("BN", tile.BN), ("WARPS", tile.warps), ("DEPTH", tile.depth), ("BF16", 0))
        for arch in ("sm_80", "sm_90a"):
            registers, stack = resources(cubin(mma.SOURCE, arch, names), tmp_path)
            assert registers * 32 * tile.warps <= 65536, tile
            assert stack <= 16, tile  # none by NVRTC 13.0, two registers by 13.5
    for float_tile in {ffma.choose(M, N, r) for (M, _), N, r in product(SHAPES, COLUMNS, (16, 32, 64, 128))}:
        defines = (("BM", float_tile.BM), ("BN", float_tile.BN), ("STAGES", float_tile.stages))
        registers, stack = resources(cubin(ffma.SOURCE, "sm_90a", defines), tmp_path)
        assert registers * float_tile.threads <= 65536, float_tile
        assert stack <= 64, float_tile


class Recorder:
    """In the place of a compiled module: keeps what a launch would have been given."""

    def __init__(self) -> None:
        self.calls: list[tuple[tuple[int, ...], int, tuple[Any, ...]]] = []

    def function(self, name: str, shared: int = 0) -> Recorder:
        return self

    def blocks_per_multiprocessor(self, threads: int) -> int:
        return 1

    def launch(self, grid: tuple[int, ...], threads: int, *arguments: Any) -> None:
        self.calls.append((grid, threads, arguments))


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("share", [0, 1, 2])
@pytest.mark.parametrize(("strips", "N"), [(2, 140), (3, 200)])
def test_a_launch_names_every_product_once(
    strips: int, N: int, share: int, parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The walk of ``_wgmma.cu`` over schedule, items, heads, steps and tiles, in Python, gives W @ X."""
    recorder = Recorder()
    plan = plans.Plan(64, strips, parts, 2, share)
    monkeypatch.setattr(wgmma.compiled, "module", lambda *a: recorder)
    monkeypatch.setattr(wgmma.compiled, "TensorMap", lambda x, box, swizzle: x)
    monkeypatch.setattr(wgmma, "choose", lambda *a: plan)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(multi_processor_count=6))
    rng = np.random.default_rng(0)
    M, K = 224, 2560  # more than 32 steps in a group
    mask = np.kron(rng.random((7, 160)) < 0.3, np.ones((32, 16), dtype=bool))
    matrix = Matrix.from_dense("w", rng.standard_normal((M, K)) * mask, pattern=Pattern.parse("block32x16"))
    case = Case.of(matrix, N, "fp16", "bsr")
    prepared = wgmma.BsrWgmma().prepare(matrix, case, "cpu")
    x, y = torch.randn(K, N).half(), torch.empty(M, N).half()
    prepared.launch(x, y)
    ((grid, threads, arguments),) = recorder.calls
    assert threads == 128 * (strips + 1)
    (_, tiles, meta, heads, items, rows, _, workspace, arrived, *numbers) = arguments
    (m, n, schedule, rounds, item_count, tiles_n, panel) = numbers
    assert (m, n, item_count) == (M, N, items.shape[0])
    pair = 2 if share else 1
    assert grid[0] % pair == 0
    assert schedule.shape == (rounds, grid[0] // pair)
    columns = (tiles_n + 1) // 2 if share == 1 else tiles_n
    slots = 2 * columns if share == 1 else columns
    group_strips = 2 * strips if share == 2 else strips
    packed = meta.shape[1] - 2
    unpacked = tiles.float().view(-1, 64 // packed // 16, 2, 8, 8, 8)
    unpacked = unpacked.permute(0, 3, 4, 1, 2, 5).reshape(tiles.shape[0], 64, -1)
    piece, out = unpacked.shape[2], torch.zeros(M, N, dtype=torch.float64)
    done = set()
    for number in schedule.view(-1).tolist():
        if number < 0:
            continue
        start, inside = divmod(number, item_count * panel)
        width = min(panel, columns - start * panel)
        item, first_column = inside // width, start * panel + inside % width
        group, begin, end, part, count = items[item].tolist()
        for rank in range(2 if share == 1 else 1):
            column = 2 * first_column + rank if share == 1 else first_column
            done.add((item, column))
            slot = item * slots + column
            assert parts == 1 or (slot + count - part) * group_strips * 64 * plan.BN <= workspace.numel()
            assert parts == 1 or (group * slots + column + 1) * group_strips <= arrived.numel()
            panel_x = x[:, column * plan.BN : (column + 1) * plan.BN].double()
            for i, step in enumerate(range(begin, end)):
                *pieces, tile, bits = meta[step].tolist()
                assert i >= 32 or heads[item, i].tolist() == meta[step].tolist()
                for bit in range(group_strips * packed):
                    if not bits >> bit & 1:
                        continue
                    strip, at = divmod(bit, packed)
                    product_ = unpacked[tile].double() @ panel_x[pieces[at] * piece : (pieces[at] + 1) * piece]
                    tile += 1
                    for unit in range(4):
                        row = int(rows[group, strip * 4 + unit])
                        if row >= 0:
                            to = out[row : row + 16, column * plan.BN : (column + 1) * plan.BN]
                            to += product_[unit * 16 : unit * 16 + 16]
    assert len(done) == item_count * (slots if share == 1 else columns)
    expected = torch.from_numpy(as_fp16(matrix)) @ x.double()
    assert torch.allclose(out, expected)


def as_fp16(matrix: Matrix) -> np.ndarray:
    out = np.zeros(matrix.shape)
    for row in range(matrix.shape[0]):
        where = slice(matrix.indptr[row], matrix.indptr[row + 1])
        out[row, matrix.indices[where]] = matrix.values[where].astype(np.float16)
    return out
