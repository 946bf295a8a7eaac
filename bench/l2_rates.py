"""How fast L2 hands lines to the multiprocessors and takes theirs, and how much it holds back from DRAM.

Two read rates, because they differ by a factor of about two: every multiprocessor reads lines of its own, or two
neighbours read the same lines at the same time, as tiles of one row or column of a product do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sparsity_roofline.kernels.support import has_module

if TYPE_CHECKING:
    import torch

Best = Callable[..., float | None]
"""``calibrate._Meter.best``: highest rate over calls, in units of work per second."""

MIB = 1 << 20
BUFFER_BYTES = 16 * MIB
MOVED_BYTES = 1 << 30
LAUNCHES = ((4096, 4, 4), (4096, 4, 8), (8192, 8, 2), (8192, 8, 4), (2048, 4, 8))
"""(int32 a tile, warps, programs per multiprocessor): which one feeds best differs between devices."""


def read_rates(best: Best, multiprocessors: int, l2_bytes: int) -> dict[str, float]:
    """Bytes per second by way: ``unshared`` and ``shared``; empty without Triton.

    Args:
        best: takes the best rate of several calls.
        multiprocessors: of the device.
        l2_bytes: its capacity; the buffer is 16 MiB or a third of it.
    """
    if not has_module("triton"):
        return {}
    import torch

    size = min(BUFFER_BYTES, l2_bytes // 3) // 65536 * 65536
    if not size:
        return {}
    source = torch.randint(-(1 << 30), 1 << 30, (size // 4,), dtype=torch.int32, device="cuda")
    found = {}
    for way, share in (("unshared", 1), ("shared", 2)):
        rates = [
            best(f"L2 {way} {tile} {warps} {programs}", [call], moved, "hot")
            for tile, warps, programs in LAUNCHES
            for call, moved in [walk_call(source, share, tile, warps, programs * multiprocessors)]
        ]
        known = [rate for rate in rates if rate is not None]
        if known:
            found[way] = max(known)
    return found


def walk_call(
    source: torch.Tensor, share: int, tile: int, warps: int, programs: int
) -> tuple[Callable[[], None], float]:
    """(a call that reads about a gigabyte out of ``source``, int32 on the device; the bytes it reads)."""
    import torch

    from sparsity_roofline.bench._triton_l2 import walk

    programs -= programs % share
    tiles, turns = source.numel() // tile, max(MOVED_BYTES // (4 * tile * programs), 1)
    out = torch.empty(programs * tile, dtype=torch.int32, device=source.device)

    def call() -> None:
        walk[(programs,)](source, out, tiles, turns, SHARE=share, BLOCK=tile, num_warps=warps)

    return call, 4.0 * tile * programs * turns


def write_rates(best: Best, l2_bytes: int, floor_s: float) -> dict[str, float]:
    """``write``: bytes per second that L2 takes; ``held``: bytes of Y that are still in it when a kernel ends.

    Two writes within L2 give the first. A copy one and a quarter times its size takes as long as its DRAM traffic, so
    what its time is short of two passes of DRAM was held back (``held_bytes``).
    """
    import torch

    def fill(size: int) -> float | None:
        target = torch.empty(size // 4, dtype=torch.float32, device="cuda")
        rate = best(f"L2 write {size >> 20} MiB", [lambda: target.fill_(0.5)], float(size))
        return size / rate if rate else None

    def copy(size: int) -> float | None:
        source = torch.rand(size // 4, dtype=torch.float32, device="cuda")
        target = torch.empty_like(source)
        rate = best(f"copy {size >> 20} MiB", [lambda: torch.neg(source, out=target)], float(size))
        return size / rate if rate else None

    out = {}
    small, large = (l2_bytes // part // 4096 * 4096 for part in (6, 2))
    if small and (short := fill(small)) and (long := fill(large)) and long > short:
        out["write"] = (large - small) / (long - short)
    size, far = l2_bytes * 5 // 4 // 4096 * 4096, 20 * l2_bytes // 4096 * 4096
    if small and (near := copy(size)) and (whole := copy(far)) and whole > near:
        out["held"] = held_bytes(size, near, 2.0 * (far - size) / (whole - near), floor_s)
    return out


def held_bytes(size: float, seconds: float, bandwidth: float, floor_s: float) -> float:
    """R with which T = floor + (V + V (1 - R / 2 V)) / w: a copy of V bytes that leaves R / 2 of its writes in L2.

    64 MiB in 40.2 us, w = 3.07 TB/s, floor 1.1 us: 2 (134.2 MB - 39.1 us w) = 28.4 MB. Between 0 and V.
    """
    return float(min(max(2.0 * (2.0 * size - (seconds - floor_s) * bandwidth), 0.0), size))
