"""What is profiled: one kernel on one case, in a form that another process can open again."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sparsity_roofline.bench import inputs
from sparsity_roofline.kernels.protocol import Kernel, Prepared
from sparsity_roofline.kernels.registry import load_kernels
from sparsity_roofline.model.case import Case
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.matrix import Matrix

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Target:
    """A matrix of a collection, N, dtype and kernel.

    Attributes:
        uri, prune, sparsities, seed: arguments of ``open_collection``.
        matrix: name within it.
        N, dtype: of the case; its format is the kernel's.
        kernel: by name.
        extra_kernels: specs of kernels that are neither built in nor installed.
    """

    uri: str
    matrix: str
    N: int
    dtype: str
    kernel: str
    prune: tuple[str, ...] = ()
    sparsities: tuple[float, ...] = ()
    seed: int = 0
    extra_kernels: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Text that ``from_json`` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Target:
        """Inverse of ``to_json``."""
        data = json.loads(text)
        for name in ("prune", "sparsities", "extra_kernels"):
            data[name] = tuple(data[name])
        return cls(**data)

    def find_kernel(self) -> Kernel:
        """The kernel.

        Raises:
            UserError: there is none of that name.
        """
        kernels = load_kernels(self.extra_kernels)
        if self.kernel not in kernels:
            raise UserError(f"no kernel {self.kernel!r}: there are {', '.join(kernels)}")
        return kernels[self.kernel]

    def load(self) -> tuple[Matrix, Case]:
        """Matrix and case, counted on the matrix.

        Raises:
            UserError: the collection or the matrix cannot be opened.
        """
        from sparsity_roofline.bench.matrices import open_collection

        collection = open_collection(self.uri, prune=self.prune, sparsities=self.sparsities, seed=self.seed)
        matrix = collection.load(self.matrix)
        format = self.find_kernel().format
        return matrix, Case.of(matrix, self.N, self.dtype, format, collection=collection.label, seed=self.seed)


@dataclass
class Ready:
    """A target in place on the device.

    Attributes:
        case: what is multiplied.
        prepared: the weight in the kernel's form.
        x, y: operands of every launch.
    """

    case: Case
    prepared: Prepared
    x: torch.Tensor
    y: torch.Tensor

    def launch(self) -> None:
        """Enqueue one call."""
        self.prepared.launch(self.x, self.y)

    @property
    def config(self) -> dict[str, Any]:
        """The kernel's choices."""
        return self.prepared.config


def make_ready(target: Target, device: str = "cuda") -> Ready:
    """Prepare, call once and hold the result against the oracle: a wrong kernel is not worth profiling.

    Raises:
        UserError: the kernel does not take the case, or its result is wrong.
    """
    from sparsity_roofline.kernels.reference import check, oracle

    matrix, case = target.load()
    kernel = target.find_kernel()
    answer = kernel.supports(case, "cuda" if device == "cuda" else "cpu")
    if not answer:
        raise UserError(f"{target.kernel} does not take this case: {answer.reason}", 6)
    prepared = kernel.prepare(matrix, case, "cuda" if device == "cuda" else "cpu")
    ready = Ready(case, prepared, inputs.make_x(case, device), inputs.make_y(case, device))
    ready.launch()
    result = check(ready.y, oracle(matrix, ready.x, case.dtype, format=case.format), case.dtype, case.K)
    if not result.ok:
        raise UserError(f"{target.kernel} is wrong on this case: {result.reason}; mend that first", 3)
    return ready
