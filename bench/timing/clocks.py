"""Holding a GPU's SM clock for the regime ``fixed``: lock, verify, and restore whatever happens.

This is the one place that changes a setting of a device, only when a run asks for ``fixed`` and the driver permits it
(NVML wants root for it). Three nets make sure that the lock does not outlive the run: the context manager's
``finally``, ``atexit``, and a note under ``$SPARSITY_ROOFLINE_HOME`` written before the lock, by which a later start
notices what a killed run left (``restore_left_behind``). NVML has no way to ask for an earlier lock of someone else;
restoring therefore means no lock, and a machine whose clocks an administrator has locked is measured ``as-found``.

The memory clock is left alone: data-centre parts hold it under load, and every record carries it.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from sparsity_roofline.bench.timing import nvml
from sparsity_roofline.bench.timing.counters import IDLE
from sparsity_roofline.bench.timing.nvml import known, probe
from sparsity_roofline.bench.timing.protocol import InvalidMeasurement
from sparsity_roofline.model.errors import UserError

WITHIN_MHZ = 50.0
VERIFY_SECONDS = 3.0
DEFAULT_SHARE = 0.75
"""Share of the highest clock that ``fixed`` holds where no clock is named: low enough to hold at the power limit."""

_WORDS = {
    "no_permission": "the driver does not permit it: run as root, or measure with clocks as-found",
    "not_supported": "this device or driver cannot: measure with clocks as-found",
    "no_library": "NVML is missing: pip install nvidia-ml-py, or measure with clocks as-found",
}


@dataclass(frozen=True)
class Lock:
    """A lock that is held, as its note says it.

    Attributes:
        uuid: of the GPU.
        mhz: SM clock asked for.
        pid, started: process that holds it, and when that started (numbers are used again).
    """

    uuid: str
    mhz: float
    pid: int
    started: float | None


def default_mhz(device_handle: Any, *, library: Any | None = None) -> float:
    """The supported clock nearest to three quarters of the highest.

    Raises:
        UserError: the device does not say which clocks it supports.
    """
    highest: Any = probe(lambda n: n.nvmlDeviceGetMaxClockInfo(device_handle, n.NVML_CLOCK_SM), library=library)
    memory: Any = probe(lambda n: n.nvmlDeviceGetClockInfo(device_handle, n.NVML_CLOCK_MEM), library=library)
    supported: Any = probe(lambda n: n.nvmlDeviceGetSupportedGraphicsClocks(device_handle, memory), library=library)
    for answer in (highest, memory, supported):
        if not known(answer):
            raise _refused("cannot choose a clock to hold", answer)
    if not supported:
        raise _refused("cannot choose a clock to hold", "not_supported")
    return float(min(supported, key=lambda mhz: abs(mhz - DEFAULT_SHARE * highest)))


@contextmanager
def held(uuid: str, mhz: float | None = None, *, library: Any | None = None) -> Iterator[Lock]:
    """Hold the SM clock of a GPU for the block.

    Args:
        uuid: of the device, as NVML spells it.
        mhz: the clock; by default see ``default_mhz``.
        library: stands in for NVML in tests.

    Raises:
        UserError: another run holds the clock, it cannot be locked, or the device does not hold it; exit code 6. The
            clock is restored before the error.
    """
    device = nvml.handle(uuid, library=library)
    if not known(device):
        raise _refused("cannot find the GPU to lock its clock", device)
    other = _read_note(_note(uuid))
    if other is not None and _alive(other):
        raise UserError(f"another run (process {other.pid}) holds this GPU's clock: wait for it to end", exit_code=6)
    target = default_mhz(device, library=library) if mhz is None else float(mhz)
    lock = Lock(uuid, target, os.getpid(), _started(os.getpid()))
    net = _Restore(lock, device, library)
    _write_note(lock)  # before the lock: a kill in between leaves a note too many, not one too few
    atexit.register(net)
    try:
        answer = probe(lambda n: n.nvmlDeviceSetGpuLockedClocks(device, round(target), round(target)), library=library)
        if answer is not None:
            net.made = False
            raise _refused(f"cannot hold the clock at {target:.0f} MHz", answer)
        _verify(device, target, library)
        yield lock
    finally:
        net()
        atexit.unregister(net)


def require_held(lock: Lock | None, clock_mhz: float | None) -> None:
    """Samples of the regime ``fixed`` stand only if the clock read under load is the one that was locked.

    Raises:
        InvalidMeasurement: no lock, no reading, or another clock; a power limit overrules a lock.
    """
    if lock is None:
        raise InvalidMeasurement("clocks were asked to be fixed and nobody holds them")
    if clock_mhz is None:
        raise InvalidMeasurement(f"the clock is locked at {lock.mhz:.0f} MHz and cannot be read to show it")
    if abs(clock_mhz - lock.mhz) > WITHIN_MHZ:
        raise InvalidMeasurement(f"the clock was locked at {lock.mhz:.0f} MHz and ran at {clock_mhz:.0f} MHz")


def lock_of(uuid: str) -> Lock | None:
    """The lock that a living run holds on a GPU, or None."""
    lock = _read_note(_note(uuid))
    return lock if lock is not None and _alive(lock) else None


def restore_left_behind(*, library: Any | None = None) -> list[str]:
    """Undo the locks of runs that were killed; a line about each, empty if there was none. Cheap when there is none."""
    said = []
    for note in sorted(_folder().glob("clocks-*.json")):
        lock = _read_note(note)
        if lock is None:  # torn, from a kill while it was written: there was no lock yet
            note.unlink(missing_ok=True)
            continue
        if _alive(lock):
            continue
        device = nvml.handle(lock.uuid, library=library)
        answer = device
        if known(device):
            answer = probe(lambda n, d=device: n.nvmlDeviceResetGpuLockedClocks(d), library=library)  # type: ignore[misc]
        if answer is None:
            note.unlink(missing_ok=True)
            said.append(f"an earlier run was killed with the GPU's clock locked at {lock.mhz:.0f} MHz: restored")
        else:
            said.append(
                f"an earlier run left a GPU's clock locked at {lock.mhz:.0f} MHz and it cannot be restored ({answer}): "
                "run nvidia-smi --reset-gpu-clocks as root"
            )
    return said


class _Restore:
    """Resets the lock once, whichever net calls first, and only in the process that made it (not in a fork of it)."""

    def __init__(self, lock: Lock, device: Any, library: Any | None) -> None:
        self._lock, self._device, self._library = lock, device, library
        self._done = False
        self.made = True  # until the driver has said no: an interrupt may come while it is being asked

    def __call__(self) -> None:
        if self._done or os.getpid() != self._lock.pid:
            return
        answer = None
        if self.made:
            answer = probe(lambda n: n.nvmlDeviceResetGpuLockedClocks(self._device), library=self._library)
        if answer is None:  # else the note stays, for a later start that is permitted to
            _note(self._lock.uuid).unlink(missing_ok=True)
            self._done = True


def _verify(device: Any, target: float, library: Any | None) -> None:
    """Wait until the clock is the one asked for, at most a few seconds.

    An idle device may rest below it; then the readings under load decide, case by case (``require_held``).
    """
    end = monotonic() + VERIFY_SECONDS
    while True:
        clock = nvml.sm_clock_mhz(device, library=library)
        if clock is not None and abs(clock - target) <= WITHIN_MHZ:
            return
        if monotonic() >= end:
            break
        sleep(0.02)
    reasons: Any = probe(lambda n: int(n.nvmlDeviceGetCurrentClocksEventReasons(device)), library=library)
    if clock is not None and clock < target and known(reasons) and reasons & IDLE:
        return
    seen = "cannot be read" if clock is None else f"is {clock:.0f} MHz"
    raise UserError(
        f"the GPU does not hold {target:.0f} MHz: its clock {seen} {VERIFY_SECONDS:.0f} s after the lock; "
        "choose a lower clock, or measure with clocks as-found",
        exit_code=6,
    )


def _refused(what: str, why: str) -> UserError:
    return UserError(f"{what}: {_WORDS.get(why, why)}", exit_code=6)


def _folder() -> Path:
    from sparsity_roofline.model.home import cache_home

    return cache_home()


def _note(uuid: str) -> Path:
    return _folder() / f"clocks-{hashlib.sha256(uuid.encode()).hexdigest()[:12]}.json"


def _write_note(lock: Lock) -> None:
    note = _note(lock.uuid)
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        temporary = note.with_suffix(f".{lock.pid}.tmp")
        temporary.write_text(json.dumps(asdict(lock)), encoding="utf-8")
        os.replace(temporary, note)
    except OSError as error:
        raise UserError(
            f"cannot note the clock lock in {note.parent} ({error.strerror or error}), so none is made: "
            "set SPARSITY_ROOFLINE_HOME to a folder that can be written",
            exit_code=6,
        ) from error


def _read_note(note: Path) -> Lock | None:
    try:
        return Lock(**json.loads(note.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _alive(lock: Lock) -> bool:
    return lock.started is not None and _started(lock.pid) == lock.started


def _started(pid: int) -> float | None:
    """When a process started, or None if there is no such process."""
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.Error:
        return None
