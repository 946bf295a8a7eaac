"""The environment: what it says, what it must not say, and what its hash depends on."""

from __future__ import annotations

import copy
import getpass
import json
import platform
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sparsity_roofline.bench import environment as env
from sparsity_roofline.bench.timing import nvml
from sparsity_roofline.model.errors import UserError

UUID = "9f3c2a10-0000-1111-2222-333344445555"


class FakeError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(value)
        self.value = value


def fake_nvml(**changes: Any) -> SimpleNamespace:
    def denied(*arguments: Any) -> Any:
        raise FakeError(4)

    def unsupported(*arguments: Any) -> Any:
        raise FakeError(3)

    functions: dict[str, Any] = {
        "nvmlDeviceGetHandleByUUID": lambda uuid: f"handle of {uuid}",
        "nvmlDeviceGetEnforcedPowerLimit": lambda h: 700_000,
        "nvmlDeviceGetPowerManagementDefaultLimit": denied,
        "nvmlDeviceGetMaxClockInfo": lambda h, clock: {1: 1980, 2: 2619}[clock],
        "nvmlDeviceGetClockInfo": lambda h, clock: {1: 1755, 2: 2619}[clock],
        "nvmlDeviceGetMigMode": unsupported,
        "nvmlDeviceGetEccMode": lambda h: [1, 1],
        "nvmlDeviceGetPersistenceMode": lambda h: 0,
        "nvmlDeviceGetVbiosVersion": lambda h: b"96.00.61",
        "nvmlSystemGetDriverVersion": lambda: "580.159.04",
        "nvmlDeviceGetPowerUsage": lambda h: 120_000,
        "nvmlDeviceGetTemperature": lambda h, sensor: 0,
        "nvmlDeviceGetCurrentClocksEventReasons": lambda h: 4,
        "nvmlDeviceGetComputeRunningProcesses": lambda h: [
            SimpleNamespace(pid=1),
            SimpleNamespace(pid=env.os.getpid()),
        ],
        **changes,
    }
    constants = {"NVML_ERROR_NO_PERMISSION": 4, "NVML_CLOCK_SM": 1, "NVML_CLOCK_MEM": 2, "NVML_TEMPERATURE_GPU": 0}
    return SimpleNamespace(NVMLError=FakeError, **constants, **functions)


@pytest.fixture
def fake_gpu(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    properties = SimpleNamespace(
        name="NVIDIA H100 80GB HBM3", uuid=UUID, major=9, minor=0, total_memory=85_000_000_000,
        L2_cache_size=52_428_800, multi_processor_count=132,
    )  # fmt: skip
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: properties.name)
    monkeypatch.setattr(env, "cuda_libraries", lambda: {"cusparse": "12.6.3"})
    library = fake_nvml()
    monkeypatch.setattr(nvml, "_library", lambda: library)
    return library


def values(tree: Any) -> list[Any]:
    if isinstance(tree, dict):
        return [v for branch in tree.values() for v in values(branch)]
    return [tree]


def test_cpu_environment_is_json_and_complete() -> None:
    found = env.environment("cpu")
    assert json.loads(json.dumps(found)) == found
    assert found["device"]["kind"] == "cpu"
    assert found["device"]["name"] == env.device_name("cpu") != ""
    assert found["host"]["threads"] == torch.get_num_threads()
    assert found["software"]["torch"] == torch.__version__
    assert found["software"]["python"] == platform.python_version()
    assert None not in values(found)


def test_nothing_names_the_machine_or_its_user() -> None:
    text = json.dumps(env.environment("cpu"))
    for secret in {platform.node(), str(Path.home()), str(Path.cwd())}:
        assert len(secret) < 3 or secret not in text
    assert not re.search(rf'"{re.escape(getpass.getuser())}"', text)
    assert not re.search(r'"(?:/|~/)[A-Za-z][^"]*"', text), "a path"


