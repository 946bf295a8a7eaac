"""``csr.decode``: an unstructured weight written out as a dense matrix on the device, multiplied by cuBLAS.

Launch code; the device code is ``_decode.cu``, the layout ``bitmap_layout.py``. Every launch decodes: the dense matrix
is workspace, not a second copy of the weight, and is not used across launches.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sparsity_roofline.kernels._cuda import compiled, handles
from sparsity_roofline.kernels._cuda.kernel import CudaKernel
from sparsity_roofline.kernels._cuda.operands import Operands
from sparsity_roofline.kernels.convert import torch_dtype
from sparsity_roofline.kernels.csr._fit import first_fitting, shared_limit
from sparsity_roofline.kernels.csr.bitmap_layout import BitmapOperand, bitmap_operand, fits
from sparsity_roofline.kernels.dense.cublas import math_mode
from sparsity_roofline.kernels.protocol import Device, Prepared, Step, Support, no_step
from sparsity_roofline.model.case import Case, Format
from sparsity_roofline.model.matrix import Matrix

if TYPE_CHECKING:
    import torch

HERE = Path(__file__).parent
HEADERS = (HERE / "_bitmap.cuh",)


class Tile(NamedTuple):
    """One compiled variant: bytes of an element, warps per block, (strip, panel) pairs a warp has in shared memory."""

    BYTES: int
    WARPS: int
    STAGES: int

    def shared(self, capacity: int) -> int:
        """Bytes of shared memory when the longest panel of a strip has ``capacity`` bytes of values."""
        return self.WARPS * self.STAGES * (capacity + 512)


def candidates(size: int) -> list[Tile]:
    """Variants for elements of ``size`` bytes, the fastest first; the last one fits any device and weight.

    Deep rings pay for 4-byte elements, whose panels take longer to write (measured, H100: 36 against 43 us).
    """
    stages = (4, 3, 2) if size == 4 else (2,)
    return [*(Tile(size, 4, n) for n in stages), Tile(size, 2, 2), Tile(size, 1, 2)]


class Decoder:
    """Writes a bitmap weight into ``dense``, M rows of ``dense.shape[1]`` elements: K rounded up to a multiple of 8."""

    def __init__(self, operand: BitmapOperand, dense: torch.Tensor, tile: Tile, module: compiled.Module) -> None:
        import torch

        self._operand, self._dense, self.tile = operand, dense, tile
        self._capacity = operand.capacity(1)
        self._function = module.function("bitmap_decode", tile.shared(self._capacity))
        self._pairs = operand.strips * operand.panels
        resident = self._function.blocks_per_multiprocessor(tile.WARPS * 32)
        count = torch.cuda.get_device_properties(dense.device).multi_processor_count
        self._grid = (min(-(-self._pairs // tile.WARPS), resident * count),)

    def launch(self) -> None:
        """Enqueue the decoding."""
        self._function.launch(
            self._grid,
            self.tile.WARPS * 32,
            self._operand.masks,
            self._operand.offsets,
            self._operand.values,
            self._dense,
            self._dense.shape[0],
            self._dense.shape[1],
            self._operand.panels,
            self._pairs,
            self._capacity,
        )


class _Prepared:
    def __init__(self, operand: BitmapOperand, case: Case, device: torch.device) -> None:
        import torch

        self._case, self._operands = case, Operands(case.M, case.K, case.N, case.dtype, device)
        storage = torch_dtype(case.dtype)
        dense = torch.empty((case.M, -(-case.K // 8) * 8), dtype=storage, device=device)
        tiles = candidates(storage.itemsize)
        capacity = operand.capacity(1)
        tile = first_fitting(tiles, lambda tile: tile.shared(capacity), shared_limit(device)) or tiles[-1]
        module = compiled.module(HERE / "_decode.cu", device, tuple(tile._asdict().items()), HEADERS)
        self._decoder = Decoder(operand, dense, tile, module)
        self._weight = dense[:, : case.K]
        self.config: dict[str, Any] = {
            **tile._asdict(),
            "layout": "bitmap",
            "layout_bytes": operand.nbytes,
            "workspace_bytes": dense.nbytes,
            "product": "cublas",
            "math": "ieee" if case.dtype == "fp32" else case.dtype,
            "accumulate": "fp32",
            "deterministic": True,
            "torch": torch.__version__,
        }

    def launch(self, x: torch.Tensor, y: torch.Tensor) -> None:
        import torch

        self._operands.check(x, y)
        self._decoder.launch()
        with math_mode(self._case.dtype):
            torch.mm(self._weight, x, out=y)


class CsrDecode(CudaKernel):
    """Bitmap to dense by our own kernel, then ``torch.mm``: the floor that any unstructured weight has at large N."""

    name = "csr.decode"
    format: Format = "csr"
    dtypes = ("fp16", "bf16", "fp32")

    def supports(self, case: Case, device: Device) -> Support:
        return super().supports(case, device) and fits(case)

    def prepare(self, matrix: Matrix, case: Case, device: Device, step: Step = no_step) -> Prepared:
        where = handles.resolve(device)
        with step("convert"):
            operand = bitmap_operand(matrix, case.dtype, where)
            handles.synchronize(where)
        with step("plan"):
            return _Prepared(operand, case, where)


KERNELS = [CsrDecode()]
