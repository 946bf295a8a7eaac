"""Reading a GPU's state through NVML: every probe gives a value or says why not; none raises, none sets anything.
(Setting clocks is the business of ``clocks`` alone.)

A CUDA device is found by its UUID: under ``CUDA_VISIBLE_DEVICES`` CUDA's device 0 need not be NVML's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Literal, cast

Why = Literal["not_supported", "no_permission", "no_library"]
WHYS: tuple[Why, ...] = ("not_supported", "no_permission", "no_library")


@cache
def _library() -> Any:
    """The initialised NVML module, or None."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # ImportError, or any NVML error: no driver, no permission, version mismatch
        return None
    return pynvml


def probe(read: Callable[[Any], Any], *, library: Any | None = None) -> Any | Why:
    """``read(pynvml)``, or why it has no answer.

    Args:
        read: takes the NVML module, returns plain types (bytes are decoded).
        library: stands in for NVML in tests.
    """
    nvml = library if library is not None else _library()
    if nvml is None:
        return "no_library"
    try:
        value = read(nvml)
    except AttributeError:  # a binding older than the call
        return "not_supported"
    except nvml.NVMLError as error:
        denied = getattr(nvml, "NVML_ERROR_NO_PERMISSION", 4)
        return "no_permission" if getattr(error, "value", None) == denied else "not_supported"
    return value.decode() if isinstance(value, bytes) else value


def known(value: Any) -> bool:
    """Is this a value, not one of the words for its absence?"""
    return not (isinstance(value, str) and value in WHYS)


def handle(uuid: str, *, library: Any | None = None) -> Any | Why:
    """NVML's handle of the device with CUDA's UUID (with or without the prefix ``GPU-``)."""
    text = uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
    return probe(lambda n: n.nvmlDeviceGetHandleByUUID(text), library=library)


def device_uuid(device: int | None = None) -> str:
    """UUID of a CUDA device (the current one by default) as NVML spells it; CUDA must be there."""
    import torch

    index = torch.cuda.current_device() if device is None else device
    return f"GPU-{torch.cuda.get_device_properties(index).uuid}"


def sm_clock_mhz(device_handle: Any, *, library: Any | None = None) -> float | None:
    """The SM clock now, or None."""
    if not known(device_handle):
        return None
    clock = probe(lambda n: n.nvmlDeviceGetClockInfo(device_handle, n.NVML_CLOCK_SM), library=library)
    return float(clock) if known(clock) else None


def field_values(device_handle: Any, ids: Sequence[int], *, library: Any | None = None) -> dict[int, int | float | Why]:
    """Values of NVML fields by id, all from one call; each has its own answer."""
    if not known(device_handle):
        return dict.fromkeys(ids, device_handle)
    found: list[int | float | Why] | Why = probe(
        lambda n: [_field(n, v) for v in n.nvmlDeviceGetFieldValues(device_handle, list(ids))], library=library
    )
    return dict.fromkeys(ids, found) if isinstance(found, str) else dict(zip(ids, found, strict=True))


_MEMBERS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")  # by NVML's number of the value's type


def _field(library: Any, answer: Any) -> int | float | Why:
    if answer.nvmlReturn != 0:
        denied = getattr(library, "NVML_ERROR_NO_PERMISSION", 4)
        return "no_permission" if answer.nvmlReturn == denied else "not_supported"
    if not 0 <= answer.valueType < len(_MEMBERS):
        return "not_supported"
    value: int | float = getattr(answer.value, _MEMBERS[answer.valueType])
    return value


def compute_pids(device_handle: Any, *, library: Any | None = None) -> frozenset[int] | Why:
    """Process ids, as NVML numbers them, of every process with a compute context on the device."""
    if not known(device_handle):
        return cast(Why, device_handle)
    found: frozenset[int] | Why = probe(
        lambda n: frozenset(int(p.pid) for p in n.nvmlDeviceGetComputeRunningProcesses(device_handle)), library=library
    )
    return found
