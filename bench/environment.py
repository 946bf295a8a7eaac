"""What a measurement ran on: device, versions, modes, source state. Enough to read a record years later.

Every entry is a value or one of ``not_supported``, ``no_permission``, ``no_library``; never a made-up zero. No host
name, user name, serial number or path is read: a device is identified by a hash of its UUID.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Callable
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from sparsity_roofline import __version__
from sparsity_roofline.bench.timing import flush, nvml
from sparsity_roofline.model.errors import UserError

DeviceKind = Literal["cuda", "cpu"]

SCHEMA_VERSION = 1
VOLATILE = "state"
"""The one section of the environment that changes while a run goes on; it has no part in the hash."""

PACKAGES = (
    "torch", "triton", "numpy", "scipy", "cupy-cuda12x", "cupy-cuda13x", "nvmath-python",
    "nvidia-ml-py", "nvidia-cusparselt-cu12", "nvidia-cusparselt-cu13", "nvidia-cuda-cupti", "nvidia-cublas",
    "nvidia-cusparse",
)  # fmt: skip

Json = dict[str, Any]


def pick_device() -> DeviceKind:
    """``cuda`` where torch finds an NVIDIA GPU, else ``cpu``."""
    try:
        import torch
    except ImportError:
        return "cpu"
    return "cuda" if torch.cuda.is_available() else "cpu"


def device_name(device: DeviceKind) -> str:
    """The device's own name: ``NVIDIA H100 80GB HBM3``, or the CPU's model name.

    Raises:
        UserError: ``cuda`` without a GPU, or another word.
    """
    if device == "cuda":
        return str(_cuda().get_device_name())
    _require(device)
    return cpu_model()


def device_hash(device: DeviceKind) -> str:
    """Twelve hexadecimal digits that stay the same for a device and give nothing else away.

    A GPU's come from its UUID. A CPU has none, so they come from its model, core count and caches: machines of the
    same make share them, and their ceilings are interchangeable.
    """
    if device == "cuda":
        _cuda()
        text = nvml.device_uuid()
    else:
        _require(device)
        text = f"{cpu_model()}|{os.cpu_count()}|{flush.cpu_cache_bytes()}"
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def environment(device: DeviceKind) -> Json:
    """Everything about this machine that a measurement on ``device`` may depend on; plain types, for JSON.

    Raises:
        UserError: ``cuda`` without a GPU, or another word.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "device": gpu() if device == "cuda" else _cpu_device(device),
        "host": host(),
        "software": software(),
        "source": source(),
        VOLATILE: gpu_state() if device == "cuda" else host_state(),
    }


def environment_hash(env: Json) -> str:
    """Twelve hexadecimal digits over every section but the volatile one, whatever the order of the keys."""
    stable = {name: section for name, section in env.items() if name != VOLATILE}
    return hashlib.sha256(json.dumps(stable, sort_keys=True, default=str).encode()).hexdigest()[:12]


# -- the GPU


def gpu(library: Any | None = None) -> Json:
    """The current CUDA device: identity, capacity, limits, modes."""
    cuda = _cuda()
    properties = cuda.get_device_properties(cuda.current_device())
    handle = nvml.handle(nvml.device_uuid(), library=library)

    def ask(read: Callable[[Any, Any], Any]) -> Any:
        return nvml.probe(lambda n: read(n, handle), library=library) if nvml.known(handle) else handle

    def watts(read: Callable[[Any, Any], Any]) -> Any:
        milliwatts = ask(read)
        return milliwatts / 1000 if nvml.known(milliwatts) else milliwatts

    return {
        "kind": "cuda",
        "name": properties.name,
        "uuid_hash": device_hash("cuda"),
        "compute_capability": f"{properties.major}.{properties.minor}",
        "memory_bytes": int(properties.total_memory),
        "l2_bytes": int(properties.L2_cache_size),
        "sm_count": int(properties.multi_processor_count),
        "power_limit_w": watts(lambda n, h: n.nvmlDeviceGetEnforcedPowerLimit(h)),
        "power_limit_default_w": watts(lambda n, h: n.nvmlDeviceGetPowerManagementDefaultLimit(h)),
        "sm_clock_max_mhz": ask(lambda n, h: n.nvmlDeviceGetMaxClockInfo(h, n.NVML_CLOCK_SM)),
        "memory_clock_max_mhz": ask(lambda n, h: n.nvmlDeviceGetMaxClockInfo(h, n.NVML_CLOCK_MEM)),
        "mig": ask(lambda n, h: _on_off(n.nvmlDeviceGetMigMode(h)[0])),
        "ecc": ask(lambda n, h: _on_off(n.nvmlDeviceGetEccMode(h)[0])),
        "persistence": ask(lambda n, h: _on_off(n.nvmlDeviceGetPersistenceMode(h))),
        "vbios": ask(lambda n, h: n.nvmlDeviceGetVbiosVersion(h)),
        "driver": nvml.probe(lambda n: n.nvmlSystemGetDriverVersion(), library=library),
        "visible_devices": int(cuda.device_count()),
    }


