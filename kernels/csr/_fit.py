"""Variants of device code that a device has the shared memory for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


def shared_limit(device: torch.device) -> int:
    """Bytes of shared memory that a block may ask for, less what device code declares itself."""
    import torch

    properties = torch.cuda.get_device_properties(device)
    return int(getattr(properties, "shared_memory_per_block_optin", 48 * 1024)) - 512


def first_fitting(tiles: Iterable[T], size: Callable[[T], int], limit: int) -> T | None:
    """The first of ``tiles`` whose ``size`` in bytes is within ``limit``, if any."""
    return next((tile for tile in tiles if size(tile) <= limit), None)
