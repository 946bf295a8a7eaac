"""An NVML that exists on paper: one table of answers, which tests change as a GPU would."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


class FakeError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(value)
        self.value = value


class Handle:
    """NVML's handles are ctypes pointers: equal to themselves, without a hash."""

    def __init__(self, uuid: str) -> None:
        self.uuid = uuid

    def __eq__(self, other: object) -> bool:
        return self.uuid == (other.uuid if isinstance(other, Handle) else other)

    __hash__ = None  # type: ignore[assignment]


class FakeNvml:
    """Answers like the binding; an answer that is an error code (an ``Err``) is raised.

    Attributes:
        gpus: UUID -> what is read there.
    """

    NVMLError = FakeError
    NVML_ERROR_NO_PERMISSION = 4
    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0

    def __init__(self, driver: str = "580.95.05", **changes: Any) -> None:
        self.driver = driver
        self.gpus = {"GPU-0": gpu(), "GPU-1": gpu(**changes)}
        self.calls: list[tuple[Any, ...]] = []

    @property
    def gpu(self) -> SimpleNamespace:
        """The device under test: deliberately not NVML's first."""
        return self.gpus["GPU-1"]

    def _answer(self, handle: Handle, name: str) -> Any:
        value = getattr(self.gpus[handle.uuid], name)
        if isinstance(value, Err):
            raise FakeError(value.code)
        return value

    def nvmlSystemGetDriverVersion(self) -> str:
        return self.driver

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> Handle:
        if uuid not in self.gpus:
            raise FakeError(6)
        return Handle(uuid)

    def nvmlDeviceGetClockInfo(self, handle: Handle, kind: int) -> int:
        return int(self._answer(handle, "sm_clock" if kind == 1 else "memory_clock"))

    def nvmlDeviceGetMaxClockInfo(self, handle: Handle, kind: int) -> int:
        return int(self._answer(handle, "max_clock"))

    def nvmlDeviceGetPowerUsage(self, handle: Handle) -> int:
        return int(self._answer(handle, "power_mw"))

    def nvmlDeviceGetTemperature(self, handle: Handle, sensor: int) -> int:
        return int(self._answer(handle, "temperature"))

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: Handle) -> int:
        return int(self._answer(handle, "reasons"))

    def nvmlDeviceGetComputeRunningProcesses(self, handle: Handle) -> list[SimpleNamespace]:
        return [SimpleNamespace(pid=p) for p in self._answer(handle, "pids")]

    def nvmlDeviceGetFieldValues(self, handle: Handle, ids: list[int]) -> list[SimpleNamespace]:
        table = self._answer(handle, "fields")
        out = []
        for number in ids:
            found = table.get(number, Err(3))
            code = found.code if isinstance(found, Err) else 0
            held = SimpleNamespace(ullVal=0 if code else found)
            out.append(SimpleNamespace(fieldId=number, nvmlReturn=code, valueType=3, value=held))
        return out

    def nvmlDeviceGetSupportedGraphicsClocks(self, handle: Handle, memory_mhz: int) -> list[int]:
        return list(self._answer(handle, "supported"))

    def nvmlDeviceSetGpuLockedClocks(self, handle: Handle, low: int, high: int) -> None:
        self.calls.append(("lock", handle, low, high))
        self._answer(handle, "lockable")
        self.gpus[handle.uuid].sm_clock = self.gpus[handle.uuid].lock_gives or high

    def nvmlDeviceResetGpuLockedClocks(self, handle: Handle) -> None:
        self.calls.append(("reset", handle))
        self._answer(handle, "lockable")
        self.gpus[handle.uuid].sm_clock = 1980


class Err:
    """An NVML error code in place of an answer."""

    def __init__(self, code: int) -> None:
        self.code = code


def gpu(**changes: Any) -> SimpleNamespace:
    """An H100 at its highest clock, nobody else on it; ``fields`` are cumulative counters by NVML's number."""
    answers: dict[str, Any] = {
        "sm_clock": 1980, "memory_clock": 2619, "max_clock": 1980, "power_mw": 412_500, "temperature": 41,
        "reasons": 0, "pids": (), "supported": list(range(1980, 330, -15)), "lockable": True, "lock_gives": None,
        "fields": {83: 5_000_000, 74: 70_000, 75: 0, 77: 0, 79: 9, 269: 0, 270: 0, 271: 0},
    }  # fmt: skip
    return SimpleNamespace(**{**answers, **changes})
