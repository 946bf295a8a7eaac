"""The float64 oracle, and the check every kernel passes before it is timed.

The oracle multiplies the *same rounded inputs* as the kernel in float64 as one dense product, so it shares no code
with any sparse kernel. Its own error, about 2^-53 sqrt(K), is nothing beside any dtype's tolerance.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from sparsity_roofline.kernels import convert
from sparsity_roofline.kernels.tolerance import tolerance
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.matrix import Matrix

if TYPE_CHECKING:
    import torch

_CHUNK_ELEMENTS = 1 << 26  # of X in float64 at a time: 512 MiB


@dataclass(frozen=True)
class CheckResult:
    """What the check saw.

    Attributes:
        ok: the output is within tolerance.
        reason: why not, in one line; "" when ok.
        rms: relative Frobenius error ||y - expected|| / ||expected||; NaN where shape, dtype or finiteness failed.
        max: largest |y - expected| over the RMS of the reference (of the element's row, where that is larger, so that
            one long row among short ones is judged by its own size).
        tolerance_rms, tolerance_max: the limits (``tolerance.tolerance``).
        flagged: ok, but coarser than one rounding of fp32 sums explains: partial sums were rounded.
    """

    ok: bool
    reason: str
    rms: float
    max: float
    tolerance_rms: float
    tolerance_max: float
    flagged: bool = False


def oracle(matrix: Matrix, x: torch.Tensor, dtype: str, *, format: str | None = None) -> torch.Tensor:
    """Y = W @ X in float64, (M, N) on x's device; W is rounded to ``dtype`` first, x is taken as it is.

    W is what the case's format multiplies: pass ``format="dense"`` for a dense case, whose kernels multiply the
    unpruned weight where it is known. By default a matrix of the dense pattern multiplies that, any other its stored
    elements.

    Raises:
        UserError: if x is not (K, N), or the weight leaves the dtype's range.
    """
    import torch

    M, K = matrix.shape
    if x.ndim != 2 or x.shape[0] != K:
        raise UserError(f"X must be ({K}, N) for a weight of {M} x {K}, not {tuple(x.shape)}")
    dense = matrix.pattern.kind == "dense" if format is None else format == "dense"
    build = convert.dense_operand if dense else convert.stored_as_dense
    w = build(matrix, dtype, x.device).double()
    out = torch.empty((M, x.shape[1]), dtype=torch.float64, device=x.device)
    step = max(_CHUNK_ELEMENTS // max(K, M, 1), 1)
    for start in range(0, x.shape[1], step):
        out[:, start : start + step] = w @ x[:, start : start + step].double()
    return out


def check(y: torch.Tensor, expected: torch.Tensor, dtype: str, K: int) -> CheckResult:
    """Compare a kernel's output with the oracle: shape, dtype, finiteness, relative RMS, largest error, in this order.

    Where the reference is zero throughout (no stored element), y must be exactly zero.
    """
    import torch

    limits = tolerance(dtype, K)

    def result(reason: str, rms: float = float("nan"), worst: float = float("nan")) -> CheckResult:
        flagged = not reason and rms > limits.flag
        return CheckResult(not reason, reason, rms, worst, limits.rms, limits.max, flagged)

    if y.shape != expected.shape:
        return result(f"output has shape {tuple(y.shape)}, expected {tuple(expected.shape)}")
    if y.dtype != convert.torch_dtype(dtype):
        return result(f"output is {y.dtype}, expected {convert.torch_dtype(dtype)}")
    if y.numel() == 0:
        return result("", 0.0, 0.0)
    finite = torch.isfinite(y)
    if not bool(finite.all()):
        bad = int((~finite).sum())
        at = _position(int((~finite).int().argmax()), y.shape[1])
        return result(f"{bad} of {y.numel()} elements are NaN or infinite, the first at {at}")

    row_square = torch.linalg.vector_norm(expected, dim=1).square()
    norm_square = float(row_square.sum())
    mean_square = norm_square / expected.numel()
    scale = torch.maximum(row_square / expected.shape[1], torch.full_like(row_square, mean_square)).sqrt()
    square, worst, worst_at = 0.0, 0.0, 0
    step = max(_CHUNK_ELEMENTS // y.shape[1], 1)
    for start in range(0, y.shape[0], step):
        error = (y[start : start + step].double() - expected[start : start + step]).abs_()
        square += float(torch.linalg.vector_norm(error)) ** 2
        if norm_square:
            error /= scale[start : start + step, None]
        largest = float(error.max())
        if largest > worst:
            worst, worst_at = largest, start * y.shape[1] + int(error.argmax())
    if norm_square == 0.0:
        if square == 0.0:
            return result("", 0.0, 0.0)
        return result(f"the product is zero, but {_position(worst_at, y.shape[1])} holds {worst:.3g}", inf, inf)
    rms = (square / norm_square) ** 0.5
    if not rms <= limits.rms:
        return result(f"relative error {rms:.2e} exceeds {limits.rms:.2e} for {dtype}, K = {K}", rms, worst)
    if not worst <= limits.max:
        at = _position(worst_at, y.shape[1])
        return result(f"error of {worst:.2e} of the RMS at {at} exceeds {limits.max:.2e} for {dtype}", rms, worst)
    return result("", rms, worst)


def _position(flat: int, columns: int) -> str:
    return f"({flat // columns}, {flat % columns})"
