"""The sparse tensor-core kernels of 2:4 weights: what they accept, what they compile to, and edge cases on a GPU."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from sparsity_roofline.kernels._cuda import compiled
from sparsity_roofline.kernels.convert import torch_dtype
from sparsity_roofline.kernels.nm import mma, wgmma
from sparsity_roofline.kernels.protocol import YES
from sparsity_roofline.model.case import Case
from sparsity_roofline.model.matrix import Matrix
from sparsity_roofline.model.pattern import Pattern

SHAPES = [
    (512, 4608),
    (2048, 512),
    (768, 3072),
    (3072, 768),
    (4096, 4096),
    (14336, 4096),
    (4096, 14336),
    (1, 1),
    (130, 70),
]
COLUMNS = [1, 8, 16, 24, 32, 64, 96, 128, 256, 512, 2048, 16384]
HOPPER_SHARED = 228 * 1024  # of a multiprocessor; 1 KiB a block is the system's, up to 1 KiB static
HOPPER_MULTIPROCESSORS = 132

needs_nvrtc = pytest.mark.skipif(find_spec("cuda") is None, reason="NVRTC's Python binding is not installed")


def case(M: int, N: int, K: int, pattern: str = "2:4", dtype: str = "fp16") -> Case:
    matrix = Matrix.from_dense("test", np.ones((1, 1), dtype=np.float32), pattern=Pattern.parse(pattern))
    return replace(Case.of(matrix, N, dtype, "nm"), M=M, K=K)


def chosen_wgmma() -> set[wgmma.Tile]:
    return {wgmma.choose(M, N, K, HOPPER_MULTIPROCESSORS) for (M, K), N in product(SHAPES, COLUMNS)}


def chosen_mma() -> set[mma.Tile]:
    return {mma.choose(N) for N in COLUMNS}


@pytest.mark.parametrize("tile", sorted(chosen_wgmma() | chosen_mma()), ids=str)
def test_chosen_variants_fit(tile: mma.Tile | wgmma.Tile) -> None:
    assert tile.blocks * (tile.shared + 2048) <= HOPPER_SHARED
    assert tile.stages >= 2
    if isinstance(tile, wgmma.Tile):
        assert tile.cluster <= 8
        assert tile.stage_bytes % 1024 == 0
        assert max(tile.columns // 64, 1) >= tile.rows
        assert tile.split <= 4 * tile.warpgroups  # blocks that share K share whole warps
    else:
        assert 1 <= tile.k_warps <= 4
        assert tile.threads <= 1024


@needs_nvrtc
@pytest.mark.slow
@pytest.mark.parametrize("arch", ["sm_80", "sm_90a"])
def test_mma_compiles(arch: str) -> None:
    for tile in chosen_mma():
        for dtype in mma.NmMma.dtypes:
            assert b"nm_mma" in compiled.cubin(mma.SOURCE, arch, tile.defines(dtype))


@needs_nvrtc
@pytest.mark.slow
def test_wgmma_compiles() -> None:
    for tile in chosen_wgmma():
        for dtype in wgmma.NmWgmma.dtypes:
            assert b"nm_wgmma" in compiled.cubin(wgmma.SOURCE, "sm_90a", tile.defines(dtype))


def instructions(code: bytes, folder: Path) -> list[str]:
    """What machine code says in words, one instruction an entry, by the disassembler that Triton brings."""
    spec = find_spec("triton")
    assert spec is not None
    assert spec.origin is not None
    (folder / "code.cubin").write_bytes(code)
    tool = Path(spec.origin).parent / "backends" / "nvidia" / "bin" / "nvdisasm"
    run = subprocess.run([tool, "-c", folder / "code.cubin"], capture_output=True, text=True, check=True)
    return re.findall(r"/\*[0-9a-f]{4,}\*/\s+([^;]*?)\s*;", run.stdout)


@needs_nvrtc
@pytest.mark.slow
@pytest.mark.skipif(find_spec("triton") is None, reason="needs Triton's disassembler")
def test_metadata_registers_are_left_alone_while_instructions_run(tmp_path: Path) -> None:
    """A step's metadata register is not written before the second wait behind it; the assembler does not watch that."""
    for tile in {(tile.columns, tile.warpgroups): tile for tile in sorted(chosen_wgmma())}.values():
        found = instructions(compiled.cubin(wgmma.SOURCE, "sm_90a", tile.defines("fp16")), tmp_path)
        registers = []
        for i, text in enumerate(found):
            if not (match := re.match(r"HGMMA\.SP.*, (R\d+), 0x[01](?:, gsb0)?$", text)):
                continue
            registers.append(match.group(1))
            waits = 0
            for later in found[i + 1 :]:
                waits += "WARPGROUP.DEPBAR.LE gsb0, 0x1" in later
                if waits == 2 or "WARPGROUP.DEPBAR.LE gsb0, 0x0" in later:
                    break
                assert later.startswith("HGMMA") or not re.match(
                    rf"(@!?U?P\d+ )?(?!ST)\S+ {match.group(1)}\b", later
                ), later
        # selectors 0 and 1 of an even step, then of an odd one
        assert len(registers) == 4
        assert registers[0] == registers[1] != registers[2] == registers[3]


