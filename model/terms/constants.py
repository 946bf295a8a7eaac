"""Figures of devices and of kernels that no data sheet prints: ``constants.csv``, each with unit and source.

Device figures come from micro-benchmarks of the device alone. Kernel figures are fitted to a split of measured cases,
and their errors are reported on shapes that the fit did not see.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib.resources import files
from typing import Any

from sparsity_roofline.model import hardware
from sparsity_roofline.model.ceilings import Ceilings
from sparsity_roofline.model.dtype import DTYPES
from sparsity_roofline.model.terms.l2 import PORT_BYTES_PER_CYCLE, UNSHARED_SHARE, WRITE_SHARE

ANY = "*"


@dataclass(frozen=True)
class DeviceConstants:
    """What micro-benchmarks say of a device beside its printed ceilings.

    Attributes:
        dram_fraction: best of copy and read over the printed bandwidth.
        peak_fraction: best product over the printed peak, by quantity of ``hardware.csv``.
        l2_bandwidth, l2_shared_bandwidth: bytes per second out of L2, each multiprocessor reading lines of its own, and
            two neighbours reading the same ones.
        l2_write_bandwidth: bytes per second that L2 takes from the multiprocessors.
        l2_held: bytes written that L2 holds back from DRAM, at most its capacity.
        launch_floor_s: shortest time of a kernel.
        known: False where the figures are another device's.
    """

    dram_fraction: float
    peak_fraction: Mapping[str, float]
    l2_bandwidth: float
    l2_shared_bandwidth: float
    l2_write_bandwidth: float
    l2_held: float
    launch_floor_s: float
    known: bool


@dataclass(frozen=True)
class KernelConstants:
    """Fitted figures of one kernel and dtype.

    Attributes:
        unit_fraction: share of the device's best product rate that its inner loop reaches (1).
        l2_factor: bytes that reach L2 over those its tiles fetch: below 1 where L1 serves some, above where lines are
            fetched in part or twice (1).
        step_s: shortest time of one step along K (s).
        tile_s: start and end of a program: indices, first loads, last stores (s).
        split_s: further time of a call that splits K (s).
        narrow_s: time of a multiprocessor for one load of a thread, where rows are not aligned to 16 bytes (s).
    """

    unit_fraction: float = 0.8
    l2_factor: float = 1.0
    step_s: float = 4e-7
    tile_s: float = 1.8e-6
    split_s: float = 2.5e-6
    narrow_s: float = 1e-10


UNITS = {
    "unit_fraction": "1", "l2_factor": "1", "step_s": "s", "tile_s": "s", "split_s": "s", "narrow_s": "s",
}  # fmt: skip
"""Unit of every figure of ``KernelConstants``."""


@cache
def _rows() -> dict[tuple[str, str, str], dict[str, float]]:
    """Figures by (gpu, kernel, dtype); the kernel of a device's own figures is ``-``."""
    text = files("sparsity_roofline.model").joinpath("terms/constants.csv").read_text(encoding="utf-8")
    found: dict[tuple[str, str, str], dict[str, float]] = {}
    for row in csv.DictReader(text.splitlines()):
        found.setdefault((row["gpu"], row["kernel"], row["dtype"]), {})[row["constant"]] = float(row["value"])
    return found


def gpu_of(ceilings: Ceilings) -> str | None:
    """The table's name of the device the ceilings are of, or None."""
    return ceilings.device if ceilings.device in hardware.names() else hardware.match(ceilings.device)


def device_constants(ceilings: Ceilings) -> DeviceConstants:
    """Figures of a device. Measured ceilings are their own: their fractions are 1.

    Without a micro-benchmark of the device, fractions and launch floor are an H100's and the L2 rates follow from the
    number of multiprocessors and the clock (see ``terms.l2``).
    """
    gpu = gpu_of(ceilings) or ""
    own, general = _rows().get((gpu, "-", ANY), {}), _rows()[(ANY, "-", ANY)]
    figures = {**general, **own}
    sms, clock = float(ceilings.sm_count or 1), ceilings.boost_clock_hz
    if clock is None and gpu:
        clock = hardware.datasheet(gpu).boost_clock_hz
    derived = PORT_BYTES_PER_CYCLE * sms * 0.9 * (clock or 1.5e9)
    shared = ceilings.l2_shared_bandwidth or own.get("l2_shared_bandwidth", derived)
    unshared = own.get("l2_bandwidth", UNSHARED_SHARE * shared)
    if ceilings.l2_shared_bandwidth and ceilings.l2_bandwidth:
        unshared = ceilings.l2_bandwidth
    measured = ceilings.kind == "measured"
    fractions = {name.removesuffix("_fraction"): value for name, value in figures.items() if name.endswith("_fraction")}
    dram = fractions.pop("dram", 1.0)
    return DeviceConstants(
        dram_fraction=1.0 if measured else dram,
        peak_fraction={} if measured else fractions,
        l2_bandwidth=unshared,
        l2_shared_bandwidth=max(shared, unshared),
        l2_write_bandwidth=ceilings.l2_write_bandwidth or own.get("l2_write_bandwidth", WRITE_SHARE * shared),
        l2_held=min(ceilings.l2_held_bytes or figures["l2_held_share"] * ceilings.l2_bytes, ceilings.l2_bytes),
        launch_floor_s=ceilings.launch_floor_s or figures["launch_floor_s"],
        known=bool(own),
    )


def kernel_constants(kernel: str, dtype: str, ceilings: Ceilings) -> tuple[KernelConstants, bool]:
    """(figures of a kernel in a dtype, whether they were fitted on this very device and dtype).

    Falls back to fp16 or fp32, whichever runs on the same unit; then to other devices, in the table's order; then to
    the defaults. Shares and seconds carry over between devices of similar clocks; how well is for a record to say.
    """
    gpu = gpu_of(ceilings) or ""
    others = sorted({where for where, name, _ in _rows() if name == kernel and where != gpu})
    for where in (gpu, *others):
        for name in dict.fromkeys((dtype, "fp16" if DTYPES[dtype].unit == "tensor" else "fp32", ANY)):
            if found := _rows().get((where, kernel, name)):
                return replace(KernelConstants(), **found), where == gpu and name == dtype
    return KernelConstants(), False


def to_rows(gpu: str, kernel: str, dtype: str, figures: KernelConstants, source: str) -> list[dict[str, Any]]:
    """Rows of ``constants.csv``."""
    return [
        {"gpu": gpu, "kernel": kernel, "dtype": dtype, "constant": f.name, "unit": UNITS[f.name],
         "value": f"{getattr(figures, f.name):.4g}", "source": source}
        for f in fields(figures)
    ]  # fmt: skip
