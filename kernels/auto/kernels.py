"""``csr.auto``, ``bsr.auto``, ``nm.auto``, ``dense.auto``: launch whichever kernel ``choose`` names.

All kernels of the format that are available here take part, vendors' and other projects' too, so these are not "ours".
The record's configuration says which one ran.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from sparsity_roofline.kernels.auto.choose import choose
from sparsity_roofline.kernels.protocol import YES, BaseKernel, Device, Kernel, Prepared, Step, Support, no_step
from sparsity_roofline.kernels.support import needs_cuda
from sparsity_roofline.model.case import FORMATS, Case, Format
from sparsity_roofline.model.matrix import Matrix


class Chosen:
    """A prepared weight of the chosen kernel, under its name."""

    def __init__(self, name: str, prepared: Prepared) -> None:
        self._prepared = prepared
        self.launch = prepared.launch
        self.config: dict[str, Any] = {"chosen": name, **prepared.config}


class Auto(BaseKernel):
    """The kernel of a format that is expected to be fastest for the case.

    Args:
        format: whose kernels it chooses among.
    """

    dtypes = ("fp16", "bf16", "tf32", "fp32")

    def __init__(self, format: Format) -> None:
        self.format = format
        self.name = f"{format}.auto"

    def available(self, device: Device) -> Support:
        answer = super().available(device)
        if not answer:
            return answer
        return needs_cuda() and (YES if _of_format(self.format) else Support(f"no kernel for {self.format} runs here"))

    def supports(self, case: Case, device: Device) -> Support:
        if case.format != self.format:
            return Support(f"multiplies {self.format}, not {case.format}")
        answer = self.available(device)
        if answer and not self.candidates(case, device):
            return Support(f"none of the kernels for {self.format} takes it")
        return answer

    def candidates(self, case: Case, device: Device) -> list[Kernel]:
        """Kernels that take the case, ours first."""
        found = [kernel for kernel in _of_format(self.format) if kernel.supports(case, device)]
        return sorted(found, key=lambda kernel: not kernel.ours)

    def prepare(self, matrix: Matrix, case: Case, device: Device, step: Step = no_step) -> Prepared:
        found = {kernel.name: kernel for kernel in self.candidates(case, device)}
        name = choose(case, list(found))
        return Chosen(name, found[name].prepare(matrix, case, device, step))


@cache
def _of_format(format: Format) -> tuple[Kernel, ...]:
    """Every kernel of the format that this machine's GPU can run, without those of this module."""
    from sparsity_roofline.kernels.registry import load_kernels

    return tuple(
        kernel
        for kernel in load_kernels().values()
        if kernel.format == format and not isinstance(kernel, Auto) and kernel.available("cuda")
    )


KERNELS = [Auto(format) for format in FORMATS]