def gpu_state(library: Any | None = None) -> Json:
    """What changes by the second: clocks, power, temperature, throttle reasons and counters, other processes."""
    handle = nvml.handle(nvml.device_uuid(), library=library)

    def ask(read: Callable[[Any, Any], Any]) -> Any:
        return nvml.probe(lambda n: read(n, handle), library=library) if nvml.known(handle) else handle

    return {
        "sm_clock_mhz": ask(lambda n, h: n.nvmlDeviceGetClockInfo(h, n.NVML_CLOCK_SM)),
        "memory_clock_mhz": ask(lambda n, h: n.nvmlDeviceGetClockInfo(h, n.NVML_CLOCK_MEM)),
        "power_mw": ask(lambda n, h: n.nvmlDeviceGetPowerUsage(h)),
        "temperature_c": ask(lambda n, h: n.nvmlDeviceGetTemperature(h, n.NVML_TEMPERATURE_GPU)),
        "throttle_reasons": ask(lambda n, h: int(n.nvmlDeviceGetCurrentClocksEventReasons(h))),
        "other_processes": ask(lambda n, h: other_processes(n, h)),
    }


def other_processes(library: Any, handle: Any) -> int:
    """Compute processes on the device besides this one, as far as NVML shows them (containers may hide some)."""
    return sum(p.pid != os.getpid() for p in library.nvmlDeviceGetComputeRunningProcesses(handle))


def _on_off(mode: int) -> str:
    return "on" if mode else "off"


def _cuda() -> Any:
    if pick_device() != "cuda":
        raise UserError("no NVIDIA GPU here: torch.cuda.is_available() is False; use device cpu", exit_code=6)
    import torch

    return torch.cuda


# -- the host


@cache
def cpu_model() -> str:
    """Model name from Linux's cpuinfo, else what Python knows of the processor."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(("model name", "Model")) and ":" in line:
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _cpu_device(device: str) -> Json:
    _require(device)
    return {"kind": "cpu", "name": cpu_model(), "uuid_hash": device_hash("cpu")}


def _require(device: str) -> None:
    if device not in ("cuda", "cpu"):
        raise UserError(f"no such device: {device!r}; choose cuda or cpu")


def host() -> Json:
    """The CPU and its system: the device itself in a CPU run, what launches the kernels in a GPU run."""
    return {
        "cpu": cpu_model(),
        "architecture": platform.machine(),
        "cores_physical": _cores(logical=False),
        "cores_logical": _cores(logical=True),
        "cores_usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else "not_supported",
        "threads": threads(),
        "cache_bytes": flush.cpu_cache_bytes() or "not_supported",
        "memory_bytes": _memory(),
        "governor": _first_line(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
        "system": platform.system(),
        "kernel_release": platform.release().partition("-")[0],  # what follows names a build, at times a site
    }


def host_state() -> Json:
    """Load of the machine over the last minute."""
    try:
        return {"load_1min": os.getloadavg()[0]}
    except OSError:
        return {"load_1min": "not_supported"}


def threads() -> int | str:
    """Threads torch computes with."""
    try:
        import torch
    except ImportError:
        return "no_library"
    return int(torch.get_num_threads())


def _cores(*, logical: bool) -> int | str:
    try:
        import psutil
    except ImportError:
        return (os.cpu_count() or "not_supported") if logical else "no_library"
    return psutil.cpu_count(logical=logical) or "not_supported"


def _memory() -> int | str:
    try:
        import psutil
    except ImportError:
        return "no_library"
    return int(psutil.virtual_memory().total)


def _first_line(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except PermissionError:
        return "no_permission"
    except OSError:
        return "not_supported"


# -- software and source


def software() -> Json:
    """Versions: interpreter, packages, and the CUDA libraries in use."""
    versions: Json = {"python": platform.python_version(), "implementation": platform.python_implementation()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "no_library"
    versions["sparsity-roofline"] = __version__
    versions["torch_cuda"] = _torch_cuda()
    versions["libraries"] = cuda_libraries()
    return versions


def _torch_cuda() -> str:
    try:
        import torch
    except ImportError:
        return "no_library"
    return str(torch.version.cuda or "not_supported")


def cuda_libraries() -> Json | str:
    """Versions of cuSPARSE, cuSPARSELt and their bindings as loaded; they need not be those of the packages."""
    if pick_device() != "cuda":
        return "not_supported"
    from sparsity_roofline.kernels._cuda.versions import MISSING, versions

    # The reason for a missing library is the doctor's to tell; it may hold a path.
    return {name: "no_library" if version.startswith(MISSING) else version for name, version in versions().items()}


def source(root: Path | None = None) -> Json:
    """Commit and dirty flag of the checkout this package runs from; not_supported for an installed package.

    A copy of a checkout without its history says its commit in the variable ``SPARSITY_ROOFLINE_COMMIT``.
    """
    told = os.environ.get("SPARSITY_ROOFLINE_COMMIT")
    if told and root is None:
        return {"commit": told, "dirty": "not_supported"}
    root = Path(__file__).resolve().parents[1] if root is None else root
    if not (root / ".git").exists():
        return {"commit": "not_supported", "dirty": "not_supported"}
    commit = _git(root, "rev-parse", "HEAD")
    if commit in nvml.WHYS:
        return {"commit": commit, "dirty": commit}
    status = _git(root, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": status if status in nvml.WHYS else bool(status)}


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-c", f"safe.directory={root}", "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except FileNotFoundError:
        return "no_library"
    except (OSError, subprocess.SubprocessError):
        return "not_supported"
    return done.stdout.strip()