def test_gpu_environment(fake_gpu: SimpleNamespace) -> None:
    found = env.environment("cuda")
    device = found["device"]
    assert device["compute_capability"] == "9.0"
    assert device["l2_bytes"] == 52_428_800
    assert device["power_limit_w"] == 700.0
    assert device["power_limit_default_w"] == "no_permission"
    assert device["mig"] == "not_supported"
    assert (device["ecc"], device["persistence"]) == ("on", "off")
    assert device["vbios"] == "96.00.61"
    assert device["driver"] == "580.159.04"
    assert found["state"]["temperature_c"] == 0, "a zero that was read is a value"
    assert found["state"]["other_processes"] == 1, "this process is not another one"
    assert found["software"]["libraries"] == {"cusparse": "12.6.3"}


def test_the_uuid_is_hashed(fake_gpu: SimpleNamespace) -> None:
    found = env.environment("cuda")
    assert re.fullmatch(r"[0-9a-f]{12}", found["device"]["uuid_hash"])
    assert found["device"]["uuid_hash"] == env.device_hash("cuda")
    assert UUID not in json.dumps(found)
    assert "9f3c2a10" not in json.dumps(found)


def test_without_nvml_the_rest_stands(fake_gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "_library", lambda: None)
    device = env.environment("cuda")["device"]
    assert device["sm_count"] == 132
    assert {device[name] for name in ("power_limit_w", "mig", "ecc", "driver")} == {"no_library"}


def test_hash_is_stable_over_what_changes_by_the_second(fake_gpu: SimpleNamespace) -> None:
    found = env.environment("cuda")
    later = copy.deepcopy(found)
    later["state"] = {"sm_clock_mhz": 210, "temperature_c": 71}
    assert env.environment_hash(later) == env.environment_hash(found)
    reordered = {name: found[name] for name in reversed(found)}
    assert env.environment_hash(reordered) == env.environment_hash(found)
    assert env.environment_hash(json.loads(json.dumps(found))) == env.environment_hash(found)


@pytest.mark.parametrize(
    ("section", "name"), [("device", "power_limit_w"), ("software", "torch"), ("source", "commit"), ("host", "threads")]
)
def test_hash_depends_on_what_matters(section: str, name: str) -> None:
    found = env.environment("cpu")
    changed = copy.deepcopy(found)
    changed[section][name] = "something else"
    assert env.environment_hash(changed) != env.environment_hash(found)


def git(root: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(root), *identity, *arguments], check=True, capture_output=True)


def test_source_of_a_checkout(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "file").write_text("one", encoding="utf-8")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-qm", "first", "--no-verify")
    found = env.source(tmp_path)
    assert re.fullmatch(r"[0-9a-f]{40}", found["commit"])
    assert found["dirty"] is False
    (tmp_path / "file").write_text("two", encoding="utf-8")
    assert env.source(tmp_path) == {"commit": found["commit"], "dirty": True}


def test_source_of_an_installed_package_inside_somebody_elses_checkout(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    installed = tmp_path / "venv" / "sparsity_roofline"
    installed.mkdir(parents=True)
    assert env.source(installed) == {"commit": "not_supported", "dirty": "not_supported"}


def test_source_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".git").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert env.source(tmp_path) == {"commit": "no_library", "dirty": "no_library"}


def test_source_of_a_broken_checkout(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    assert env.source(tmp_path) == {"commit": "not_supported", "dirty": "not_supported"}


def test_device_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert env.pick_device() == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert env.pick_device() == "cpu"
    for ask in (env.device_name, env.device_hash, env.environment):
        with pytest.raises(UserError, match="no NVIDIA GPU") as caught:
            ask("cuda")
        assert caught.value.exit_code == 6
        with pytest.raises(UserError, match="choose cuda or cpu"):
            ask("tpu")  # type: ignore[arg-type]


@pytest.mark.gpu
def test_real_gpu_environment() -> None:
    found = env.environment("cuda")
    assert json.loads(json.dumps(found)) == found
    assert found["device"]["name"] == env.device_name("cuda")
    assert found["device"]["sm_count"] > 0
    assert str(torch.cuda.get_device_properties(0).uuid) not in json.dumps(found)
