"""The CUDA C++ of the CSR kernels: it compiles where it may run, and every shape gets a variant that fits."""

from __future__ import annotations

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
