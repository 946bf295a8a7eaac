"""``dense.triton``: a tiled GEMM in Triton. Launch code and its fixed choices; the device code is ``_triton.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sparsity_roofline.kernels import convert
from sparsity_roofline.kernels.protocol import Device, Prepared, Step, no_step
from sparsity_roofline.kernels.support import PRECISIONS, TritonKernel, is_wide
from sparsity_roofline.model.case import Case
from sparsity_roofline.model.dtype import dtype as known
from sparsity_roofline.model.matrix import Matrix

if TYPE_CHECKING:
    import torch


L2_ELEMENTS = 25 * 2**20  # of 16 bits, in an H100's L2


class Tile(NamedTuple):
    """One compiled variant: tile of Y (BM, BN), step along K, warps, pipeline stages, rows of tiles walked together."""

    BM: int
    BN: int
    BK: int
    warps: int
    stages: int
    group: int = 8

    @property
    def halves(self) -> bool:
        """Store Y in two halves? Where a whole tile of it would take the place of a pipeline stage."""
        return self.BM * self.BN >= 128 * 256


def choose(M: int, N: int, K: int, dtype: str, multiprocessors: int = 132) -> Tile:
    """The variant for a shape: by N where W's bytes bound the time, by the number of tiles where arithmetic does."""
    if dtype == "fp32":  # FFMA: no tensor cores
        return Tile(64, 32, 32, 4, 3) if N <= 32 else Tile(64, 64, 16, 4, 3)
    if dtype == "tf32":  # two warps: mma.sync, for the warpgroup's MMA wants X turned round (2.6 times as long, H100)
        return Tile(64, 32, 64, 4, 3) if N <= 32 else Tile(128, 64, 32, 2, 3)
    if N <= 16:
        return Tile(64, 16, 128, 4, 5)
    if N <= 64:
        return Tile(64, 64, 128, 4, 4)
    if M * K >= L2_ELEMENTS and N >= 8192:
        return Tile(
            256, 128, 64, 8, 3
        )  # W and X both leave L2: .95 and .97 of cuBLAS, against .90 and .96 (measured, H100)
    # Rounds in which every multiprocessor computes a tile, times its area over its speed. Larger tiles are faster
    # (1.0 to 1.09 of cuBLAS at 4096 x 4096), smaller ones leave less idle: .97 at 512 x 4608 x 2048 (measured, H100).
    tiles = {
        Tile(128, 256, 64, 8, 3): 1.0,
        Tile(128, 128, 64, 4, 4): 0.9,
        Tile(64, 128, 64, 4, 5): 0.8,
    }

    def time(tile: Tile) -> float:
        count = -(-M // tile.BM) * -(-N // tile.BN)
        return -(-count // multiprocessors) * tile.BM * tile.BN / tiles[tile]

    return min(tiles, key=time)


def _multiprocessors(tensor: torch.Tensor) -> int:
    """Of the tensor's GPU; 4 in the interpreter, so that a program has several tiles there too."""
    import torch

    return torch.cuda.get_device_properties(tensor.device).multi_processor_count if tensor.is_cuda else 4


class _Prepared:
    def __init__(self, weight: torch.Tensor, case: Case) -> None:
        import triton

        self._weight = weight
        self._tile = choose(case.M, case.N, case.K, case.dtype)
        self._precision = PRECISIONS[case.dtype]
        size = known(case.dtype).element_bytes
        aligned = case.N * size % 16 == 0 and case.K * size % 16 == 0  # what a TMA descriptor needs of its strides
        self.config: dict[str, Any] = {
            **self._tile._asdict(),
            "loads": "tma" if aligned and case.K > 0 else "pointer",
            "math": self._precision,
            "accumulate": "fp32",
            "triton": triton.__version__,
        }

    def launch(self, x: torch.Tensor, y: torch.Tensor) -> None:
        from sparsity_roofline.kernels.dense._triton import gemm_pointer, gemm_tma

        t, w = self._tile, self._weight
        (M, K), N = w.shape, x.shape[1]
        if not y.numel():
            return
        tiles = -(-M // t.BM) * -(-N // t.BN)
        fixed = {"BM": t.BM, "BN": t.BN, "BK": t.BK, "GROUP": t.group, "PRECISION": self._precision}
        launch = {"num_warps": t.warps, "num_stages": t.stages, "enable_fp_fusion": True}
        if self.config["loads"] == "tma" and N * x.element_size() % 16 == 0:
            from triton.tools.tensor_descriptor import TensorDescriptor

            operands = [
                TensorDescriptor.from_tensor(tensor, shape)
                for tensor, shape in ((w, [t.BM, t.BK]), (x, [t.BK, t.BN]), (y, [t.BM, t.BN >> t.halves]))
            ]
            programs = _multiprocessors(w) * max(128 * 128 // (t.BM * t.BN), 1)  # as many as are resident together
            grid = (min(tiles, programs),)
            gemm_tma[grid](*operands, M, N, K, **fixed, HALVES=t.halves, **launch)
        else:
            gemm_pointer[(tiles,)](w, x, y, M, N, K, **fixed, WIDE=is_wide(w, x, y), **launch)


class DenseTriton(TritonKernel):
    """GEMM in Triton: TMA where the strides allow it, else masked pointer loads."""

    name = "dense.triton"
    format = "dense"

    def prepare(self, matrix: Matrix, case: Case, device: Device, step: Step = no_step) -> Prepared:
        with step("convert"):
            weight = convert.dense_operand(matrix, case.dtype, device)
        return _Prepared(weight, case)


KERNELS = [DenseTriton()]
