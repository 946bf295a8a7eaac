"""The GPUs of this host as a fleet: one worker process each, pinned by UUID. Needs nothing that is not installed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sparsity_roofline.bench.cluster import MakePlace
from sparsity_roofline.bench.environment import pick_device
from sparsity_roofline.bench.pinned import Pinned
from sparsity_roofline.bench.station import Tell
from sparsity_roofline.bench.timing import nvml
from sparsity_roofline.kernels.protocol import Kernel
from sparsity_roofline.model.errors import UserError


@dataclass(frozen=True)
class Gpu:
    """One GPU of this host.

    Attributes:
        index: CUDA's number for it in this process.
        uuid: as NVML spells it, the name that CUDA_VISIBLE_DEVICES takes.
        name: as the driver calls its kind.
    """

    index: int
    uuid: str
    name: str


def gpus() -> list[Gpu]:
    """The GPUs this process may use, in CUDA's order."""
    if pick_device() != "cuda":
        return []
    import torch

    return [Gpu(i, nvml.device_uuid(i), str(torch.cuda.get_device_name(i))) for i in range(torch.cuda.device_count())]


def choose(text: str, found: list[Gpu]) -> list[Gpu]:
    """The GPUs that ``all`` or ``0,1`` means.

    Raises:
        UserError: no GPU here, no such number, one twice, or GPUs of different kinds.
    """
    if not found:
        raise UserError(f"--devices {text}: no NVIDIA GPU here; leave it out to measure on the CPU", 6)
    if text.strip() == "all":
        chosen = found
    else:
        words = [word.strip() for word in text.split(",")]
        if not all(word.isdecimal() for word in words):
            raise UserError(f"--devices {text}: write all, or numbers as in 0,1")
        numbers = [int(word) for word in words]
        if len(set(numbers)) < len(numbers):
            raise UserError(f"--devices {text}: the same GPU twice; no two measurements run on one")
        if absent := [n for n in numbers if n >= len(found)]:
            raise UserError(f"--devices {text}: there is no GPU {absent[0]}, only 0 to {len(found) - 1}")
        chosen = [found[n] for n in numbers]
    if len({gpu.name for gpu in chosen}) > 1:
        listed = ", ".join(f"{gpu.index} is a {gpu.name}" for gpu in chosen)
        raise UserError(f"--devices {text}: one run holds one kind of device, and {listed}: name those of one kind")
    return chosen


class HostFleet:
    """GPUs of this host.

    Attributes:
        size, patience_s: see ``Fleet``. All come at once, and none comes later.
    """

    patience_s = 0.0

    def __init__(self, chosen: list[Gpu]) -> None:
        self.size = len(chosen)
        self._coming = chosen

    def arrivals(self, first: dict[str, Any], kernels: Mapping[str, Kernel], case_timeout_s: float) -> list[MakePlace]:
        """Once, all of them."""
        coming, self._coming = self._coming, []

        def make(gpu: Gpu) -> MakePlace:
            def place(tell: Tell) -> Pinned:
                return Pinned(first, kernels, case_timeout_s, tell, gpu.uuid, f"GPU {gpu.index}")

            return place

        return [make(gpu) for gpu in coming]

    def close(self) -> None:
        """Nothing is held here; each place lets go of its own."""
