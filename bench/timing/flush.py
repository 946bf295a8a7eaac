"""Putting the last-level cache into a known state before each sample.

``cold-clean`` ends with a reading pass over at least twice the cache: a writing pass would leave dirty lines whose
write-back lands in the timed kernel (up to 28 % on memory-bound kernels of an H100). ``cold-dirty`` is that writing
pass, kept for comparison with harnesses that zero a buffer. Buffers are allocated once a process.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sparsity_roofline.bench.timing.protocol import L2State

if TYPE_CHECKING:
    import torch

Flush = Callable[[], None]

MIB = 1 << 20
UNKNOWN_CACHE_BYTES = 64 * MIB
CPU_CACHES = Path("/sys/devices/system/cpu")


def nothing() -> None:
    """The flush of a hot regime."""


# -- CPU


def cpu_cache_bytes(root: Path = CPU_CACHES) -> int | None:
    """Data held by this machine's second-level and larger caches together, from Linux's sysfs; None if it is silent.

    Each physical cache is counted once (``shared_cpu_list``), so several sockets or core complexes add up.
    """
    seen: dict[tuple[str, str], int] = {}
    for index in root.glob("cpu[0-9]*/cache/index[0-9]*"):
        try:
            level, kind, shared, size = (
                (index / name).read_text(encoding="ascii").strip()
                for name in ("level", "type", "shared_cpu_list", "size")
            )
            unit = {"K": 1 << 10, "M": MIB, "G": 1 << 30}.get(size[-1:], 1)
            count = int(size.rstrip("KMG"))
        except (OSError, ValueError):
            continue
        if kind != "Instruction" and int(level) >= 2:
            seen[level, shared] = count * unit
    return sum(seen.values()) or None


@cache
def _cpu_buffer() -> torch.Tensor | np.ndarray:
    # Values are never looked at; ones keep the pages from being one shared zero page.
    size = 2 * (cpu_cache_bytes() or UNKNOWN_CACHE_BYTES)
    try:
        import torch
    except ImportError:
        return np.ones(size // 4, dtype=np.float32)
    return torch.ones(size // 4, dtype=torch.float32)


def cpu_flush(state: L2State) -> Flush:
    """The pass that puts the CPU's caches into ``state``.

    torch sums with all threads, each over its own share, so that every core's private caches go too.
    """
    if state == "hot":
        return nothing
    buffer = _cpu_buffer()
    if state == "cold-clean":
        return lambda: _discard(buffer.sum())
    return lambda: _discard(buffer.__iadd__(1.0))


def _discard(value: object) -> None:
    del value


# -- GPU


def gpu_cache_bytes(device: int) -> int:
    """Size of a GPU's L2, as the driver says; 64 MiB where it is silent."""
    import torch

    return int(torch.cuda.get_device_properties(device).L2_cache_size) or UNKNOWN_CACHE_BYTES


@cache
def _gpu_buffer(device: int) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    l2 = gpu_cache_bytes(device)
    # Minima and complements of 64-bit integers are kernels that no product has, so a trace tells them from a call's.
    buffer = torch.arange(2 * l2 // 8 + 1, dtype=torch.int64, device=f"cuda:{device}")
    return buffer, torch.empty((), dtype=torch.int64, device=buffer.device)


def gpu_flush(state: L2State, device: int) -> Flush:
    """The pass, on the current stream, that puts the L2 of ``device`` into ``state``."""
    if state == "hot":
        return nothing
    import torch

    buffer, least = _gpu_buffer(device)
    if state == "cold-clean":
        return lambda: _discard(torch.amin(buffer, dim=0, out=least))
    return lambda: _discard(buffer.bitwise_not_())


def flush_bytes(state: L2State, device: int | None = None) -> int:
    """Bytes one pass covers; ``device`` is the GPU's index, None for the CPU."""
    if state == "hot":
        return 0
    buffer = _cpu_buffer() if device is None else _gpu_buffer(device)[0]
    return int(buffer.nbytes)


def reset_persisting_l2() -> bool:
    """Turn lines that earlier work marked as persisting back to normal ones; False where the driver does not offer it.

    torch exposes no such call. The driver's acts on the context that torch has made current on this thread.
    """
    try:
        return int(ctypes.CDLL("libcuda.so.1").cuCtxResetPersistingL2Cache()) == 0
    except (OSError, AttributeError):
        return False
