"""The CUDA kernels of BSR: what is chosen, how work is dealt out, and that every choice compiles within its budget."""

from __future__ import annotations

import re
import subprocess
from itertools import product
from pathlib import Path

import pytest

from sparsity_roofline.kernels.bsr import ffma, mma, wgmma

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


def plans() -> set[wgmma.Plan]:
    return {wgmma.choose(M, K, N, r) for (M, K), N, r in product(SHAPES, COLUMNS, (16, 32, 64, 128))}


def test_every_plan_fits_shared_memory_and_has_a_ring() -> None:
    for plan in plans():
        assert plan.shared <= 227 * 1024 - 1024
        assert plan.stages >= 3
    for (M, K), N, r, d in product(SHAPES, COLUMNS[:3], (16, 32, 64, 128), (0.03, 0.5)):
        tile = mma.choose(M, K, N, r, d)
        assert r % (16 * tile.units) == 0
        assert tile.shared <= 227 * 1024
    for (M, _), N, r in product(SHAPES, COLUMNS, (16, 32, 48, 64, 128, 192)):
        assert r % ffma.choose(M, N, r).BM == 0


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

    for plan in plans():
        threads = 128 * (plan.strips + 1)
        for piece in (16, 64):
            registers, stack = resources(cubin(wgmma.SOURCE, "sm_90a", plan.defines(piece, "bf16")), tmp_path)
            assert registers * threads * plan.resident <= 65536, plan
            assert stack <= 64, plan  # the producer's, once in 32 steps
    for tile in {mma.choose(M, K, N, 64, 0.25) for (M, K), N in product(SHAPES, COLUMNS[:3])}:
        names = (("UNITS", tile.units), ("BN", tile.BN), ("WARPS", tile.warps), ("DEPTH", tile.depth), ("BF16", 0))
        for arch in ("sm_80", "sm_90a"):
            registers, stack = resources(cubin(mma.SOURCE, arch, names), tmp_path)
            assert registers * 32 * tile.warps <= 65536, tile
            assert stack == 0, tile
    for float_tile in {ffma.choose(M, N, r) for (M, _), N, r in product(SHAPES, COLUMNS, (16, 32, 64, 128))}:
        defines = (("BM", float_tile.BM), ("BN", float_tile.BN), ("STAGES", float_tile.stages))
        registers, stack = resources(cubin(ffma.SOURCE, "sm_90a", defines), tmp_path)
        assert registers * float_tile.threads <= 65536, float_tile
        assert stack <= 64, float_tile
