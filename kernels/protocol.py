"""What a kernel is to the program, and how a user's own joins in.

A kernel is any object with the members of ``Kernel``; inherit from ``BaseKernel`` to get the defaults. Nothing here
knows what time it is: the harness passes ``step``, a context manager factory, and ``prepare`` names its steps with it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from sparsity_roofline.model.case import Case, Format, Layout
from sparsity_roofline.model.dtype import DTYPES, Unit
from sparsity_roofline.model.matrix import Matrix

if TYPE_CHECKING:
    import torch

Device = Literal["cuda", "cpu"]
Step = Callable[[str], AbstractContextManager[Any]]


def no_step(name: str) -> AbstractContextManager[None]:
    """The ``step`` of a caller who does not time preparation."""
    return nullcontext()


@dataclass(frozen=True)
class Support:
    """Yes, or why not (one line, with the remedy where there is one). Truthy when the answer is yes."""

    reason: str = ""

    def __bool__(self) -> bool:
        return not self.reason


YES = Support()


@runtime_checkable
class Prepared(Protocol):
    """A weight in one kernel's own form, ready to multiply.

    Attributes:
        config: what was chosen (tile sizes, algorithm, math mode, index width): plain types, goes into the record.
    """

    config: dict[str, Any]

    def launch(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Enqueue Y = W @ X on the current stream: x (K, N), y (M, N), preallocated; every y is written.

        Both are row-major; for a token-major case both are transposed views of row-major (N, K) and (N, M).
        """


@runtime_checkable
class Kernel(Protocol):
    """One named implementation of Y = W @ X for one format.

    Attributes:
        name: ``<format>.<implementation>``, for example ``csr.triton``.
        format: the storage format it multiplies.
        version: changes when its results may change.
        devices: where it runs.
        dtypes: arithmetic types it accepts.
        ours: True for device code of this repository, False for a wrapper of somebody else's kernel.
    """

    name: str
    format: Format
    version: str
    devices: tuple[Device, ...]
    dtypes: tuple[str, ...]
    ours: bool

    def unit(self, dtype: str, device: Device) -> Unit:
        """The unit that executes its arithmetic."""

    def available(self, device: Device) -> Support:
        """Can this machine run it at all?"""

    def supports(self, case: Case, device: Device) -> Support:
        """Can it run this case? Looks at the case's numbers only, never at a tensor."""

    def prepare(self, matrix: Matrix, case: Case, device: Device, step: Step = no_step) -> Prepared:
        """Convert, compress, plan: everything that is done once per weight. ``step(name)`` wraps each named part."""


class BaseKernel:
    """Defaults for a kernel: availability by device, support by dtype and format, no work declared beyond that.

    ``layouts`` are those of X and Y that it takes, beside the members of ``Kernel``.
    """

    name: str
    format: Format
    version: str = "1"
    devices: tuple[Device, ...] = ("cuda",)
    dtypes: tuple[str, ...] = ("fp16", "bf16", "fp32")
    layouts: tuple[Layout, ...] = ("row-major",)
    ours: bool = False

    def unit(self, dtype: str, device: Device) -> Unit:
        return "cpu" if device == "cpu" else DTYPES[dtype].unit

    def available(self, device: Device) -> Support:
        if device not in self.devices:
            return Support(f"runs on {' and '.join(self.devices)} only")
        return YES

    def supports(self, case: Case, device: Device) -> Support:
        answer = self.available(device)
        if not answer:
            return answer
        if case.format != self.format:
            return Support(f"multiplies {self.format}, not {case.format}")
        if case.dtype not in self.dtypes:
            return Support(f"no {case.dtype}: accepts {', '.join(self.dtypes)}")
        if case.layout not in self.layouts:
            return Support(f"takes X row-major (K, N) only, not {case.layout}")
        return YES

    def prepare(self, matrix: Matrix, case: Case, device: Device, step: Step = no_step) -> Prepared:
        raise NotImplementedError
