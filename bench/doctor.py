"""What this machine can and cannot do for this program, one finding each, with the remedy where there is one.

Nothing is changed and nothing raises: a probe that fails is itself a finding.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal

from sparsity_roofline.bench import environment
from sparsity_roofline.bench.timing import nvml, timer_for

Status = Literal["ok", "warn", "missing"]

DRIVER_PARAMETERS = Path("/proc/driver/nvidia/params")
DRIVER_VERSION = Path("/proc/driver/nvidia/version")
CAP_SYS_ADMIN = 21
CAP_PERFMON = 38
RUN_BYTES = 1 << 30
"""Room that a large run and its plots may take."""


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis.

    Attributes:
        name: what was looked at.
        status: ``ok``; ``warn`` (works, with a limit worth knowing); ``missing`` (not to be had here).
        detail: what was found.
        remedy: what to do about it; empty when there is nothing to do.
    """

    name: str
    status: Status
    detail: str
    remedy: str = ""


def diagnose() -> list[Finding]:
    """Look at everything; a fixed order, from the ground up."""
    return [_safely(name, look) for name, look in PROBES.items()]


def _safely(name: str, look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except Exception as error:  # a broken library must not hide the other findings
        lines = str(error).splitlines() or [""]
        return Finding(name, "warn", f"could not be looked at: {type(error).__name__}: {lines[0]}")


# -- device


def driver() -> Finding:
    version = nvml.probe(lambda n: n.nvmlSystemGetDriverVersion())
    if nvml.known(version):
        return Finding("driver", "ok", f"NVIDIA {version}")
    if DRIVER_VERSION.exists():
        return Finding(
            "driver", "warn", "NVIDIA driver loaded, NVML not readable", "pip install nvidia-ml-py for clocks and power"
        )
    return Finding("driver", "missing", "no NVIDIA driver", "GPU kernels need one; CPU kernels and predictions do not")


def gpu() -> Finding:
    if environment.pick_device() != "cuda":
        return Finding("GPU", "missing", f"none; runs use this CPU: {environment.cpu_model()}")
    facts = environment.gpu()
    capability = facts["compute_capability"]
    detail = (
        f"{facts['name']}, {facts['memory_bytes'] / 2**30:.0f} GiB, compute capability {capability}, "
        f"{facts['sm_count']} SMs, L2 {facts['l2_bytes'] / 2**20:.0f} MiB"
    )
    if int(capability.split(".")[0]) < 8:
        return Finding("GPU", "warn", detail, "2:4 and bf16 kernels need compute capability 8.0 or later")
    return Finding("GPU", "ok", detail)


def mig() -> Finding:
    if environment.pick_device() != "cuda":
        return Finding("MIG", "missing", "no GPU")
    mode = environment.gpu()["mig"]
    if mode == "on":
        return Finding(
            "MIG",
            "warn",
            "on: a slice must not be compared with the full GPU's data sheet",
            "nvidia-smi -mig 0 (as root)",
        )
    return Finding("MIG", "ok", "off" if mode == "off" else f"none ({mode})")


def clocks() -> Finding:
    if environment.pick_device() != "cuda":
        return Finding("clocks", "missing", "no GPU")
    state = environment.gpu_state()
    now = state["sm_clock_mhz"]
    if not nvml.known(now):
        return Finding(
            "clocks", "warn", f"not readable ({now})", "pip install nvidia-ml-py; records will carry no clock"
        )
    top = environment.gpu()["sm_clock_max_mhz"]
    detail = f"SM {now} MHz now, at most {top} MHz; measured as found"
    if os.geteuid() == 0:
        return Finding("clocks", "ok", f"{detail}; root may lock them (nvidia-smi --lock-gpu-clocks)")
    return Finding("clocks", "warn", f"{detail}; locking needs root", "results hold for clocks as found")


def contention() -> Finding:
    if environment.pick_device() != "cuda":
        return Finding("other processes", "missing", "no GPU")
    others = environment.gpu_state()["other_processes"]
    if not nvml.known(others):
        return Finding("other processes", "warn", f"cannot be seen ({others})", "make sure nothing else uses the GPU")
    if others:
        return Finding(
            "other processes",
            "warn",
            f"{others} on this GPU: timings would be theirs too",
            "stop them, or pick another GPU",
        )
    return Finding("other processes", "ok", "none visible on this GPU")


# -- libraries


def torch() -> Finding:
    try:
        import torch as library
    except ImportError:
        return Finding("torch", "missing", "not installed", "pip install torch")
    build = f"CUDA {library.version.cuda}" if library.version.cuda else "CPU build"
    detail = f"{library.__version__} ({build})"
    if library.version.cuda is None and DRIVER_VERSION.exists():
        return Finding("torch", "warn", f"{detail}, but there is an NVIDIA driver", "install a CUDA build of torch")
    if library.version.cuda is not None and not library.cuda.is_available():
        return Finding(
            "torch",
            "warn",
            f"{detail}, but it finds no usable GPU",
            "check the driver's version and CUDA_VISIBLE_DEVICES",
        )
    return Finding("torch", "ok", detail)


def _module(name: str, module: str, need: str, install: str) -> Finding:
    try:
        library = import_module(module)
    except ImportError as error:
        why = "not installed" if isinstance(error, ModuleNotFoundError) else f"does not load: {error}"
        return Finding(name, "missing", f"{why}; needed for {need}", f"pip install {install}")
    return Finding(name, "ok", str(getattr(library, "__version__", "version unknown")))


def triton() -> Finding:
    return _module("triton", "triton", "the kernels of this repository", "triton")


def cupy() -> Finding:
    return _module("cupy", "cupy", "the cuSPARSE kernels", "'sparsity-roofline[gpu]'")


def nvmath() -> Finding:
    return _module("nvmath", "nvmath", "cuSPARSE and cuSPARSELt plans", "'sparsity-roofline[gpu]'")


def _vendor(name: str) -> Finding:
    """Version of a vendor library as the kernels load it, or their reason for having none."""
    from sparsity_roofline.kernels._cuda.versions import MISSING, versions

    try:
        version = versions()[name.lower()]
    except ImportError as error:
        return Finding(name, "missing", f"not reachable: {error}", "pip install torch")
    if version.startswith(MISSING):
        return Finding(name, "missing", version.removeprefix(MISSING))
    return Finding(name, "ok", version)


def cusparse() -> Finding:
    return _vendor("cuSPARSE")


def cusparselt() -> Finding:
    return _vendor("cuSPARSELt")


# -- measurement


def timer() -> Finding:
    support = timer_for("cuda").available()
    if support:
        return Finding("CUPTI timing", "ok", "kernel records arrive through torch's profiler")
    if environment.pick_device() != "cuda":
        return Finding("CUPTI timing", "missing", support.reason)
    return Finding(
        "CUPTI timing", "missing", support.reason, "GPU kernels are not timed without it: no fallback is silent"
    )


def profiler() -> Finding:
    """Hardware counters through ncu: a diagnosis aid, no part of a run."""
    name = "profiler permissions"
    if not DRIVER_PARAMETERS.exists():
        return Finding(name, "missing", "no NVIDIA driver")
    allowed = counters_allowed(
        DRIVER_PARAMETERS.read_text(encoding="ascii", errors="replace"), os.geteuid(), _capabilities()
    )
    found = shutil.which("ncu") is not None
    who = "allowed" if allowed else "for administrators only"
    detail = f"hardware counters {who}, ncu {'found' if found else 'not on PATH'}"
    if not allowed:
        return Finding(
            name, "warn", detail, "run ncu as root, or load the driver with NVreg_RestrictProfilingToAdminUsers=0"
        )
    return Finding(name, "ok" if found else "warn", detail, "" if found else "install Nsight Compute")


def counters_allowed(parameters: str, uid: int, capabilities: int) -> bool:
    """May this user read hardware counters? From the driver's parameters, the user id and effective capabilities."""
    restricted = any(
        line.split(":", 1)[1].strip() != "0"
        for line in parameters.splitlines()
        if line.startswith("RmProfilingAdminOnly:")
    )
    return not restricted or uid == 0 or bool(capabilities & (1 << CAP_SYS_ADMIN | 1 << CAP_PERFMON))


def _capabilities() -> int:
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    return next((int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:")), 0)


def ceilings() -> Finding:
    from sparsity_roofline.bench.calibrate import from_busy_machine, measured_ceilings

    name = "measured ceilings"
    found = measured_ceilings(environment.pick_device(), calibrate_if_missing=False)
    if found is None:
        return Finding(name, "warn", "this device is not calibrated", "sparsity-roofline hardware calibrate")
    if why := from_busy_machine(found):
        return Finding(name, "warn", f"may be too low: {why}", "sparsity-roofline hardware calibrate, when it is idle")
    return Finding(name, "ok", f"{found.device}: {found.dram_bandwidth / 1e9:.0f} GB/s ({found.identity})")


def governor() -> Finding:
    found = environment.host()["governor"]
    if found in (*nvml.WHYS, "performance"):
        return Finding("CPU governor", "ok", "not readable here" if found in nvml.WHYS else found)
    return Finding(
        "CPU governor", "warn", f"{found}: CPU timings may drift", "cpupower frequency-set -g performance (as root)"
    )


def disk(folder: Path | None = None) -> Finding:
    free = shutil.disk_usage(folder or Path.cwd()).free
    detail = f"{free / 2**30:.1f} GiB free here"
    if free < RUN_BYTES:
        return Finding("disk", "warn", detail, "a large run may need 1 GiB: free some, or give another folder")
    return Finding("disk", "ok", detail)


PROBES: dict[str, Callable[[], Finding]] = {
    "driver": driver,
    "GPU": gpu,
    "MIG": mig,
    "clocks": clocks,
    "other processes": contention,
    "torch": torch,
    "triton": triton,
    "cupy": cupy,
    "nvmath": nvmath,
    "cuSPARSE": cusparse,
    "cuSPARSELt": cusparselt,
    "CUPTI timing": timer,
    "profiler permissions": profiler,
    "CPU governor": governor,
    "measured ceilings": ceilings,
    "disk": disk,
}
"""Every probe by the name of its finding."""
