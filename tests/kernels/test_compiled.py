"""CUDA C++ at run time: compilation, its cache, arguments; launches on a GPU."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest
import torch

pytest.importorskip("cuda.bindings.nvrtc", reason="cuda-bindings is not installed")

from sparsity_roofline.kernels._cuda import compiled

SOURCE = """#include "factor.cuh"
extern "C" __global__ void scale(const float* x, float* y, long long n, float a) {
  long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
  if (i < n) y[i] = a * x[i] * FACTOR * TIMES;
}
"""


def compiles() -> bool:
    try:
        from cuda.bindings import nvrtc

        return int(nvrtc.nvrtcVersion()[0]) == 0
    except Exception:  # the library itself is another package
        return False


needs_nvrtc = pytest.mark.skipif(not compiles(), reason="NVRTC is not installed: pip install nvidia-cuda-nvrtc")


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SPARSITY_ROOFLINE_HOME", str(tmp_path / "home"))
    (tmp_path / "factor.cuh").write_text("#define FACTOR 2.0f\n")
    (tmp_path / "scale.cu").write_text(SOURCE)
    return tmp_path / "scale.cu"


def code(source: Path, times: int = 3) -> bytes:
    return compiled.cubin(source, "sm_90a", (("TIMES", times),), (source.with_name("factor.cuh"),))


@needs_nvrtc
def test_a_compiled_file_is_kept_and_anything_it_is_made_from_makes_another(source: Path, tmp_path: Path) -> None:
    first = code(source)
    assert first.startswith(b"\x7fELF")
    (kept,) = (tmp_path / "home" / "cubin").iterdir()
    kept.write_bytes(b"from the cache")
    assert code(source) == b"from the cache"
    assert code(source, times=4).startswith(b"\x7fELF")
    source.with_name("factor.cuh").write_text("#define FACTOR 4.0f\n")
    assert code(source).startswith(b"\x7fELF")
    assert len(list((tmp_path / "home" / "cubin").iterdir())) == 3


@needs_nvrtc
def test_an_unwritable_cache_costs_nothing_but_time(source: Path, tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file where the folder should be")
    assert code(source).startswith(b"\x7fELF")


@needs_nvrtc
def test_the_compilers_log_is_the_message(source: Path) -> None:
    with pytest.raises(compiled.CompileError, match=r'scale.cu does not compile: .*identifier "TIMES" is undefined'):
        compiled.cubin(source, "sm_90a", (), (source.with_name("factor.cuh"),))


@pytest.mark.parametrize(("capability", "name"), [((8, 0), "sm_80"), ((8, 9), "sm_89"), ((9, 0), "sm_90a")])
def test_architectures(capability: tuple[int, int], name: str) -> None:
    assert compiled.architecture(capability) == name


def test_arguments_are_addresses_of_their_values() -> None:
    tensor = torch.zeros(3)
    address, held = compiled._value(tensor)
    assert ctypes.c_void_p.from_address(address).value == tensor.data_ptr()
    address, held = compiled._value(-7)
    assert ctypes.c_int32.from_address(address).value == -7
    address, held = compiled._value(ctypes.c_int64(2**40))
    assert ctypes.c_int64.from_address(address).value == 2**40
    assert held is not None
    with pytest.raises(OverflowError, match="c_int64"):
        compiled._value(2**31)


@pytest.mark.gpu
def test_launches_on_the_current_stream(source: Path) -> None:
    module = compiled.module(source, "cuda", (("TIMES", 3),), (source.with_name("factor.cuh"),))
    assert compiled.module(source, "cuda", (("TIMES", 3),), (source.with_name("factor.cuh"),)) is module
    scale = module.function("scale", shared=100 * 1024)
    assert scale.attribute("NUM_REGS") > 0
    assert scale.blocks_per_multiprocessor(128) >= 1
    x = torch.arange(1000, dtype=torch.float32, device="cuda")
    y, z = torch.full_like(x, -1), torch.full_like(x, -1)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        scale.launch((8,), 128, x, y, ctypes.c_int64(1000), ctypes.c_float(0.5))
        scale.launch((0,), 128, x, y, ctypes.c_int64(1000), ctypes.c_float(9.0))
        scale.launch((8,), 128, x, z, ctypes.c_int64(1000), ctypes.c_float(1.5), dependent=True)  # waits for nothing
    stream.synchronize()
    assert torch.equal(y.cpu(), torch.arange(1000) * 3.0)
    assert torch.equal(z.cpu(), torch.arange(1000) * 9.0)


@pytest.mark.gpu
def test_a_refused_launch_names_the_kernel(source: Path) -> None:
    scale = compiled.module(source, "cuda", (("TIMES", 3),), (source.with_name("factor.cuh"),)).function("scale")
    x = torch.zeros(4, device="cuda")
    with pytest.raises(compiled.CudaError, match=r"launch of scale failed with .*INVALID"):
        scale.launch((1,), 4096, x, x, ctypes.c_int64(4), ctypes.c_float(1.0))
