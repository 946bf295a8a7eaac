"""Which status an exception means."""

from __future__ import annotations

from sparsity_roofline.bench.timing.protocol import InvalidMeasurement
from sparsity_roofline.kernels._cuda.errors import VendorUnsupported
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.record import Status

_MEMORY = ("out of memory", "alloc_failed", "can't allocate memory", "cannot allocate memory", "insufficient_resources")


class WrongResult(Exception):
    """A kernel's output is beyond tolerance: the row gets no time."""


class Unsupported(Exception):
    """The pair cannot be measured here, for a reason that is no fault."""


class TooLarge(Exception):
    """The case does not fit into memory; nothing was allocated."""


class NoTimer(Exception):
    """The timer that was asked for cannot be had here."""


def status_of(error: BaseException) -> tuple[Status, str]:
    """Status and reason in words of one line.

    Triton's ``OutOfResources`` (a tile too large for the GPU's shared memory) is an error of the kernel, not of memory.
    """
    text = first_line(error)
    if isinstance(error, WrongResult):
        return "incorrect", text
    if isinstance(error, (Unsupported, VendorUnsupported)):
        return "unsupported", text
    if isinstance(error, (InvalidMeasurement, NoTimer)):
        return "invalid_environment", text
    if isinstance(error, (TooLarge, MemoryError)) or is_out_of_memory(error):
        return "out_of_memory", text or "the allocation failed"
    if isinstance(error, UserError):
        return "error", text
    return "error", f"{type(error).__name__}: {text}" if text else type(error).__name__


def is_out_of_memory(error: BaseException) -> bool:
    """torch, CuPy and the CUDA libraries each say it in their own way."""
    if "OutOfMemory" in type(error).__name__:
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _MEMORY)


def first_line(error: BaseException) -> str:
    """The first line of the message that says anything, at most 300 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else ""
