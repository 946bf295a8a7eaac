"""CUDA C++ of this repository, compiled for the device at hand and launched on torch's current stream.

NVRTC comes with PyTorch's CUDA build, so no toolkit is needed. A source file includes nothing but files named to
``module`` as headers. A compiled file is kept below the cache folder under a hash of all that it was made from.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsity_roofline.kernels._cuda.handles import current_stream, resolve
from sparsity_roofline.kernels.protocol import YES, Support
from sparsity_roofline.kernels.support import has_module, needs_cuda
from sparsity_roofline.model.home import cache_home

if TYPE_CHECKING:
    import torch

INSTALL = "needs NVRTC from Python: pip install cuda-bindings nvidia-cuda-nvrtc"
DEFAULT_SHARED = 48 * 1024  # bytes a block may use without asking
MIN_CAPABILITY = (8, 0)  # mma.sync with bf16, cp.async


class CompileError(RuntimeError):
    """NVRTC refused the source; the message is its log. A fault of the source or the toolkit."""


class CudaError(RuntimeError):
    """A call of the CUDA driver failed; the message names the call and the driver's status."""


def needs_compiler(capability: tuple[int, int] = MIN_CAPABILITY) -> Support:
    """Yes if this machine can compile and run CUDA C++ for a device of ``capability`` or later; looks at device 0.

    A capability of (9, 0) means Hopper's own instructions, which later devices do not execute: exactly 9.0 then.
    """
    if not (has_module("cuda") and _bindings()):
        return Support(INSTALL)
    if not (answer := needs_cuda()):
        return answer
    import torch

    found = torch.cuda.get_device_capability()
    wanted = f"{capability[0]}.{capability[1]}"
    if capability == (9, 0) and found != (9, 0):
        return Support(f"uses instructions of compute capability 9.0 only (H100, H200); this device has {_text(found)}")
    if found < capability:
        return Support(f"needs compute capability {wanted} or later; this device has {_text(found)}")
    return YES


def architecture(capability: tuple[int, int]) -> str:
    """The compiler's name of a device: with the ``a`` of its architecture-specific instructions from 9.0 on."""
    return f"sm_{capability[0]}{capability[1]}{'a' if capability >= (9, 0) else ''}"


def cubin(
    source: Path, arch: str, defines: Sequence[tuple[str, str | int]] = (), headers: Sequence[Path] = ()
) -> bytes:
    """Machine code of a CUDA C++ file for ``arch`` (``sm_90a``), from the cache or compiled now. Needs no GPU.

    Args:
        source: the file; its ``extern "C" __global__`` functions can be launched.
        arch: as ``architecture`` gives it.
        defines: macros, in order.
        headers: files that the source may include by their bare name.

    Raises:
        CompileError: with the compiler's log.
    """
    from cuda.bindings import nvrtc

    options = [f"--gpu-architecture={arch}", "--std=c++17", "--extra-device-vectorization"]
    options += [f"--define-macro={name}={value}" for name, value in defines]
    texts = {path.name: path.read_bytes() for path in (source, *headers)}
    _, major, minor = nvrtc.nvrtcVersion()
    made_from = repr((major, minor, options, sorted(texts.items())))
    kept = cache_home() / "cubin" / f"{source.stem}-{hashlib.sha256(made_from.encode()).hexdigest()[:24]}.cubin"
    try:
        return kept.read_bytes()
    except OSError:
        code = _compile(source, options, texts)
    _keep(kept, code)
    return code


class Module:
    """The compiled functions of one source on one device."""

    def __init__(self, code: bytes, device: torch.device) -> None:
        import torch
        from cuda.bindings import driver

        self._device = device
        with torch.cuda.device(device):
            torch.cuda.current_stream()  # the primary context must be current
            torch.empty(1, device=device)
            self._module = _check("cuModuleLoadData", driver.cuModuleLoadData(code))

    def function(self, name: str, shared: int = 0) -> Function:
        """The ``extern "C"`` kernel ``name``, allowed ``shared`` bytes of dynamic shared memory."""
        from cuda.bindings import driver

        found = _check("cuModuleGetFunction", driver.cuModuleGetFunction(self._module, name.encode()))
        if shared > DEFAULT_SHARED:
            limit = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            _check("cuFuncSetAttribute", driver.cuFuncSetAttribute(found, limit, shared))
        return Function(name, found, shared, self._device)


