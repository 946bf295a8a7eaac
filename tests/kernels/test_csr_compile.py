"""The CUDA C++ of the CSR kernels: it compiles where it may run, and every shape gets a variant that fits."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from pathlib import Path

import pytest

from sparsity_roofline.kernels._cuda import compiled
from sparsity_roofline.kernels.csr import bitmap, decode, panel, wgmma
from sparsity_roofline.kernels.csr.panel_layout import header_bytes
from sparsity_roofline.model.case import Case

nvrtc = pytest.importorskip("cuda.bindings.nvrtc", reason="cuda-bindings is not installed")

SHAPES = [
    (512, 4608),
    (2048, 512),
    (768, 3072),
    (3072, 768),
    (4096, 4096),
    (14336, 4096),
    (4096, 14336),
    (1, 1),
    (0, 5),
]
COLUMNS = [1, 8, 16, 64, 100, 256, 2048, 16384]


def here() -> bool:
    try:
        return int(nvrtc.nvrtcVersion()[0]) == 0
    except Exception:  # the library itself is another package
        return False


needs_nvrtc = pytest.mark.skipif(not here(), reason="NVRTC is not installed: pip install nvidia-cuda-nvrtc")


@needs_nvrtc
@pytest.mark.parametrize("arch", ["sm_80", "sm_90a"])
@pytest.mark.parametrize("tile", [*decode.candidates(2), *decode.candidates(4)], ids=str)
def test_decode(tile: decode.Tile, arch: str) -> None:
    code = compiled.cubin(decode.HERE / "_decode.cu", arch, tuple(tile._asdict().items()), decode.HEADERS)
    assert b"bitmap_decode" in code


@needs_nvrtc
@pytest.mark.parametrize("N", [1, 16, 32, 64])
@pytest.mark.parametrize(("arch", "bf16"), [("sm_80", 1), ("sm_90a", 0)])
def test_bitmap(N: int, arch: str, bf16: int) -> None:
    for tile in {
        bitmap.candidates(4096, 4096, N, 132, arch == "sm_90a")[0],
        bitmap.candidates(48, 200, N, 132, arch == "sm_90a")[-1],
    }:
        code = compiled.cubin(
            bitmap.HERE / "_bitmap.cu", arch, (("BF16", bf16), *tile._asdict().items()), bitmap.HEADERS
        )
        assert b"bitmap_spmm" in code


@needs_nvrtc
@pytest.mark.parametrize(("BN", "bf16"), [(64, 1), (128, 0), (256, 1)])
def test_wgmma(BN: int, bf16: int) -> None:
    tile = wgmma.variant(BN, 3000)
    code = compiled.cubin(wgmma.HERE / "_wgmma.cu", "sm_90a", (("BF16", bf16), *tile._asdict().items()), wgmma.HEADERS)
    assert b"bitmap_wgmma" in code


def case(M: int, K: int, N: int, density: float) -> Case:
    return Case("test", "w", M, K, N, "unstructured", "csr", "fp32", nnz=int(M * K * density))


@needs_nvrtc
@pytest.mark.parametrize("N", [1, 16, 64, 256])
@pytest.mark.parametrize(("arch", "clusters"), [("sm_80", False), ("sm_90a", True)])
def test_panel(N: int, arch: str, clusters: bool) -> None:
    tile = next(iter(panel.candidates(case(4096, 4096, N, 0.1), clusters)))
    assert b"panel_spmm" in compiled.cubin(panel.HERE / "_panel.cu", arch, tuple(tile._asdict().items()))


@pytest.mark.parametrize(("M", "K"), SHAPES)
@pytest.mark.parametrize("N", COLUMNS)
def test_every_shape_has_a_variant_that_fits(M: int, K: int, N: int) -> None:
    dense_strip = 16 * 256 * 2  # bytes of values of a full panel of a strip
    ampere = 99 * 1024
    for multiprocessors, clusters in ((132, True), (28, False)):
        tiles = bitmap.candidates(M, K, N, multiprocessors, clusters)
        assert tiles[-1].shared(dense_strip * tiles[-1].PANELS) <= ampere
        for tile in tiles:
            assert max(-(-K // 256), 1) >= tile.SPLITS
            assert clusters or not tile.CLUSTER
    BN, parts = wgmma.choose(M, K, N, 132)
    assert parts <= max(-(-K // 256), 1)
    assert wgmma.variant(BN, dense_strip).shared(dense_strip) <= wgmma.SHARED
    for tile in panel.candidates(case(M, K, N, 1.0), True):
        longest = header_bytes(tile.rows) // 16 + tile.rows * tile.KP // 2
        assert longest < 2**16  # row starts are 16 bits
    assert tile.shared(longest) <= ampere


@pytest.mark.parametrize(
    ("M", "K", "N", "best"),
    [
        (4096, 4096, 64, (64, 4)),
        (4096, 4096, 128, (128, 4)),
        (4096, 4096, 256, (128, 2)),
        (4096, 4096, 2048, (256, 1)),
        (14336, 4096, 64, (64, 1)),
        (14336, 4096, 256, (256, 1)),
        (4096, 14336, 256, (256, 4)),
        (3072, 768, 256, (64, 1)),
        (512, 4608, 64, (64, 8)),
        (512, 4608, 2048, (128, 2)),
    ],
)
def test_the_plan_is_the_one_measured_fastest(M: int, K: int, N: int, best: tuple[int, int]) -> None:
    """The best of all plans at 15 / 16 sparsity on an H100 (LOG.md), found again by the cost rule."""
    assert wgmma.choose(M, K, N, 132) == best


def test_shared_memory_goes_to_steps_of_x() -> None:
    assert wgmma.variant(256, 2000).XSTAGES == 4
    assert wgmma.variant(256, 6400).XSTAGES == 3


@pytest.mark.slow
@needs_nvrtc
@pytest.mark.parametrize("capacity", [2000, 6400])
@pytest.mark.parametrize("BN", [64, 128, 256])
def test_registers_that_an_mma_reads_are_left_alone_until_it_is_over(BN: int, capacity: int, tmp_path: Path) -> None:
    """wgmma reads A from registers while later instructions run; nothing may write them before the wait that ends it.

    In machine code, since the registers that matter are those the assembler chose: each batch of four MMAs is over at
    the wait after the next batch, and the loop over a panel holds four batches.
    """
    tool = disassembler()
    if tool is None:
        pytest.skip("Triton's nvdisasm is not installed")
    defines = (("BF16", 0), *wgmma.variant(BN, capacity)._asdict().items())
    binary = tmp_path / "wgmma.cubin"
    binary.write_bytes(compiled.cubin(wgmma.HERE / "_wgmma.cu", "sm_90a", defines, wgmma.HEADERS))
    text = subprocess.run([tool, "-c", str(binary)], capture_output=True, text=True, check=True).stdout
    code = [line.split("*/", 1)[1].strip() for line in text.splitlines() if re.match(r"\s+/\*[0-9a-f]{4,5}\*/", line)]
    waits = [at for at, line in enumerate(code) if line.startswith("WARPGROUP.DEPBAR")]
    batches: list[tuple[int, set[int]]] = []
    held: set[int] = set()
    for at, line in enumerate(code):
        if found := re.match(r"HGMMA\S* R\d+, R(\d+), ", line):
            held |= set(range(int(found[1]), int(found[1]) + 4))
            if "gsb0" in line:
                batches.append((at, held))
                held = set()
    assert len(batches) == 4
    assert all(len(registers) == 16 for _, registers in batches)
    for number, (at, registers) in enumerate(batches):
        if number < 3:
            span = [*range(at, waits[number + 1])]
        else:  # on to the end of the loop, and from its start to the wait after the first batch
            span = [*range(at, waits[3] + 40), *range(batches[0][0] - 150, waits[0])]
        assert not [code[i] for i in span if written(code[i]) & registers]


def disassembler() -> str | None:
    found = importlib.util.find_spec("triton")
    if found is None or not found.submodule_search_locations:
        return None
    tool = Path(found.submodule_search_locations[0]) / "backends" / "nvidia" / "bin" / "nvdisasm"
    return str(tool) if tool.is_file() else None


def written(line: str) -> set[int]:
    """Registers that an instruction writes."""
    opcode, _, rest = re.sub(r"^@!?U?P\w+\s+", "", line).partition(" ")
    if opcode.startswith(("ST", "BRA", "HGMMA", "SYNCS", "BAR", "MEMBAR", "RED")):
        return set()
    for operand in rest.rstrip(" ;").split(",")[:2]:
        if found := re.fullmatch(r"R(\d+)", operand.strip()):
            width = 4 if ".128" in opcode else 2 if ".64" in opcode or ".WIDE" in opcode else 1
            return set(range(int(found[1]), int(found[1]) + width))
        if not re.fullmatch(r"!?U?P\w+", operand.strip()):
            break
    return set()
