"""The diagnosis: complete, never raising, each gap with its remedy."""

from __future__ import annotations

import builtins
import sys
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from sparsity_roofline.bench import doctor, environment
from sparsity_roofline.bench.doctor import Finding, counters_allowed, diagnose
from sparsity_roofline.bench.meaning import meaning
from sparsity_roofline.kernels.protocol import Support

GPU = {
    "name": "NVIDIA H100 80GB HBM3",
    "memory_bytes": 80 << 30,
    "compute_capability": "9.0",
    "sm_count": 132,
    "l2_bytes": 50 << 20,
    "mig": "off",
    "sm_clock_max_mhz": 1980,
}
STATE = {"sm_clock_mhz": 1755, "other_processes": 0}


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSITY_ROOFLINE_HOME", str(tmp_path / "home"))


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Any], dict[str, Any]]:
    device, state = dict(GPU), dict(STATE)
    monkeypatch.setattr(environment, "pick_device", lambda: "cuda")
    monkeypatch.setattr(environment, "gpu", lambda: device)
    monkeypatch.setattr(environment, "gpu_state", lambda: state)
    return device, state


def test_every_probe_gives_one_finding() -> None:
    findings = diagnose()
    assert [f.name for f in findings] == list(doctor.PROBES)
    assert len({f.name for f in findings}) == len(findings)
    assert all(f.status in ("ok", "warn", "missing") and f.detail for f in findings)
    assert all("\n" not in f.detail + f.remedy for f in findings)


def test_a_broken_probe_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Finding:
        raise OSError("libcusparse.so.12: cannot open\nsecond line")

    monkeypatch.setitem(doctor.PROBES, "cuSPARSE", broken)
    found = {f.name: f for f in diagnose()}["cuSPARSE"]
    assert found.status == "warn"
    assert found.detail == "could not be looked at: OSError: libcusparse.so.12: cannot open"