class Function:
    """A kernel ready to launch.

    Attributes:
        name: as in the source.
        shared: bytes of dynamic shared memory of every launch.
    """

    def __init__(self, name: str, handle: Any, shared: int, device: torch.device) -> None:
        self.name, self.shared = name, shared
        self._handle, self._device = handle, device

    def attribute(self, name: str) -> int:
        """A ``CUfunction_attribute`` without its prefix: ``NUM_REGS``, ``LOCAL_SIZE_BYTES``, ``SHARED_SIZE_BYTES``."""
        from cuda.bindings import driver

        wanted = getattr(driver.CUfunction_attribute, f"CU_FUNC_ATTRIBUTE_{name}")
        return int(_check("cuFuncGetAttribute", driver.cuFuncGetAttribute(wanted, self._handle)))

    def blocks_per_multiprocessor(self, threads: int) -> int:
        """How many blocks of ``threads`` one multiprocessor holds at a time."""
        from cuda.bindings import driver

        call = driver.cuOccupancyMaxActiveBlocksPerMultiprocessor
        return int(_check("cuOccupancyMaxActiveBlocks", call(self._handle, threads, self.shared)))

    def active_clusters(self, threads: int, size: int) -> int:
        """How many clusters of ``size`` blocks of ``threads`` the whole device holds at a time.

        Fewer than its multiprocessors suggest where these are not grouped in multiples of ``size``.
        """
        from cuda.bindings import driver

        config = driver.CUlaunchConfig()
        config.gridDimX, config.gridDimY, config.gridDimZ = size, 1, 1
        config.blockDimX, config.blockDimY, config.blockDimZ = threads, 1, 1
        config.sharedMemBytes = self.shared
        attribute = driver.CUlaunchAttribute()
        attribute.id = driver.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION
        attribute.value.clusterDim.x, attribute.value.clusterDim.y, attribute.value.clusterDim.z = size, 1, 1
        config.attrs, config.numAttrs = [attribute], 1
        call = driver.cuOccupancyMaxActiveClusters
        return int(_check("cuOccupancyMaxActiveClusters", call(self._handle, config)))

    def launch(self, grid: tuple[int, ...], threads: int, *arguments: Any, dependent: bool = False) -> None:
        """Enqueue on torch's current stream.

        Args:
            grid: 1 to 3 block counts; none is launched if one of them is 0.
            threads: per block.
            arguments: tensors (their address), ``TensorMap``, ctypes values, or int (32 bits; OverflowError beyond).
            dependent: programmatic dependent launch: may start before the kernel ahead of it in the stream has ended;
                the device code waits with ``griddepcontrol.wait``.

        Raises:
            CudaError: the launch was refused.
        """
        from cuda.bindings import driver

        x, y, z = (*grid, 1, 1)[:3]
        if not x * y * z:
            return
        held = [_value(argument) for argument in arguments]
        addresses = (ctypes.c_void_p * len(held))(*(address for address, _ in held))
        config = driver.CUlaunchConfig()
        config.gridDimX, config.gridDimY, config.gridDimZ = x, y, z
        config.blockDimX, config.blockDimY, config.blockDimZ = threads, 1, 1
        config.sharedMemBytes = self.shared
        config.hStream = driver.CUstream(current_stream(self._device))
        if dependent:
            attribute = driver.CUlaunchAttribute()
            attribute.id = driver.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
            attribute.value.programmaticStreamSerializationAllowed = 1
            config.attrs, config.numAttrs = [attribute], 1
        _check(f"launch of {self.name}", driver.cuLaunchKernelEx(config, self._handle, ctypes.addressof(addresses), 0))


class TensorMap:
    """How the tensor memory accelerator reads tiles of a contiguous 1-D to 5-D tensor; keeps the tensor alive."""

    def __init__(self, tensor: torch.Tensor, box: Sequence[int], swizzle: int = 128, promotion: int = 128) -> None:
        """
        Args:
            tensor: contiguous, address a multiple of 16 bytes, every row of its inner dimension too.
            box: tile in elements, outermost dimension first as in ``tensor.shape``; each at most 256.
            swizzle: 0, 32, 64 or 128 bytes; the box's inner dimension is then at most that many bytes.
            promotion: bytes of an L2 fetch: 0, 64, 128 or 256.

        What lies outside the tensor reads as zero.
        """
        import torch
        from cuda.bindings import driver

        kinds = {torch.float16: "FLOAT16", torch.bfloat16: "BFLOAT16", torch.float32: "FLOAT32"}
        kinds |= {torch.int32: "INT32", torch.uint8: "UINT8", torch.int16: "UINT16", torch.uint16: "UINT16"}
        size = tensor.element_size()
        dims = [driver.cuuint64_t(n) for n in reversed(tensor.shape)]
        strides = [driver.cuuint64_t(n * size) for n in reversed(tensor.stride()[:-1])]
        self.tensor = tensor
        self.map = _check(
            "cuTensorMapEncodeTiled",
            driver.cuTensorMapEncodeTiled(
                getattr(driver.CUtensorMapDataType, f"CU_TENSOR_MAP_DATA_TYPE_{kinds[tensor.dtype]}"),
                tensor.dim(),
                tensor.data_ptr(),
                dims,
                strides,
                [driver.cuuint32_t(n) for n in reversed(box)],
                [driver.cuuint32_t(1)] * tensor.dim(),
                driver.CUtensorMapInterleave.CU_TENSOR_MAP_INTERLEAVE_NONE,
                getattr(driver.CUtensorMapSwizzle, f"CU_TENSOR_MAP_SWIZZLE_{f'{swizzle}B' if swizzle else 'NONE'}"),
                getattr(
                    driver.CUtensorMapL2promotion,
                    f"CU_TENSOR_MAP_L2_PROMOTION_{f'L2_{promotion}B' if promotion else 'NONE'}",
                ),
                driver.CUtensorMapFloatOOBfill.CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
            ),
        )