@pytest.fixture
def anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "needs_compiler", lambda capability=(8, 0): YES)


@pytest.mark.usefixtures("anywhere")
def test_support_says_what_to_use_instead() -> None:
    kernels = {"mma": mma.KERNELS[0], "wgmma": wgmma.KERNELS[0]}
    for kernel in kernels.values():
        for pattern in ("2:4", "1:4", "1:2"):
            assert kernel.supports(case(70, 24, 30, pattern), "cuda"), pattern
        for pattern in ("3:4", "4:8", "2:2", "1:8"):
            assert "nm.triton" in kernel.supports(case(70, 24, 30, pattern), "cuda").reason
        assert "fp32" in kernel.supports(case(70, 24, 30, dtype="fp32"), "cuda").reason
        assert kernel.ours
    assert kernels["mma"].supports(case(70, 13, 30), "cuda")
    assert "multiple of 8" in kernels["wgmma"].supports(case(70, 13, 30), "cuda").reason
    assert "columns" in kernels["mma"].supports(case(70, 2**23, 30), "cuda").reason


def test_device_code_includes_nothing() -> None:
    for source in (mma.SOURCE, wgmma.SOURCE):
        assert not re.search(r"^\s*#\s*include", Path(source).read_text(encoding="utf-8"), re.M)


@pytest.mark.gpu
@pytest.mark.parametrize("kernel", [mma.KERNELS[0], wgmma.KERNELS[0]], ids=lambda kernel: kernel.name)
@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
@pytest.mark.parametrize(
    ("M", "K", "N"),
    [
        (4096, 1024, 16),
        (300, 2048, 64),
        (1000, 333, 256),
        (65, 4096, 8),
        (520, 96, 2056),
        (129, 64, 40),
        (128, 8192, 128),
        (1000, 64, 1032),
        (2100, 520, 4104),
    ],
)
def test_many_shapes_and_repeats(kernel, dtype: str, M: int, K: int, N: int) -> None:
    """Every variant of the chooser's regimes; launches repeat bit for bit, and padding never reaches Y or reads NaN."""
    if not (answer := kernel.available("cuda")):
        pytest.skip(answer.reason)
    rng = np.random.default_rng(M + K + N)
    keep = (rng.random((M, -(-K // 4), 4)).argsort(2) < 2).reshape(M, -1)[:, :K]
    matrix = Matrix.from_dense(
        "test", (rng.standard_normal((M, K)) * keep).astype(np.float32), pattern=Pattern.parse("2:4")
    )
    made = Case.of(matrix, N, dtype, "nm")
    prepared = kernel.prepare(matrix, made, "cuda")
    storage = torch_dtype(dtype)
    around = torch.full((K + 256, N), float("nan"), dtype=storage, device="cuda")  # rows beyond X are NaN
    x = around[:K]
    x.normal_(generator=torch.Generator("cuda").manual_seed(1))
    dense = torch.from_numpy(matrix.to_dense()).to(storage)
    expected = dense.double() @ x.cpu().double()
    results = []
    for _ in range(3):
        y = torch.full((M + 128, N), float("nan"), dtype=storage, device="cuda")
        prepared.launch(x, y[:M])
        assert torch.isnan(y[M:]).all()
        results.append(y[:M].cpu())
    error = (results[0].double() - expected).norm() / expected.norm()
    assert error < (1e-3 if dtype == "fp16" else 8e-3)
    assert all(torch.equal(results[0], other) for other in results[1:])
