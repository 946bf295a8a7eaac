"""Fill a record from its parts: case, kernel, ceilings, check and samples. The one place that knows all columns."""

from __future__ import annotations

import datetime
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from sparsity_roofline.bench.conditions import Conditions, split, watched
from sparsity_roofline.bench.inputs import OWN, SEEDED
from sparsity_roofline.bench.redact import redact
from sparsity_roofline.bench.timing.protocol import Regime, Samples
from sparsity_roofline.kernels.protocol import Device, Kernel
from sparsity_roofline.model.case import Case
from sparsity_roofline.model.dtype import Unit
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.matrix import Matrix
from sparsity_roofline.model.record import PRESETS, Record, Status

if TYPE_CHECKING:
    from sparsity_roofline.kernels.reference import CheckResult
    from sparsity_roofline.model.hardware import Ceilings

_CASE_FIELDS = [f.name for f in fields(Case) if f.name in {g.name for g in fields(Record)}]


@dataclass(frozen=True)
class Evidence:
    """What every record of a run shares.

    Attributes:
        run_id: of the run.
        device: ``cuda`` or ``cpu``.
        device_name: as the driver or the system calls it.
        environment: hash of environment.json.
        datasheet: ceilings of the GPU in hardware.csv, or None.
        measured: this machine's calibration, or None.
        threads: CPU threads torch uses, None on a GPU.
    """

    run_id: str
    device: Device
    device_name: str
    environment: str
    datasheet: Ceilings | None = None
    measured: Ceilings | None = None
    threads: int | None = None


def blank(case: Case, kernel: Kernel | str, evidence: Evidence, status: Status = "error", reason: str = "") -> Record:
    """A record with everything that is known without running: case, kernel, cost and speed of light."""
    record = Record(status=status, reason=redact(reason), run_id=evidence.run_id, case=case.key)
    for name in _CASE_FIELDS:
        setattr(record, name, getattr(case, name))
    record.density = case.density
    record.stored_elements = case.stored_elements
    record.recorded_at = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    record.environment = evidence.environment
    record.device = evidence.device_name
    record.threads = evidence.threads
    if isinstance(kernel, str):
        record.kernel = kernel
        return record
    record.kernel = kernel.name
    record.kernel_version = kernel.version
    record.kernel_ours = kernel.ours
    unit = kernel.unit(case.dtype, evidence.device)
    record.kernel_unit = unit
    _model(record, case, unit, evidence)
    return record


def _model(record: Record, case: Case, unit: Unit, evidence: Evidence) -> None:
    """Cost and speed of light under both ceilings; what a ceiling does not know stays None."""
    from sparsity_roofline.model.roofline import sol_case

    for kind, ceilings in (("datasheet", evidence.datasheet), ("measured", evidence.measured)):
        if ceilings is None:
            continue
        setattr(record, f"ceilings_{kind}", ceilings.device if kind == "datasheet" else ceilings.identity)
        for preset in PRESETS:
            try:
                sol_s, bound, flops, moved = sol_case(case, ceilings, preset, unit)
            except UserError:
                continue  # no peak of this type in these ceilings
            setattr(record, f"sol_{preset}_{kind}_ns", float(sol_s) * 1e9)
            setattr(record, f"bound_{preset}_{kind}", str(bound))
            if getattr(record, f"flops_{preset}") is None:
                setattr(record, f"flops_{preset}", float(flops))
                setattr(record, f"bytes_{preset}", float(moved))


def add_matrix(record: Record, matrix: Matrix) -> None:
    """Figures that need the loaded matrix, and where its values come from."""
    if record.format != "dense":
        record.weight = SEEDED if matrix.seeded_values or matrix.synthetic else OWN
    if record.format == "dense":
        record.empty_rows, record.max_row_nnz = 0, record.K
    else:
        lengths = matrix.row_lengths
        record.empty_rows = int((lengths == 0).sum())
        record.max_row_nnz = int(lengths.max()) if lengths.size else 0


def add_check(record: Record, result: CheckResult) -> None:
    """Error figures against the oracle; figures that could not be formed stay None."""
    record.error_rms = _finite(result.rms)
    record.error_max = _finite(result.max)
    record.tolerance_rms = float(result.tolerance_rms)
    record.tolerance_max = float(result.tolerance_max)


@contextmanager
def conditions(record: Record, device: Device, regime: Regime) -> Iterator[Conditions]:
    """Watch the device and the host around the block, and write down what was seen whether or not the block succeeds.

    The block leaves its samples in ``Conditions.samples``.

    Raises:
        InvalidMeasurement: the conditions leave too few of the samples.
    """
    seen = Conditions(clocks=regime.clocks)
    try:
        with watched(device, seen):
            yield seen
    finally:
        add_conditions(record, seen)
    if seen.samples is not None:
        try:
            seen.judge(seen.samples)
        finally:
            _add_discarded(record, seen.samples)


def add_conditions(record: Record, seen: Conditions) -> None:
    """Columns of the conditions; words for what could not be read go into ``unread``."""
    values, words = split(seen.columns())
    for name, value in values.items():
        setattr(record, name, value)
    record.unread = json.dumps(words, sort_keys=True) if words else ""


def add_held(record: Record, case: Case, datasheet: Ceilings | None) -> None:
    """The speed of light at the clock held, where a clock was read and the data sheet names the one of its peaks."""
    from sparsity_roofline.model.held import sol_held

    if datasheet is None or not record.sm_clock_mhz:
        return
    with suppress(UserError):  # no peak of this type in these ceilings
        record.sol_paper_held_ns = sol_held(case, datasheet, record.sm_clock_mhz * 1e6)[0] * 1e9


def add_samples(record: Record, samples: Samples, timer: str, regime: Regime) -> None:
    """Timing columns and raw samples; makes the record ``ok``."""
    from sparsity_roofline.bench.timing.stats import median_interval

    busy = np.asarray(samples.busy_ns, dtype=np.float64)
    low, median, high = median_interval(samples.busy_ns, 0.95)
    record.status, record.reason = "ok", ""
    record.timer, record.regime_l2, record.regime_clocks = timer, regime.l2, regime.clocks
    record.time_ns, record.time_ci_low_ns, record.time_ci_high_ns = float(median), float(low), float(high)
    record.time_min_ns = float(busy.min())
    record.time_p10_ns, record.time_p90_ns = (float(v) for v in np.percentile(busy, (10, 90)))
    record.span_ns = float(np.median(samples.span_ns))
    record.samples = len(samples.busy_ns)
    _add_discarded(record, samples)
    record.kernels_per_call = int(samples.kernels_per_call)
    record.stop_reason = samples.stop_reason
    record.host_call_ns = _finite(samples.host_ns)
    record.sm_clock_mhz = _finite(samples.sm_clock_mhz)
    record.raw_samples_ns = [round(float(v), 3) for v in samples.busy_ns]


def _add_discarded(record: Record, samples: Samples) -> None:
    record.discarded = len(samples.discarded)
    causes = Counter(samples.discarded)
    record.discard_causes = redact(json.dumps(causes, sort_keys=True)) if causes else ""


def as_config(config: dict[str, Any]) -> str:
    """A kernel's configuration as JSON text without any path."""
    return redact(json.dumps(config, default=str, sort_keys=True))


def _finite(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)
