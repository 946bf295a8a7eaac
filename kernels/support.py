"""Can this machine run a kernel at all? Cheap questions first; torch is imported only where a GPU is asked for."""

from __future__ import annotations

import importlib.util
import os
from functools import cache
from typing import TYPE_CHECKING

from sparsity_roofline.kernels.protocol import YES, BaseKernel, Device, Support

if TYPE_CHECKING:
    import torch

INTERPRETER_NOTE = "runs in Triton's interpreter: correctness only, never timed"


PRECISIONS = {"fp16": "ieee", "bf16": "ieee", "tf32": "tf32", "fp32": "ieee"}
"""``input_precision`` of ``tl.dot`` by dtype: Triton's default for float32 is TF32, here a dtype means what it says."""


def is_wide(*tensors: torch.Tensor) -> bool:
    """Do offsets into any of the tensors, plus one tile of overhang, leave int32?"""
    return any(tensor.numel() >= 2**31 - 2**24 for tensor in tensors)


@cache
def has_module(name: str) -> bool:
    """Is a top-level package installed? Does not import it."""
    return importlib.util.find_spec(name) is not None


def needs_cuda() -> Support:
    """Yes if PyTorch sees an NVIDIA GPU."""
    if not has_module("torch"):
        return Support("needs PyTorch: pip install torch")
    import torch

    if not torch.cuda.is_available():
        return Support("needs an NVIDIA GPU and a CUDA build of PyTorch")
    return YES


def interpreting() -> bool:
    """Do Triton kernels run in Triton's interpreter? Decided by TRITON_INTERPRET before they are first imported."""
    return os.environ.get("TRITON_INTERPRET", "").strip().lower() in {"1", "true", "yes", "on", "y"}


class TritonKernel(BaseKernel):
    """Defaults of a Triton kernel: a GPU, or the CPU by Triton's interpreter where TRITON_INTERPRET=1 asks for it.

    A harness must not time a kernel whose ``interpreted`` is True.
    """

    devices: tuple[Device, ...] = ("cuda", "cpu")
    dtypes: tuple[str, ...] = ("fp16", "bf16", "tf32", "fp32")
    ours: bool = True

    @property
    def interpreted(self) -> bool:
        """True where launches run in the interpreter (see ``INTERPRETER_NOTE``)."""
        return interpreting()

    def available(self, device: Device) -> Support:
        if not has_module("triton"):
            return Support("needs Triton: pip install triton (Linux)")
        if device == "cpu":
            if interpreting():
                return YES
            return Support("needs an NVIDIA GPU (set TRITON_INTERPRET=1 to check correctness on the CPU)")
        return needs_cuda()
