"""The record: one row per (case, kernel), status first, understandable alone and years later.

Latencies are nanoseconds, rates are base units. A field is None exactly when it was not obtained; no timing or check
figure is filled unless the status allows it (``Record.check``).
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

SCHEMA_VERSION = 1

Status = Literal["ok", "incorrect", "unsupported", "out_of_memory", "timeout", "error", "invalid_environment"]
STATUSES: tuple[Status, ...] = get_args(Status)

PRESETS = ("paper", "unit", "bound")
CEILINGS = ("datasheet", "measured")

TIMING_FIELDS = (
    "time_ns", "time_ci_low_ns", "time_ci_high_ns", "time_min_ns", "time_p10_ns", "time_p90_ns", "span_ns",
    "samples", "kernels_per_call", "stop_reason",
)  # fmt: skip


@dataclass
class Record:
    """One measured (or refused) pair of case and kernel.

    ``sol_<preset>_<ceilings>_ns`` is the speed-of-light latency, ``bound_<preset>_<ceilings>`` which limit set it.
    """

    # -- outcome
    status: Status
    reason: str = ""
    schema_version: int = SCHEMA_VERSION
    run_id: str = ""
    recorded_at: str = ""  # ISO 8601, UTC
    # -- case (see model.case.Case)
    case: str = ""  # Case.key
    collection: str = ""
    matrix: str = ""
    network: str | None = None
    layer: str | None = None
    method: str | None = None
    M: int = 0
    K: int = 0
    N: int = 0
    batch: int | None = None
    pattern: str = ""
    format: str = ""
    dtype: str = ""
    layout: str = "row-major"
    block_rows: int = 0
    block_cols: int = 0
    n: int = 0
    m: int = 0
    target_sparsity: float | None = None
    nnz: int = 0
    density: float = 0.0
    stored_blocks: int = 0
    stored_elements: int = 0
    used_columns: int = 0
    empty_rows: int | None = None
    max_row_nnz: int | None = None
    synthetic: bool = False
    seed: int = 0
    digest: str = ""
    weight: str | None = None  # dense: the matrix whose weight before pruning it is, or ``seeded``; else own | seeded
    # -- kernel
    kernel: str = ""
    kernel_version: str = ""
    kernel_unit: str = ""  # tensor | cuda | cpu
    kernel_ours: bool = False
    kernel_config: str = ""  # JSON
    # -- check against the float64 oracle
    error_rms: float | None = None  # relative Frobenius
    error_max: float | None = None  # largest |error| over the RMS of the reference
    tolerance_rms: float | None = None
    tolerance_max: float | None = None
    # -- timing
    timer: str | None = None
    regime_l2: str | None = None  # cold-clean | cold-dirty | hot
    regime_clocks: str | None = None  # as-found | fixed | sustained
    time_ns: float | None = None  # median device-busy time of one call
    time_ci_low_ns: float | None = None  # 95 % order-statistic interval of the median
    time_ci_high_ns: float | None = None
    time_min_ns: float | None = None
    time_p10_ns: float | None = None
    time_p90_ns: float | None = None
    span_ns: float | None = None  # median first start to last end
    samples: int | None = None
    discarded: int | None = None
    discard_causes: str = ""  # JSON, cause -> samples left out for it
    kernels_per_call: int | None = None
    stop_reason: str | None = None
    setup_ns: str = ""  # JSON, step -> ns
    wall_ns: str = ""  # JSON, phase of the job -> ns on the wall (see bench.phases)
    host_call_ns: float | None = None
    sm_clock_mhz: float | None = None  # held during the samples
    threads: int | None = None
    # -- conditions around the samples; why a figure is missing stands in ``unread``
    clock_state: str | None = None  # steady | drifting | throttled | unknown
    watched_s: float | None = None  # from the reading before to the one after: the time that deltas cover
    sm_clock_before_mhz: float | None = None
    sm_clock_after_mhz: float | None = None
    sm_clock_low_mhz: float | None = None  # lowest and highest of the timer's readings under load
    sm_clock_high_mhz: float | None = None
    memory_clock_mhz: float | None = None
    power_w: float | None = None  # after the samples; the driver's average over about a second
    temperature_c: float | None = None  # after the samples
    energy_mj: float | None = None  # since the run's last reading, which is at least a second ago
    energy_s: float | None = None  # the time it covers
    throttle_reasons_before: int | None = None  # NVML's bitmask
    throttle_reasons_after: int | None = None
    throttle_power_ns: int | None = None  # deltas of NVML's violation counters, which advance in steps of about 0.1 s
    throttle_thermal_ns: int | None = None
    throttle_board_ns: int | None = None
    throttle_reliability_ns: int | None = None
    throttle_sw_thermal_ns: int | None = None
    throttle_hw_thermal_ns: int | None = None
    throttle_power_brake_ns: int | None = None
    foreign_processes: int | None = None  # other compute processes on the GPU
    cpu_affinity: str | None = None  # logical CPUs the measuring process may run on, as 0-3,8
    cpu_governor: str | None = None
    load_before: float | None = None  # one-minute load average
    load_after: float | None = None
    unread: str = ""  # JSON, column -> not_supported | no_permission | no_library
    # -- model
    device: str = ""  # name of the device in the ceilings
    ceilings_datasheet: str | None = None  # the GPU of hardware.csv, or None
    ceilings_measured: str | None = None  # identity of the calibration, or None
    flops_paper: float | None = None
    bytes_paper: float | None = None
    flops_unit: float | None = None
    bytes_unit: float | None = None
    flops_bound: float | None = None
    bytes_bound: float | None = None
    sol_paper_datasheet_ns: float | None = None
    sol_unit_datasheet_ns: float | None = None
    sol_bound_datasheet_ns: float | None = None
    sol_paper_measured_ns: float | None = None
    sol_unit_measured_ns: float | None = None
    sol_bound_measured_ns: float | None = None
    bound_paper_datasheet: str | None = None  # compute | memory
    bound_unit_datasheet: str | None = None
    bound_bound_datasheet: str | None = None
    bound_paper_measured: str | None = None
    bound_unit_measured: str | None = None
    bound_bound_measured: str | None = None
    sol_paper_held_ns: float | None = None  # paper, data sheet, peaks at sm_clock_mhz instead of the printed clock
    # -- evidence
    environment: str = ""  # hash of environment.json
    raw_samples_ns: list[float] = field(default_factory=list, repr=False)  # kept beside, in samples.parquet

    def check(self) -> None:
        """Hold the rules of the record.

        Raises:
            ValueError: an unknown status, a timing without ``ok``, or ``ok`` without a timing or a passed check.
        """
        if self.status not in STATUSES:
            raise ValueError(f"unknown status {self.status!r}")
        filled = [name for name in TIMING_FIELDS if getattr(self, name) is not None]
        if self.status != "ok" and filled:
            raise ValueError(f"status {self.status} but {', '.join(filled)} filled")
        if self.status == "ok" and (len(filled) != len(TIMING_FIELDS) or self.error_rms is None):
            raise ValueError("status ok needs every timing field and a passed check")
        if self.status != "ok" and not self.reason:
            raise ValueError(f"status {self.status} needs a reason")

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, for JSON and DataFrames."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Record:
        """Inverse of ``to_dict``. Unknown fields are dropped so that newer files can still be read."""
        known = {f.name for f in fields(cls)}
        return cls(**{k: v for k, v in data.items() if k in known})
