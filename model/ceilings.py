"""What bounds a device: peak rates, bandwidth, cache. Printed by a vendor or measured on the device, never a mix."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from sparsity_roofline.model.dtype import DTYPES, Unit
from sparsity_roofline.model.dtype import dtype as lookup_dtype
from sparsity_roofline.model.errors import UserError

CeilingsKind = Literal["datasheet", "measured", "assumed"]

SPARSE = "@2:4"
"""Suffix of a peak that counts the zeros of a 2:4 weight as work done."""


@dataclass(frozen=True)
class Ceilings:
    """One device's ceilings of one kind.

    Attributes:
        device: name of the device, as in ``hardware.csv`` or as the machine reports it.
        kind: ``datasheet`` (printed), ``measured`` (calibrated on the device) or ``assumed`` (see ``model.assumed``).
        peaks: operations per second by quantity of ``hardware.csv``, for example ``fp16_flops``; peaks that count the
            zeros of a 2:4 weight are under ``fp16_flops@2:4``.
        dram_bandwidth: bytes per second.
        l2_bytes: capacity of the last-level cache, 0 if unknown.
        l2_bandwidth: bytes per second, or None.
        l2_shared_bandwidth: the same where neighbouring multiprocessors read the same lines at the same time, or None;
            with it, ``l2_bandwidth`` is the rate at which each reads lines of its own.
        l2_write_bandwidth: bytes per second that L2 takes from the multiprocessors, or None.
        l2_held_bytes: bytes written that are still in L2 when a kernel ends, not in DRAM, or None.
        launch_floor_s: shortest time of an empty kernel, or None.
        sm_count: streaming multiprocessors or compute units; None on a CPU.
        boost_clock_hz: printed maximum clock, or None.
        identity: short hash of everything above unless the maker gave a text; tells two calibrations apart.
        details: how the figures came about; plain types, not part of the hash.
    """

    device: str
    kind: CeilingsKind
    peaks: Mapping[str, float]
    dram_bandwidth: float
    l2_bytes: float = 0
    l2_bandwidth: float | None = None
    launch_floor_s: float | None = None
    sm_count: int | None = None
    boost_clock_hz: float | None = None
    l2_shared_bandwidth: float | None = None
    l2_write_bandwidth: float | None = None
    l2_held_bytes: float | None = None
    identity: str = ""
    details: dict[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        if self.kind not in get_args(CeilingsKind):
            raise UserError(f"ceilings of {self.device}: kind {self.kind!r} is none of datasheet, measured, assumed")
        figures = {**self.peaks, "dram_bandwidth": self.dram_bandwidth}
        for name, value in figures.items():
            if not (isinstance(value, (int, float)) and math.isfinite(value) and value > 0):
                raise UserError(f"ceilings of {self.device}: {name} is {value!r}, not a positive number")
        if not (math.isfinite(self.l2_bytes) and self.l2_bytes >= 0):
            raise UserError(f"ceilings of {self.device}: l2_bytes is {self.l2_bytes!r}, not a size")
        if not self.identity:
            object.__setattr__(self, "identity", self._hash())

    def __hash__(self) -> int:
        return hash((self.device, self.kind, self.identity))

    def _hash(self) -> str:
        figures = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("identity", "details")}
        figures["peaks"] = {name: float(rate) for name, rate in sorted(self.peaks.items())}
        for name in ("l2_shared_bandwidth", "l2_write_bandwidth", "l2_held_bytes"):
            if figures[name] is None:  # ceilings written before there were these figures keep their identity
                del figures[name]
        for name in ("dram_bandwidth", "l2_bytes"):
            figures[name] = float(figures[name])
        return hashlib.sha256(json.dumps(figures, sort_keys=True).encode()).hexdigest()[:12]

    def peak_or_none(self, dtype: str, unit: Unit, *, sparse: bool = False) -> float | None:
        """``peak``, with None for a rate that is not known."""
        d = lookup_dtype(dtype)
        if unit not in get_args(Unit):
            raise UserError(f"unknown unit {unit!r}: choose one of {', '.join(get_args(Unit))}")
        quantity = d.peak
        if unit == "cuda":
            # CUDA cores accumulate in fp32 whatever the operands (fp64 for fp64): that rate bounds them.
            quantity = "fp64_flops" if d.name == "fp64" else "fp32_flops"
        elif unit == "tensor" and d.unit != "tensor":
            return None
        return self.peaks.get(quantity + SPARSE if sparse else quantity)

    def peak(self, dtype: str, unit: Unit, *, sparse: bool = False) -> float:
        """Peak rate of a unit for arithmetic in ``dtype``, operations per second.

        Args:
            dtype: name in ``DTYPES``.
            unit: ``tensor``, ``cuda`` (the fp32 rate, which accumulates every narrower type too) or ``cpu``.
            sparse: the rate that counts the zeros of a 2:4 weight.

        Raises:
            UserError: the device has no such unit, or its rate is not known.
        """
        rate = self.peak_or_none(dtype, unit, sparse=sparse)
        if rate is None:
            known = sorted(name.split("_")[0] for name in self.peaks if SPARSE not in name)
            what = f"{'2:4 ' if sparse else ''}{dtype} peak on {unit} units"
            raise UserError(
                f"{self.device}: no {self.kind} figure for the {what}; known are {', '.join(known) or 'none'}: "
                "choose another dtype or device"
            )
        return float(rate)

    @property
    def is_gpu(self) -> bool:
        """True if the device has streaming multiprocessors: a CPU has one kind of unit only."""
        return bool(self.sm_count)

    def own_unit(self, dtype: str) -> Unit:
        """The unit whose peak the preset ``paper`` takes for a dtype."""
        return DTYPES[lookup_dtype(dtype).name].unit if self.is_gpu else "cpu"

    def to_json(self) -> str:
        """Canonical JSON of every field."""
        data = {f.name: getattr(self, f.name) for f in fields(self)}
        data["peaks"] = dict(self.peaks)
        return json.dumps(data, indent=2, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Ceilings:
        """Inverse of ``to_json``.

        Raises:
            UserError: not JSON, a missing or unknown field, or an impossible figure.
        """
        try:
            data = json.loads(text)
            return cls(**data)
        except (ValueError, TypeError, AttributeError) as error:
            raise UserError(f"not a ceilings file: {error}; run 'hardware calibrate' again") from None