def test_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any, **more: Any) -> Any:
        if name.split(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real(name, *rest, **more)

    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(builtins, "__import__", refuse)
    found = {f.name: f for f in diagnose()}
    assert found["torch"].status == "missing"
    assert found["torch"].remedy == "pip install torch"
    assert found["GPU"].status == "missing"
    assert "could not be looked at" not in " ".join(f.detail for f in found.values())


def test_gpu(on_gpu: Any) -> None:
    assert doctor.gpu().status == "ok"
    assert "132 SMs" in doctor.gpu().detail
    assert doctor.mig() == Finding("MIG", "ok", "off")
    assert doctor.contention().status == "ok"


def test_old_gpu(on_gpu: Any) -> None:
    on_gpu[0]["compute_capability"] = "7.5"
    assert doctor.gpu().status == "warn"
    assert "8.0" in doctor.gpu().remedy


def test_mig_slice(on_gpu: Any) -> None:
    on_gpu[0]["mig"] = "on"
    assert doctor.mig().status == "warn"
    assert "nvidia-smi -mig 0" in doctor.mig().remedy


def test_foreign_process(on_gpu: Any) -> None:
    on_gpu[1]["other_processes"] = 2
    assert doctor.contention().status == "warn"
    on_gpu[1]["other_processes"] = "no_permission"
    assert "cannot be seen (no_permission)" in doctor.contention().detail


def test_clocks(on_gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert doctor.clocks().status == "warn"
    assert "1755 MHz" in doctor.clocks().detail
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert doctor.clocks().status == "ok"
    on_gpu[1]["sm_clock_mhz"] = "no_library"
    assert doctor.clocks().status == "warn"
    assert "nvidia-ml-py" in doctor.clocks().remedy


def test_timer(on_gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Fake:
        def __init__(self, reason: str) -> None:
            self.reason = reason

        def available(self) -> Support:
            return Support(self.reason)

    monkeypatch.setattr(doctor, "timer_for", lambda device: Fake(""))
    assert doctor.timer().status == "ok"
    monkeypatch.setattr(doctor, "timer_for", lambda device: Fake("CUPTI is held by another tool"))
    assert doctor.timer().status == "missing"
    assert doctor.timer().detail == "CUPTI is held by another tool"


RESTRICTED = "ResmanDebugLevel: 4294967295\nRmProfilingAdminOnly: 1\n"


@pytest.mark.parametrize(
    ("parameters", "uid", "capabilities", "allowed"),
    [
        (RESTRICTED, 1000, 0, False),
        (RESTRICTED, 0, 0, True),
        (RESTRICTED, 1000, 1 << 21, True),
        (RESTRICTED, 1000, 1 << 38, True),
        (RESTRICTED, 1000, 1 << 20, False),
        ("RmProfilingAdminOnly: 0\n", 1000, 0, True),
        ("", 1000, 0, True),
    ],
)
def test_who_may_read_counters(parameters: str, uid: int, capabilities: int, allowed: bool) -> None:
    assert counters_allowed(parameters, uid, capabilities) is allowed


@pytest.mark.parametrize(
    ("text", "ncu", "status"),
    [
        (RESTRICTED, "/bin/ncu", "warn"),
        ("RmProfilingAdminOnly: 0\n", "/bin/ncu", "ok"),
        ("RmProfilingAdminOnly: 0\n", None, "warn"),
    ],
)
def test_profiler(text: str, ncu: str | None, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "params").write_text(text, encoding="ascii")
    monkeypatch.setattr(doctor, "DRIVER_PARAMETERS", tmp_path / "params")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr(doctor, "_capabilities", lambda: 0)
    monkeypatch.setattr("shutil.which", lambda name: ncu)
    found = doctor.profiler()
    assert found.status == status
    assert bool(found.remedy) == (status != "ok")


def test_cpu_build_beside_a_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(doctor, "DRIVER_VERSION", tmp_path)
    assert doctor.torch().status == "warn"
    assert "CUDA build" in doctor.torch().remedy


def test_a_library_that_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise ImportError("libcublas.so.13: cannot open shared object file")

    monkeypatch.setattr(doctor, "import_module", broken)
    found = doctor.cupy()
    assert found.status == "missing"
    assert "does not load: libcublas.so.13" in found.detail
    assert found.remedy


def test_vendor_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    from sparsity_roofline.kernels._cuda import versions

    monkeypatch.setattr(versions, "versions", lambda: {"cusparse": "12.6.3", "cusparselt": versions.MISSING + "why"})
    assert doctor.cusparse() == Finding("cuSPARSE", "ok", "12.6.3")
    assert doctor.cusparselt() == Finding("cuSPARSELt", "missing", "why")


def test_little_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(10**9, 10**9, 5 << 20))
    assert doctor.disk(tmp_path).status == "warn"
    assert doctor.disk(tmp_path).remedy


def test_ceilings() -> None:
    assert doctor.ceilings().status == "warn"
    assert doctor.ceilings().remedy == "sparsity-roofline hardware calibrate"


@pytest.mark.parametrize(("found", "status"), [("performance", "ok"), ("powersave", "warn"), ("not_supported", "ok")])
def test_governor(found: str, status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "host", lambda: {"governor": found})
    assert doctor.governor().status == status


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_the_meaning_of_numbers_names_what_to_doubt_here(device: Any) -> None:
    findings = [
        doctor.Finding("measured ceilings", "warn", "may be too low"),
        doctor.Finding("disk", "warn", "full"),
        doctor.Finding("MIG", "ok", "off"),
    ]
    (_, what), (heading, doubts) = meaning(device, findings)
    assert heading == "When not to trust them"
    assert doubts[-1] == "here: see measured ceilings above"
    assert not any(line.startswith("here") for _, lines in meaning(device) for line in lines)
    assert ("CUPTI" in what[0]) == (device == "cuda")
