"""Numbers and memory the libraries ask for: data type codes, host scalars, scratch, and the check of x and y."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sparsity_roofline.kernels.convert import torch_dtype

if TYPE_CHECKING:
    import torch

CUDA_R_32F = 0
DATA_TYPES = {"fp32": CUDA_R_32F, "fp16": 2, "bf16": 14}
"""``cudaDataType`` by dtype name."""

NON_TRANSPOSE = 0  # cusparseOperation_t
ROW_MAJOR = 2  # cusparseOrder_t
INDEX_32I = 2  # cusparseIndexType_t
BASE_ZERO = 0  # cusparseIndexBase_t
INT32_MAX = 2**31 - 1


class Scalars:
    """alpha = 1 and beta = 0 in host memory, which must stay alive as long as anybody launches with their addresses."""

    def __init__(self) -> None:
        self._values: npt.NDArray[np.float32] = np.array([1.0, 0.0], dtype=np.float32)
        self.alpha = int(self._values.ctypes.data)
        self.beta = self.alpha + self._values.itemsize


def workspace(size: int, device: torch.device) -> torch.Tensor:
    """``size`` bytes on the device. Never empty: some library functions refuse a null pointer even for zero bytes."""
    import torch

    return torch.empty(max(size, 16), dtype=torch.uint8, device=device)


def scratch(rows: int, cols: int, dtype: str, device: torch.device, *, seed: int | None = None) -> torch.Tensor:
    """A (rows, cols) stand-in for X or Y while planning; standard normal values where a ``seed`` is given."""
    import torch

    out = torch.empty((rows, cols), dtype=torch_dtype(dtype), device=device)
    if seed is not None:
        generator = torch.Generator(device=device)
        generator.manual_seed(seed)
        out.normal_(generator=generator)
    return out


class Operands:
    """What x and y of every launch must be. The libraries trust their descriptors, so a mistake would be a wild access.

    Args:
        M, K, N: shape of the product.
        dtype: of x and y, by name.
        device: where they live.
        alignment: bytes that both addresses must be a multiple of.
    """

    def __init__(self, M: int, K: int, N: int, dtype: str, device: torch.device, alignment: int = 1) -> None:
        self.x_shape, self.y_shape = (K, N), (M, N)
        self.dtype = torch_dtype(dtype)
        self.device = device
        self.alignment = alignment

    def check(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Raises ValueError unless x (K, N) and y (M, N) are contiguous, of the dtype, on the device and aligned."""
        for name, tensor, shape in (("x", x, self.x_shape), ("y", y, self.y_shape)):
            if tuple(tensor.shape) != shape or tensor.dtype != self.dtype or not tensor.is_contiguous():
                raise ValueError(
                    f"{name} must be a contiguous {shape} tensor of {self.dtype}, "
                    f"not {tuple(tensor.shape)} of {tensor.dtype} with strides {tuple(tensor.stride())}"
                )
            if tensor.device != self.device:
                raise ValueError(f"{name} must be on {self.device}, not on {tensor.device}")
            if tensor.data_ptr() % self.alignment:
                raise ValueError(f"{name} must start at a multiple of {self.alignment} bytes")
