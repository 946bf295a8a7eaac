"""``nm.triton``: n:m weights decoded in registers, multiplied dense. Launch code; the device code is ``_triton.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sparsity_roofline.kernels import convert
from sparsity_roofline.kernels.protocol import Device, Prepared, Step, Support, no_step
from sparsity_roofline.kernels.support import PRECISIONS, TritonKernel, is_wide
from sparsity_roofline.model.case import Case
from sparsity_roofline.model.matrix import Matrix

if TYPE_CHECKING:
    import torch


class Tile(NamedTuple):
    """One compiled variant: tile of Y (BM, BN), step along K, warps, pipeline stages, rows of tiles walked together."""

    BM: int
    BN: int
    BK: int
    warps: int
    stages: int
    group: int = 8


def choose(N: int, dtype: str) -> Tile:
    """The variant for N columns; wide tiles amortise the decode over more columns of X."""
    if dtype == "fp32":  # FFMA: no tensor cores
        return Tile(32, 16 if N <= 16 else 64, 16, 4, 2)
    if dtype == "tf32":
        return Tile(64, 16 if N <= 16 else 64, 32, 4, 3)
    if N <= 16:
        return Tile(64, 16, 64, 4, 4)
    if N <= 64:
        return Tile(64, 64, 64, 4, 3)
    return Tile(128, 128, 64, 8, 3)


class _Prepared:
    def __init__(self, operand: convert.NmOperand, case: Case) -> None:
        import triton

        self._operand, self._K, self._m = operand, case.K, case.m
        self._tile = choose(case.N, case.dtype)
        self._precision = PRECISIONS[case.dtype]
        self.config: dict[str, Any] = {
            **self._tile._asdict(),
            "position_bits": 8,
            "math": self._precision,
            "accumulate": "fp32",
            "triton": triton.__version__,
        }

    def launch(self, x: torch.Tensor, y: torch.Tensor) -> None:
        from sparsity_roofline.kernels.nm._triton import nm_spmm

        if not y.numel():
            return
        t, (values, positions) = self._tile, self._operand
        n, M, groups = values.shape
        N = x.shape[1]
        nm_spmm[(-(-M // t.BM) * -(-N // t.BN),)](
            values,
            positions,
            x,
            y,
            M,
            N,
            self._K,
            groups,
            n=n,
            m=self._m,
            BM=t.BM,
            BN=t.BN,
            BK=t.BK,
            GROUP=t.group,
            PRECISION=self._precision,
            WIDE=is_wide(values, x, y),
            num_warps=t.warps,
            enable_fp_fusion=True,
            num_stages=t.stages,
        )


class NmTriton(TritonKernel):
    """Any n:m up to m = 256; with m a power of two every stored element is loaded once per tile."""

    name = "nm.triton"
    format = "nm"

    def supports(self, case: Case, device: Device) -> Support:
        answer = super().supports(case, device)
        if answer and case.m > 256:
            return Support(f"keeps positions in a byte: m up to 256, not {case.m}")
        return answer

    def prepare(self, matrix: Matrix, case: Case, device: Device, step: Step = no_step) -> Prepared:
        with step("convert"):
            operand = convert.nm_operand(matrix, case.n, case.m, case.dtype, device)
        return _Prepared(operand, case)


KERNELS = [NmTriton()]
