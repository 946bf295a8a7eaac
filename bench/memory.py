"""Refuse a case that clearly cannot fit before anything is allocated for it."""

from __future__ import annotations

import psutil

from sparsity_roofline.model.case import Case
from sparsity_roofline.model.dtype import dtype

FLUSH_BYTES = 512 << 20
"""Room left for the timer's cache flush and a library's workspace."""

_CHUNK = 512 << 20  # the oracle takes X in pieces of at most this many float64 bytes


def bytes_needed(case: Case) -> int:
    """Bytes a measured case holds at its peak on its device.

    W in the kernel's form and once more as conversion scratch, W in float64 for the oracle, X, Y, the reference in
    float64, and the check's temporaries (two float64 pieces of Y). X and the oracle's temporaries are never alive
    together with the check's.
    """
    size = dtype(case.dtype).element_bytes
    M, K, N = case.M, case.K, case.N
    weight = 2 * (case.stored_elements * size + (0 if case.format == "dense" else 4 * case.nnz))
    operands = K * N * size + M * N * size
    reference = 8 * M * N
    oracle = 8 * M * K + min(_CHUNK, 8 * K * N)
    check = 2 * min(_CHUNK, 8 * M * N) + M * N
    return weight + operands + reference + max(oracle, check)


def free_bytes(device: str) -> int:
    """Bytes this process can still get on the device, those it holds in torch's cache included."""
    if device == "cpu":
        return int(psutil.virtual_memory().available)
    import torch

    free, _ = torch.cuda.mem_get_info()
    return int(free + torch.cuda.memory_reserved() - torch.cuda.memory_allocated())


def too_large(case: Case, free: int, device: str) -> str:
    """'' if the case fits into ``free`` bytes, else the reason in words."""
    need = bytes_needed(case) + (FLUSH_BYTES if device == "cuda" else 0)
    if need <= free:
        return ""
    where = "GPU memory" if device == "cuda" else "memory"
    return f"needs about {need / 2**30:.1f} GiB of {where}, {free / 2**30:.1f} GiB are free; choose a smaller N"
