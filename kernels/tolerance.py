"""The one rule that says how far a kernel's output may lie from the float64 oracle.

Two figures are compared: the relative Frobenius error (``rms``) and the largest error over the RMS of the reference
(``max``); ``reference.check`` defines both. With u the unit roundoff of the coarsest number an element passes through
(an fp16 or bf16 output, a TF32 operand, an fp32 output) and v that of the accumulator (2^-24, or 2^-53 for fp64):

    rms  = 4 u + v sqrt(K)
    max  = 16 rms
    flag = r u + v sqrt(K)        r = 2 for TF32 (both operands are cut), else 1

Why so:

* One rounding of the output costs at most u, 0.4 u in the RMS (measured on an H100: 2.1e-4 for fp16, u = 4.9e-4).
  Kernels that round partial sums to fp16 (cuSPARSE CSR algorithms 1 and 2, hence PyTorch's CSR) were measured at 3.3e-4
  to 1.1e-3, more with longer rows. They are coarse, not wrong: 4 u = 2.0e-3 lets them pass, ``flag`` marks them.
* TF32 operands keep 10 fraction bits; hardware that truncates instead of rounding shows about 7.7e-4 = 1.6 u.
* A sum of K products of random sign, added one after the other in an accumulator of roundoff v, is off by about
  v sqrt(K / 6) of its own size; summing in parts does better. v sqrt(K) is 2.4 times that. At K = 4608 it allows 4.0e-6
  where IEEE fp32 kernels were measured at 7e-8 to 6e-7 and TF32 passed off as fp32 at 7.7e-4.
* An error with a Gaussian tail over 10^8 elements reaches six times its RMS. Partial sums rounded to fp16 have a
  heavier one: cuSPARSE's CSR algorithms 1 and 2 and PyTorch's CSR reached 11 to 13 times their RMS on an H100 (1.65e-2
  at 4096 x 4096 x 2048, sparsity .5). 16 leaves room, and one wrong element is off by about 1: it moves the RMS of a
  4096 x 2048 output by only 3.5e-4, so ``max`` is what catches it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from sparsity_roofline.model.dtype import dtype as known
from sparsity_roofline.model.errors import UserError

UNIT_ROUNDOFF = {"fp64": 2.0**-53, "fp32": 2.0**-24, "tf32": 2.0**-11, "fp16": 2.0**-11, "bf16": 2.0**-8}


@dataclass(frozen=True)
class Tolerance:
    """Limits on the two error figures; above ``flag`` a result passes but is coarser than one rounding explains."""

    rms: float
    max: float
    flag: float


def tolerance(dtype: str, K: int) -> Tolerance:
    """The limits for one arithmetic type and length of the inner dimension.

    Raises:
        UserError: for a dtype that has no rule yet.
    """
    if dtype not in UNIT_ROUNDOFF:
        raise UserError(f"no tolerance for dtype {known(dtype).name}: choose one of {', '.join(UNIT_ROUNDOFF)}")
    u = UNIT_ROUNDOFF[dtype]
    accumulation = (UNIT_ROUNDOFF["fp64"] if dtype == "fp64" else UNIT_ROUNDOFF["fp32"]) * sqrt(max(K, 1))
    rms = 4.0 * u + accumulation
    return Tolerance(rms=rms, max=16.0 * rms, flag=(2.0 if dtype == "tf32" else 1.0) * u + accumulation)
