"""What the kernels in CUDA C++ have in common: where they run and what they are."""

from __future__ import annotations

from sparsity_roofline.kernels._cuda import compiled
from sparsity_roofline.kernels.protocol import BaseKernel, Device, Support


class CudaKernel(BaseKernel):
    """Device code of this repository, compiled at run time; 16-bit types unless it says otherwise.

    Attributes:
        capability: the compute capability it needs, see ``compiled.needs_compiler``.
    """

    dtypes: tuple[str, ...] = ("fp16", "bf16")
    ours: bool = True
    capability: tuple[int, int] = compiled.MIN_CAPABILITY

    def available(self, device: Device) -> Support:
        return super().available(device) and compiled.needs_compiler(self.capability)
