"""What a kernel is fed: seeded X, an output buffer that shows unwritten elements, and seeded dense weights."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from sparsity_roofline.kernels.convert import torch_dtype
from sparsity_roofline.model.case import Case
from sparsity_roofline.model.matrix import Matrix

if TYPE_CHECKING:
    import torch


def derived_seed(*parts: object) -> int:
    """A 63-bit seed that depends on every part, the same on every machine and in every process."""
    digest = hashlib.sha256("|".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def input_key(case: Case) -> tuple[int, int, str, str, int]:
    """Cases with equal keys get the same X: dense and sparse kernels of one shape multiply the same numbers."""
    return case.K, case.N, case.dtype, case.layout, case.seed


def make_x(case: Case, device: str) -> torch.Tensor:
    """X (K, N) in the case's dtype: standard normal, seeded, no element zero.

    Drawn in float32 and rounded; where rounding gives 0 the element becomes 1. For the token-major layout the storage
    is (N, K) and its transpose is returned.
    """
    import torch

    generator = torch.Generator(device=device)
    generator.manual_seed(derived_seed("X", *input_key(case)))
    shape = (case.N, case.K) if case.layout == "token-major" else (case.K, case.N)
    drawn = torch.randn(shape, generator=generator, device=device, dtype=torch.float32)
    x = drawn.to(torch_dtype(case.dtype))
    x.masked_fill_(x == 0, 1)
    return x.t() if case.layout == "token-major" else x


def make_y(case: Case, device: str) -> torch.Tensor:
    """An output buffer (M, N) filled with NaN, so that an element no kernel wrote cannot pass for a result."""
    import torch

    shape = (case.N, case.M) if case.layout == "token-major" else (case.M, case.N)
    y = torch.full(shape, float("nan"), dtype=torch_dtype(case.dtype), device=device)
    return y.t() if case.layout == "token-major" else y


SEEDED = "seeded"
"""Where a record names the weight: its values were drawn here."""
OWN = "own"
"""Where a record names the weight: its values are those of its file."""


def dense_name(M: int, K: int) -> str:
    """Name of the seeded dense weight that every sparse matrix of the shape is compared with."""
    return f"dense/{M}x{K}"


def dense_weight(M: int, K: int, seed: int) -> Matrix:
    """The seeded dense weight of a shape: standard normal float32, no element zero."""
    rng = np.random.default_rng(derived_seed("W", M, K, seed))
    array = rng.standard_normal((M, K), dtype=np.float32)
    array[array == 0] = 1.0
    return Matrix.dense(dense_name(M, K), array, synthetic=True)
