"""Data types by the field's names: element bytes and the ceiling that bounds arithmetic in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sparsity_roofline.model.errors import UserError

Unit = Literal["tensor", "cuda", "cpu"]
"""What executes the arithmetic: tensor cores, CUDA cores, or a CPU."""


@dataclass(frozen=True)
class DType:
    """One arithmetic type.

    Attributes:
        name: how files, records and the command line spell it.
        element_bytes: bytes of one stored element.
        peak: the quantity of ``hardware.csv`` that holds its peak rate in the preset ``paper``: the tensor cores'
            for every type but fp32 and fp64.
        unit: the unit that peak belongs to on a GPU.
    """

    name: str
    element_bytes: int
    peak: str
    unit: Unit


DTYPES: dict[str, DType] = {
    d.name: d
    for d in (
        DType("fp64", 8, "fp64_flops", "cuda"),
        DType("fp32", 4, "fp32_flops", "cuda"),
        DType("tf32", 4, "tf32_flops", "tensor"),
        DType("fp16", 2, "fp16_flops", "tensor"),
        DType("bf16", 2, "bf16_flops", "tensor"),
        DType("fp8", 1, "fp8_flops", "tensor"),
        DType("int8", 1, "int8_ops", "tensor"),
    )
}


def dtype(name: str) -> DType:
    """Look a type up by name.

    Raises:
        UserError: for a name that is not in ``DTYPES``.
    """
    try:
        return DTYPES[name]
    except KeyError:
        raise UserError(f"unknown dtype {name!r}: choose one of {', '.join(DTYPES)}") from None