def module(
    source: Path,
    device: torch.device | str = "cuda",
    defines: Sequence[tuple[str, str | int]] = (),
    headers: Sequence[Path] = (),
) -> Module:
    """The functions of ``source`` for ``device``: compiled at most once per process and kept on disk.

    Raises:
        CompileError: with the compiler's log.
        CudaError: the driver does not load it.
    """
    return _module(Path(source), resolve(str(device)), tuple(defines), tuple(headers))


@cache
def _module(
    source: Path, device: torch.device, defines: tuple[tuple[str, str | int], ...], headers: tuple[Path, ...]
) -> Module:
    import torch

    arch = architecture(torch.cuda.get_device_capability(device))
    return Module(cubin(source, arch, defines, headers), device)


def _compile(source: Path, options: list[str], texts: dict[str, bytes]) -> bytes:
    from cuda.bindings import nvrtc

    included = [name for name in texts if name != source.name]
    status, program = nvrtc.nvrtcCreateProgram(
        texts[source.name],
        source.name.encode(),
        len(included),
        [texts[name] for name in included],
        [name.encode() for name in included],
    )
    _accept("nvrtcCreateProgram", status)
    try:
        (status,) = nvrtc.nvrtcCompileProgram(program, len(options), [option.encode() for option in options])
        if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            _, size = nvrtc.nvrtcGetProgramLogSize(program)
            log = b" " * size
            nvrtc.nvrtcGetProgramLog(program, log)
            raise CompileError(f"{source.name} does not compile: {log.rstrip(bytes(1)).decode(errors='replace')}")
        status, size = nvrtc.nvrtcGetCUBINSize(program)
        _accept("nvrtcGetCUBINSize", status)
        code: bytes = b" " * size
        (status,) = nvrtc.nvrtcGetCUBIN(program, code)
        _accept("nvrtcGetCUBIN", status)
    finally:
        nvrtc.nvrtcDestroyProgram(program)
    return code


def _keep(path: Path, code: bytes) -> None:
    """Write whole or not at all; a cache that cannot be written costs a compilation next time, nothing else."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(code)
        os.replace(file.name, path)
    except OSError:
        return


@cache
def _bindings() -> bool:
    try:
        from cuda.bindings import driver, nvrtc  # noqa: F401
    except ImportError:
        return False
    return True


def _value(argument: Any) -> tuple[int, Any]:
    """Address of an argument's value, and what keeps it alive."""
    if isinstance(argument, TensorMap):
        return argument.map.getPtr(), argument
    if isinstance(argument, int):
        if not -(2**31) <= argument < 2**31:
            raise OverflowError(f"{argument} does not fit the 32 bits of an int argument: pass ctypes.c_int64")
        argument = ctypes.c_int32(argument)
    elif hasattr(argument, "data_ptr"):
        argument = ctypes.c_void_p(argument.data_ptr())
    return ctypes.addressof(argument), argument


def _check(call: str, result: tuple[Any, ...]) -> Any:
    """The value of a driver call, or CudaError."""
    status, *values = result
    if int(status) != 0:
        raise CudaError(f"{call} failed with {getattr(status, 'name', status)}")
    return values[0] if values else None


def _accept(call: str, status: Any) -> None:
    if int(status) != 0:
        raise CompileError(f"{call} failed with {getattr(status, 'name', status)}")


def _text(capability: tuple[int, int]) -> str:
    return f"{capability[0]}.{capability[1]}"
