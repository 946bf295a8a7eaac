"""From a target to an answer: time it, count it, hold the model against both."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sparsity_roofline.bench.profile import ncu
from sparsity_roofline.bench.profile.diagnose import Finding, Limits, diagnose, latency_words
from sparsity_roofline.bench.profile.facts import Facts, facts_of
from sparsity_roofline.bench.profile.target import Target
from sparsity_roofline.model import cost, hardware, table
from sparsity_roofline.model.case import Case
from sparsity_roofline.model.ceilings import Ceilings
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.terms.constants import device_constants

TIME_LIMIT_S = 300.0


@dataclass
class Profile:
    """The outcome.

    Attributes:
        target, case, device: what was profiled, and where.
        time_ns: device time of a call, cold and clean, without the profiler.
        limits: the model's side.
        facts: the counters; without them what the trace tells.
        findings: largest gain first.
        launches: kernels of the call as the trace shows them.
        config: the kernel's choices.
        counted: True if Nsight Compute counted; else ``why`` says what is missing and what to do.
        why: see ``counted``.
        report: the file that Nsight Compute's own window opens, or None.
    """

    target: Target
    case: Case
    device: str
    time_ns: float
    limits: Limits
    facts: Facts
    findings: list[Finding]
    launches: list[dict[str, Any]] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    counted: bool = False
    why: str = ""
    report: Path | None = None

    @property
    def fraction(self) -> float:
        """Fraction of the speed of light of the kernel's unit (preset ``bound``)."""
        return self.limits.sol_s / (self.time_ns * 1e-9)

    def to_json(self) -> dict[str, Any]:
        """Plain types."""
        return {
            "target": asdict(self.target),
            "case": self.case.to_dict(),
            "device": self.device,
            "time_ns": self.time_ns,
            "sol_ns": self.limits.sol_s * 1e9,
            "fraction": self.fraction,
            "limits": asdict(self.limits),
            "facts": asdict(self.facts),
            "findings": [asdict(finding) for finding in self.findings],
            "waits": latency_words(self.facts),
            "launches": self.launches,
            "config": self.config,
            "counted": self.counted,
            "why": self.why,
            "report": self.report.name if self.report else None,  # committed results hold no paths
        }


def profile(target: Target, folder: Path | None = None, *, ceilings: Ceilings | None = None) -> Profile:
    """Time and count one kernel on one case.

    Args:
        target: what.
        folder: keeps Nsight Compute's report; a temporary one by default, and then the report is not kept.
        ceilings: of the device; by default those measured on it before, else the data sheet's.

    Raises:
        UserError: no GPU, the kernel does not take the case or is wrong on it. That counters cannot be read is not an
            error: the profile then says why and gives what timing and trace tell.
    """
    with tempfile.TemporaryDirectory() as temporary:
        place = folder or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        told = _timed(target, place)
        why, counters = "", []
        try:
            counters = ncu.count(target, place)
        except UserError as error:
            why = str(error)
        case = Case.from_dict(told["case"])
        ceilings = ceilings or _ceilings(told["device_name"], told["memory_bytes"])
        limits = limits_of(case, target, ceilings)
        facts = facts_of(counters) if counters else _from_trace(told)
        report = place / "profile.ncu-rep"
        return Profile(
            target=target,
            case=case,
            device=told["device_name"],
            time_ns=told["time_ns"],
            limits=limits,
            facts=facts,
            findings=diagnose(limits, facts, told["time_ns"] * 1e-9),
            launches=told["launches"],
            config=told["config"],
            counted=bool(counters),
            why=why,
            report=report if folder is not None and report.is_file() else None,
        )


def limits_of(case: Case, target: Target, ceilings: Ceilings) -> Limits:
    """The model's side of a case: preset ``bound`` under the peak of the unit that the kernel declares.

    L2's rate is that of neighbours that read the same lines for a dense product, and of lines of their own for a sparse
    one, whose rows of X differ from block row to block row.
    """
    unit = target.find_kernel().unit(case.dtype, "cuda")
    figures = device_constants(ceilings)
    counted = cost.cost(table.CaseTable.of([case]), cost.PRESETS["bound"], l2_bytes=int(ceilings.l2_bytes))
    return Limits(
        flops=float(counted.flops[0]),
        bytes=float(counted.bytes[0]),
        peak=ceilings.peak(case.dtype, unit),
        bandwidth=ceilings.dram_bandwidth,
        floor_s=figures.launch_floor_s,
        unit=unit,
        l2_bandwidth=figures.l2_shared_bandwidth if case.format in ("dense", "nm") else figures.l2_bandwidth,
    )


def _timed(target: Target, folder: Path) -> dict[str, Any]:
    """What the process that times says; a process of its own, since CUPTI serves one tool at a time."""
    answer = folder / "time.json"
    answer.unlink(missing_ok=True)
    command = [sys.executable, "-m", "sparsity_roofline.bench.profile.launch", "time", str(answer)]
    try:
        done = subprocess.run(
            command, input=target.to_json(), capture_output=True, text=True, check=False, timeout=TIME_LIMIT_S
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"{target.kernel} was not timed within {TIME_LIMIT_S:g} s: does it hang?", 4) from None
    if not answer.is_file():
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        raise UserError(f"{target.kernel} ended the process that timed it ({last})", 3)
    told: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    if "error" in told:
        raise UserError(told["error"], told["exit_code"])
    return told


def _ceilings(device_name: str, memory_bytes: int) -> Ceilings:
    match = hardware.match(device_name, memory_bytes)
    if match is None:
        raise UserError(f"{device_name} is not in the table of GPUs: give --hardware FILE.toml with its ceilings", 2)
    return hardware.datasheet(match)


def _from_trace(told: dict[str, Any]) -> Facts:
    """What can be said without counters."""
    launches = told["launches"]
    longest = max(launches, key=lambda row: float(row["time_us"])) if launches else {}
    grid, block = longest.get("grid", [0]), longest.get("block", [0])
    return Facts(
        kernels=tuple(row["name"] for row in launches),
        time_ns=float(told["time_ns"]),
        registers=longest.get("registers"),
        shared_bytes=longest.get("shared_bytes"),
        threads=_product(block) or None,
        blocks=_product(grid) or None,
    )


def _product(values: list[int]) -> int:
    total = 1
    for value in values:
        total *= int(value)
    return total
