"""Speed of light at the clock a device really held, beside the one at the clock its peaks are printed for.

A printed peak is operations per cycle times one clock, and the vendor chose that clock per unit: on an H100 SXM the
FP32 peak is printed for 1980 MHz, the tensor cores' for 1830 MHz. At another clock the compute
term changes in proportion; the memory term does not, since DRAM has a clock of its own. A clock held above the printed
one gives a higher peak, which is no fault: 1980 MHz on tensor cores is 8 % more than the data sheet says.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from sparsity_roofline.model.case import Case
from sparsity_roofline.model.ceilings import SPARSE, Ceilings
from sparsity_roofline.model.dtype import Unit
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.roofline import sol_case

TENSOR_CLOCK_HZ = {
    "H100-SXM5-80GB": 1830e6,
    "H200-SXM-141GB": 1830e6,
    "H100-PCIe-80GB": 1620e6,
    "L40S": 2490e6,
    "B200-HGX": 1856e6,
}
"""Clock behind the printed tensor peaks where it is not the boost clock: printed fp16 peak / (SMs x operations per SM
and cycle). The B200's follows from its peak alone, so it confirms nothing."""

_CUDA_CORES = ("fp32_flops", "fp64_flops")


def printed_clock_hz(ceilings: Ceilings, quantity: str) -> float:
    """The clock for which a peak is printed.

    Args:
        ceilings: of a data sheet.
        quantity: key of ``Ceilings.peaks``.

    Raises:
        UserError: the ceilings name no clock: measured ones, or a CPU's.
    """
    if ceilings.kind != "datasheet" or not ceilings.boost_clock_hz:
        raise UserError(f"{ceilings.device}: {ceilings.kind} ceilings name no clock; give those of the data sheet")
    if quantity.removesuffix(SPARSE) in _CUDA_CORES:
        return ceilings.boost_clock_hz
    return TENSOR_CLOCK_HZ.get(ceilings.device, ceilings.boost_clock_hz)


@lru_cache(maxsize=256)
def at_clock(ceilings: Ceilings, clock_hz: float) -> Ceilings:
    """The same ceilings with every peak scaled from its printed clock to ``clock_hz``; bandwidths stay.

    Raises:
        UserError: no positive clock, or ceilings that name no clock.
    """
    if not clock_hz > 0:
        raise UserError(f"{ceilings.device}: a clock of {clock_hz!r} Hz is none")
    peaks = {q: rate * clock_hz / printed_clock_hz(ceilings, q) for q, rate in ceilings.peaks.items()}
    return replace(ceilings, peaks=peaks, identity=f"{ceilings.identity}@{clock_hz / 1e6:.0f}MHz")


def sol_held(
    case: Case, ceilings: Ceilings, clock_hz: float, preset: str = "paper", unit: Unit | None = None
) -> tuple[float, str]:
    """(speed-of-light seconds, bound) of a case at the SM clock held; costs and bandwidth are those of ``sol_case``.

    Raises:
        UserError: as ``at_clock`` and ``roofline.sol_case``.
    """
    seconds, bound, _, _ = sol_case(case, at_clock(ceilings, clock_hz), preset, unit)
    return seconds, bound
