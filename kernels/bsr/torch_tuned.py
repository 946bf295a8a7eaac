"""``bsr.torch.tuned``: PyTorch's own BSR kernel with launch parameters searched for each weight and N.

PyTorch's tuner (``torch.sparse._triton_ops_meta.tune_bsr_dense_addmm``) walks from parameter to parameter for about a
minute a case, and times calls that carry 200 us of host work, which hides differences between short kernels. Here the
parameters it can reach that matter on a recent GPU are tried, each replayed from a CUDA graph: only the kernel counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparsity_roofline.kernels.bsr.torch import BsrTorch, PreparedCuda
from sparsity_roofline.kernels.protocol import Device, Prepared, Step, no_step
from sparsity_roofline.model.case import Case
from sparsity_roofline.model.matrix import Matrix

if TYPE_CHECKING:
    import torch

WIDTHS = {16: ((16, 2), (16, 4)), 64: ((64, 4), (32, 4)), 65: ((128, 4), (256, 4), (256, 8))}
"""Columns of Y per program and its warps, by N: up to 16, up to 64, beyond. What won a wider sweep on an H100."""

STAGES = (2, 4)
GROUP_ROWS = 4
SHARED_LIMIT = 227 * 1024
REPLAY_MS = 3.0  # of replays for each candidate


def candidates(case: Case) -> list[dict[str, int]]:
    """Launch parameters to try, in PyTorch's names: those whose width divides N and whose buffers fit."""
    widths = WIDTHS[16 if case.N <= 16 else 64 if case.N <= 64 else 65]
    size = 4 if case.dtype == "fp32" else 2
    found = []
    for width, warps in widths:
        if case.N % width:
            continue
        for stages in STAGES:
            step = (case.block_rows + width) * case.block_cols * size
            if step * (stages - 1) <= SHARED_LIMIT:
                meta = {"SPLIT_N": case.N // width, "num_stages": stages, "num_warps": warps}
                found.append({"GROUP_SIZE_ROW": GROUP_ROWS, **meta})
    return found


class BsrTorchTuned(BsrTorch):
    """``bsr_dense_addmm`` with the fastest of ``candidates`` and of PyTorch's default parameters."""

    name = "bsr.torch.tuned"
    devices = ("cuda",)

    def prepare(self, matrix: Matrix, case: Case, device: Device, step: Step = no_step) -> Prepared:
        prepared = super().prepare(matrix, case, device, step)
        assert isinstance(prepared, PreparedCuda)
        with step("search"):
            tried = _search(prepared, case)
        prepared.config |= {"tuned": True, "candidates": tried}
        return prepared


def _search(prepared: PreparedCuda, case: Case) -> int:
    """Leave the fastest parameters in ``prepared``; returns how many ran. One that does not launch is passed over."""
    import torch

    x = torch.randn(case.K, case.N, device="cuda").to(prepared.dtype)
    y = torch.empty(case.M, case.N, device="cuda", dtype=prepared.dtype)
    times: list[tuple[float, int]] = []
    metas = [prepared.meta, *candidates(case)]
    for number, meta in enumerate(metas):
        prepared.use(meta)
        try:
            times.append((_replayed(prepared, x, y), number))
        except Exception as error:
            if "illegal" in str(error) or "out of memory" in str(error):
                raise  # the context is lost, or the search would hide what the case needs
    if times:
        prepared.use(metas[min(times)[1]])
    return len(times)


def _replayed(prepared: PreparedCuda, x: torch.Tensor, y: torch.Tensor) -> float:
    """Median milliseconds of the kernel, by PyTorch's and Triton's own means."""
    from triton.testing import do_bench_cudagraph

    prepared.launch(x, y)  # compiles outside the capture
    return float(do_bench_cudagraph(lambda: prepared.launch(x, y), rep=REPLAY_MS, return_mode="median"))


KERNELS = [BsrTorchTuned()]
