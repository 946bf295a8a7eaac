"""The CUDA C++ of the CSR kernels compiles for Hopper and, where it may run there, for Ampere. Needs no GPU."""

from __future__ import annotations

import pytest

nvrtc = pytest.importorskip("cuda.bindings.nvrtc", reason="cuda-bindings is not installed")

from sparsity_roofline.kernels._cuda import compiled
from sparsity_roofline.kernels.csr import decode


def here() -> bool:
    try:
        return int(nvrtc.nvrtcVersion()[0]) == 0
    except Exception:  # the library itself is another package
        return False


pytestmark = pytest.mark.skipif(not here(), reason="NVRTC is not installed: pip install nvidia-cuda-nvrtc")


@pytest.mark.parametrize("arch", ["sm_80", "sm_90a"])
@pytest.mark.parametrize("tile", [*decode.candidates(2), *decode.candidates(4)], ids=str)
def test_decode(tile: decode.Tile, arch: str) -> None:
    code = compiled.cubin(decode.HERE / "_decode.cu", arch, tuple(tile._asdict().items()), decode.HEADERS)
    assert b"bitmap_decode" in code
