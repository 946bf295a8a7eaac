"""NVML probes against a fake library: a value or a word, never an exception, never a zero."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from sparsity_roofline.bench.timing import nvml


class FakeError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(value)
        self.value = value


def library(**functions: Callable[..., Any]) -> SimpleNamespace:
    return SimpleNamespace(NVMLError=FakeError, NVML_ERROR_NO_PERMISSION=4, NVML_CLOCK_SM=1, **functions)


def fails(code: int) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        raise FakeError(code)

    return call


def test_a_value_comes_through_decoded() -> None:
    fake = library(nvmlSystemGetDriverVersion=lambda: b"580.159.04")
    assert nvml.probe(lambda n: n.nvmlSystemGetDriverVersion(), library=fake) == "580.159.04"


@pytest.mark.parametrize(("code", "word"), [(4, "no_permission"), (3, "not_supported"), (999, "not_supported")])
def test_errors_become_words(code: int, word: str) -> None:
    fake = library(nvmlDeviceGetEccMode=fails(code))
    found = nvml.probe(lambda n: n.nvmlDeviceGetEccMode(0), library=fake)
    assert found == word
    assert not nvml.known(found)


def test_a_call_the_binding_does_not_have() -> None:
    assert nvml.probe(lambda n: n.nvmlDeviceGetTemperatureV(0), library=library()) == "not_supported"


def test_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "_library", lambda: None)
    assert nvml.probe(lambda n: 1) == "no_library"
    assert nvml.sm_clock_mhz(nvml.handle("abc")) is None


def test_zero_is_a_value() -> None:
    assert nvml.probe(lambda n: 0, library=library()) == 0
    assert nvml.known(0)


@pytest.mark.parametrize("uuid", ["9f3c", "GPU-9f3c"])
def test_the_device_is_found_by_uuid_not_by_index(uuid: str) -> None:
    """A monitor once watched GPU 0 while the job ran on GPU 4 (nsight-python#35)."""
    clocks = {"GPU-1111": 345, "GPU-9f3c": 1980}
    fake = library(
        nvmlDeviceGetHandleByUUID=lambda text: text,
        nvmlDeviceGetHandleByIndex=fails(999),
        nvmlDeviceGetClockInfo=lambda handle, clock: clocks[handle],
    )
    assert nvml.sm_clock_mhz(nvml.handle(uuid, library=fake), library=fake) == 1980.0


def test_a_clock_that_cannot_be_read_is_none() -> None:
    fake = library(nvmlDeviceGetClockInfo=fails(4))
    assert nvml.sm_clock_mhz("handle", library=fake) is None
