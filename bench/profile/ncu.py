"""Run one launch under Nsight Compute and read its report through NVIDIA's own Python module.

The module, ``ncu_report``, comes with Nsight Compute (``extras/python``) and as the package ``ncu-report``. Caches are
flushed before every replay (``--cache-control all``, ncu's default) and clocks are left alone.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from sparsity_roofline.bench.profile.facts import OPERATIONS
from sparsity_roofline.bench.profile.launch import RANGE
from sparsity_roofline.bench.profile.target import Target
from sparsity_roofline.model.errors import UserError

SECTIONS = ("LaunchStats", "Occupancy", "WarpStateStats")

METRICS = (
    "gpu__time_duration.sum",
    "dram__bytes_read.sum",
    "dram__bytes_write.sum",
    "lts__t_sectors_srcunit_tex.sum",
    "lts__t_sector_hit_rate.pct",
    "lts__throughput.avg.pct_of_peak_sustained_elapsed",
    "l1tex__t_sectors_pipe_lsu_mem_local_op_ld.sum",
    "l1tex__t_sectors_pipe_lsu_mem_local_op_st.sum",
    "gpc__cycles_elapsed.max",
    "sm__cycles_active.avg",
    "sm__cycles_active.max",
    "sm__cycles_active.min",
    "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_elapsed",
    "sm__pipe_fma_cycles_active.avg.pct_of_peak_sustained_elapsed",
    "sm__pipe_alu_cycles_active.avg.pct_of_peak_sustained_elapsed",
    "smsp__issue_active.avg.pct_of_peak_sustained_active",
)
"""What every supported device counts."""

PERMISSION = "ERR_NVGPUCTRPERM"
REMEDIES = {
    PERMISSION: (
        "no permission to read the GPU's performance counters: let the driver allow it "
        "(NVreg_RestrictProfilingToAdminUsers=0) or run as root; see docs/profile.md"
    ),
    "LibraryNotLoaded": "the profiler's library does not load here: some containers and sandboxes do not allow it",
    "another": "another profiler holds the GPU: stop it (nsys, DCGM, CUPTI in another process)",
}
"""What ncu says when it cannot count, and what to do."""


READ_LIMIT_S = 60.0


def why_not() -> str:
    """Why there is no Nsight Compute here; "" if there is."""
    if shutil.which("ncu") is None:
        return "ncu is not on the PATH: install Nsight Compute, which comes with the CUDA toolkit"
    if importlib.util.find_spec("ncu_report") is None and not _beside(Path(shutil.which("ncu") or "ncu")):
        return "the Python module ncu_report is not there: pip install ncu-report"
    return ""


def count(target: Target, folder: Path, *, timeout_s: float = 300.0) -> list[dict[str, Any]]:
    """Metrics of each kernel of one call, in order: ``name`` and every metric by its own name (numbers only).

    Args:
        target: what is launched.
        folder: keeps ``profile.ncu-rep``, which Nsight Compute's own window opens.
        timeout_s: of one attempt.

    Raises:
        UserError: ncu is missing or not allowed to count, or the kernel does not run; the reason in words.
    """
    if reason := why_not():
        raise UserError(reason, 6)
    said = ""
    for metrics in ((*METRICS, *OPERATIONS), METRICS):
        report = folder / "profile.ncu-rep"
        report.unlink(missing_ok=True)
        said = _run(target, folder, metrics, timeout_s)
        if report.is_file():
            return read(report)
        if "find metric" not in said:
            break
    raise UserError(f"Nsight Compute counted nothing: {_short(said)}", 6)


def read(report: Path) -> list[dict[str, Any]]:
    """The kernels of a report, read in a process of its own: the module is native code, brings libraries that others in
    this process (Arrow) hold in other versions, and can take the process down with it.

    Raises:
        UserError: ``ncu_report`` is missing or cannot read the file.
    """
    command = [sys.executable, "-m", "sparsity_roofline.bench.profile.ncu", str(report)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=READ_LIMIT_S)
    found: list[dict[str, Any]] = json.loads(done.stdout) if done.returncode == 0 else []
    if found:
        return found
    nothing = "no kernel in it" if done.returncode == 0 else f"it ended with code {done.returncode}"
    last = (done.stderr.strip().splitlines() or [nothing])[-1]
    raise UserError(f"{report}: ncu_report cannot read it ({last}): is it older than ncu? pip install -U ncu-report", 6)


def kernels_of(report: Path) -> list[dict[str, Any]]:
    """The kernels of a report, read here.

    Raises:
        ImportError: ``ncu_report`` is not there.
    """
    module = _module()
    if module is None:
        raise ImportError("the Python module ncu_report is not there")
    loaded = module.load_report(str(report))
    return [
        _action(loaded.range_by_idx(i).action_by_idx(j))
        for i in range(loaded.num_ranges())
        for j in range(loaded.range_by_idx(i).num_actions())
    ]


def _action(action: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"name": action.name()}
    for name in action.metric_names():
        if name.startswith(("device__", "breakdown:", "numa__", "nvlink__", "profiler__")):
            continue
        value = action.metric_by_name(name).value()
        if isinstance(value, int | float) and not isinstance(value, bool):
            found[name] = value
    return found


def _run(target: Target, folder: Path, metrics: Sequence[str], timeout_s: float) -> str:
    """One attempt; what ncu and the launched process said."""
    answer = folder / "launch.json"
    answer.unlink(missing_ok=True)
    command = ["ncu", "--nvtx", "--nvtx-include", f"{RANGE}/", "--clock-control", "none", "--cache-control", "all"]
    for section in SECTIONS:
        command += ["--section", section]
    command += ["--metrics", ",".join(metrics), "-f", "-o", str(folder / "profile")]
    command += [sys.executable, "-m", "sparsity_roofline.bench.profile.launch", "once", str(answer)]
    try:
        done = subprocess.run(
            command, input=target.to_json(), capture_output=True, text=True, check=False, timeout=timeout_s
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"Nsight Compute did not finish within {timeout_s:g} s: profile a smaller case", 4) from None
    if answer.is_file():
        told = json.loads(answer.read_text(encoding="utf-8"))
        if "error" in told:
            raise UserError(told["error"], told["exit_code"])
    return done.stdout + done.stderr


def _short(said: str) -> str:
    for sign, remedy in REMEDIES.items():
        if sign in said:
            return remedy
    errors = [line.removeprefix("==ERROR==").strip() for line in said.splitlines() if "==ERROR==" in line]
    return errors[0] if errors else "it said nothing of the reason"


def _module() -> ModuleType | None:
    """``ncu_report``: installed, else the one beside ncu."""
    try:
        return importlib.import_module("ncu_report")
    except ImportError:
        pass
    program = shutil.which("ncu")
    if program is None:
        return None
    for folder in _beside(Path(program)):
        sys.path.insert(0, str(folder))
        try:
            return importlib.import_module("ncu_report")
        except ImportError:
            continue
        finally:
            sys.path.remove(str(folder))
    return None


def _beside(program: Path) -> list[Path]:
    """Folders where an installation of Nsight Compute keeps its Python modules, from its program's place."""
    real = program.resolve()
    near = [real.parent / "extras" / "python", real.parent.parent / "extras" / "python"]
    near += [p / "extras" / "python" for p in sorted(real.parents[1].glob("nsight-compute*"), reverse=True)]
    near += sorted(Path("/opt/nvidia/nsight-compute").glob("*/extras/python"), reverse=True)
    return [folder for folder in near if (folder / "ncu_report.py").is_file()]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(kernels_of(Path(sys.argv[1]))))
