"""Locking clocks on an NVML on paper; nothing here touches a device."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sparsity_roofline.bench import run
from sparsity_roofline.bench.timing import clocks, nvml
from sparsity_roofline.bench.timing.clocks import held, lock_of, require_held, restore_left_behind
from sparsity_roofline.bench.timing.monotonic import require_clocks_as_found
from sparsity_roofline.bench.timing.protocol import InvalidMeasurement, Regime
from sparsity_roofline.model.errors import UserError

from .._nvml import Err, FakeNvml

GPU = "GPU-1"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SPARSITY_ROOFLINE_HOME", str(tmp_path))
    monkeypatch.setattr(clocks, "VERIFY_SECONDS", 0.05)
    return tmp_path


@pytest.fixture
def exits(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], Any]]:
    """What is registered for the end of the process."""
    registered: list[Callable[[], Any]] = []
    monkeypatch.setattr(clocks.atexit, "register", registered.append)
    monkeypatch.setattr(clocks.atexit, "unregister", registered.remove)
    return registered


def notes(home: Path) -> list[Path]:
    return sorted(home.glob("clocks-*"))


def test_locked_verified_restored(home: Path, exits: list[Any]) -> None:
    fake = FakeNvml()
    with held(GPU, 1410, library=fake) as lock:
        assert fake.gpu.sm_clock == 1410
        assert fake.gpus["GPU-0"].sm_clock == 1980
        assert lock_of(GPU) == lock
        assert len(exits) == len(notes(home)) == 1
    assert fake.calls == [("lock", GPU, 1410, 1410), ("reset", GPU)]
    assert lock_of(GPU) is None
    assert exits == notes(home) == []


def test_three_quarters_of_the_highest_by_default() -> None:
    fake = FakeNvml()
    with held(GPU, library=fake) as lock:
        assert lock.mhz == 1485


@pytest.mark.parametrize("fault", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_restored_whatever_happens(home: Path, exits: list[Any], fault: type[BaseException]) -> None:
    fake = FakeNvml()
    with pytest.raises(fault), held(GPU, 1410, library=fake):
        raise fault
    assert fake.calls[-1] == ("reset", GPU)
    assert fake.gpu.sm_clock == 1980
    assert exits == notes(home) == []


def test_the_end_of_the_process_restores_once(exits: list[Any]) -> None:
    fake = FakeNvml()
    with held(GPU, 1410, library=fake):
        exits[0]()
        assert fake.gpu.sm_clock == 1980
    assert [c[0] for c in fake.calls] == ["lock", "reset"]


def test_a_fork_does_not_restore_its_parents_lock(exits: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeNvml()
    with held(GPU, 1410, library=fake):
        with monkeypatch.context() as child:
            child.setattr(os, "getpid", lambda: 2**22 + 1)
            exits[0]()
        assert fake.gpu.sm_clock == 1410


@pytest.mark.parametrize(("code", "words"), [(4, "run as root"), (3, "this device or driver cannot")])
def test_refused_without_a_trace(home: Path, exits: list[Any], code: int, words: str) -> None:
    fake = FakeNvml(lockable=Err(code))
    with pytest.raises(UserError, match=words) as caught, held(GPU, 1410, library=fake):
        pytest.fail("not held")
    assert caught.value.exit_code == 6
    assert exits == notes(home) == []


def test_a_clock_that_is_not_held_is_refused_and_restored(home: Path) -> None:
    """A lock is no promise at the power limit."""
    fake = FakeNvml(lock_gives=1755)
    with pytest.raises(UserError, match="does not hold 1980 MHz: its clock is 1755 MHz"), held(GPU, 1980, library=fake):
        pytest.fail("not held")
    assert fake.calls[-1] == ("reset", GPU)
    assert notes(home) == []


def test_a_clock_that_cannot_be_read_is_not_believed() -> None:
    fake = FakeNvml(sm_clock=Err(4))
    fake.nvmlDeviceSetGpuLockedClocks = lambda *a: None  # type: ignore[method-assign]
    fake.nvmlDeviceResetGpuLockedClocks = lambda *a: None  # type: ignore[method-assign]
    with pytest.raises(UserError, match="cannot be read"), held(GPU, 1410, library=fake):
        pytest.fail("not held")


def test_an_idle_device_may_rest_below_the_lock() -> None:
    fake = FakeNvml(lock_gives=345, reasons=0x1)
    with held(GPU, 1410, library=fake) as lock:
        with pytest.raises(InvalidMeasurement, match="locked at 1410 MHz and ran at 345 MHz"):
            require_held(lock, 345.0)
        require_held(lock, 1395.0)


def test_samples_of_fixed_clocks_need_the_lock_and_the_clock() -> None:
    with pytest.raises(InvalidMeasurement, match="nobody holds"):
        require_held(None, 1410.0)
    lock = clocks.Lock(GPU, 1410.0, 1, 0.0)
    with pytest.raises(InvalidMeasurement, match="cannot be read"):
        require_held(lock, None)
    require_held(lock, 1460.0)
    with pytest.raises(InvalidMeasurement):
        require_held(lock, 1461.0)


def test_one_run_at_a_time() -> None:
    fake = FakeNvml()
    with (
        held(GPU, 1410, library=fake),
        pytest.raises(UserError, match="another run"),
        held(GPU, 1500, library=fake),
    ):
        pytest.fail("held twice")
    assert [c[0] for c in fake.calls] == ["lock", "reset"], "the second attempt changed nothing"


def test_no_note_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SPARSITY_ROOFLINE_HOME", str(tmp_path / "file"))
    fake = FakeNvml()
    with pytest.raises(UserError, match="so none is made"), held(GPU, 1410, library=fake):
        pytest.fail("held")
    assert fake.calls == []


KILLED = """
import os, signal
from sparsity_roofline.bench import run
from sparsity_roofline.bench.timing import clocks, nvml
from sparsity_roofline.bench.timing.clocks import held
from tests.bench._nvml import FakeNvml
with held("GPU-1", 1410, library=FakeNvml()):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_later_start_restores_what_a_killed_run_left(home: Path) -> None:
    root = Path(__file__).parents[3]
    path = os.pathsep.join([str(root), str(root / "src")])
    ended = subprocess.run(
        [sys.executable, "-c", KILLED], env={**os.environ, "PYTHONPATH": path}, capture_output=True, timeout=60
    )
    assert ended.returncode == -9, ended.stderr.decode()
    assert len(notes(home)) == 1
    assert lock_of(GPU) is None, "a dead run holds nothing"
    fake = FakeNvml(sm_clock=1410)
    assert restore_left_behind(library=fake) == [
        "an earlier run was killed with the GPU's clock locked at 1410 MHz: restored"
    ]
    assert fake.calls == [("reset", GPU)]
    assert fake.gpu.sm_clock == 1980
    assert notes(home) == []
    assert restore_left_behind(library=fake) == []


def leave_behind(home: Path, **changes: Any) -> Path:
    note = clocks._note(GPU)
    note.write_text(json.dumps({"uuid": GPU, "mhz": 1410.0, "pid": 2**22 + 9, "started": 1.0, **changes}))
    return note


def test_what_cannot_be_restored_is_said_and_stays_noted(home: Path) -> None:
    note = leave_behind(home)
    (line,) = restore_left_behind(library=FakeNvml(lockable=Err(4)))
    assert "no_permission" in line
    assert "nvidia-smi --reset-gpu-clocks" in line
    assert note.exists()


def test_a_number_used_again_by_another_process_is_not_the_run(home: Path) -> None:
    leave_behind(home, pid=os.getpid(), started=1.0)
    assert len(restore_left_behind(library=FakeNvml())) == 1


def test_a_living_run_is_left_alone(home: Path) -> None:
    leave_behind(home, pid=os.getpid(), started=clocks._started(os.getpid()))
    fake = FakeNvml()
    assert restore_left_behind(library=fake) == []
    assert fake.calls == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"uuid": 1}'])
def test_a_torn_note_is_no_lock(home: Path, text: str) -> None:
    clocks._note(GPU).write_text(text)
    assert restore_left_behind(library=FakeNvml()) == []
    assert notes(home) == []


class TestRun:
    """The run's own process restores, locks and releases."""

    @pytest.fixture(autouse=True)
    def fake(self, monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
        made = FakeNvml()
        monkeypatch.setattr(nvml, "_library", lambda: made)
        monkeypatch.setattr(nvml, "device_uuid", lambda device=None: GPU)
        return made

    def test_as_found_changes_nothing(self, fake: FakeNvml) -> None:
        with run._clocks("cuda", fixed=False) as said:
            assert said == []
        assert fake.calls == []

    def test_fixed_holds_for_the_run(self, fake: FakeNvml) -> None:
        with run._clocks("cuda", fixed=True) as said:
            assert said == ["the SM clock is locked at 1485 MHz until the run ends"]
            assert fake.gpu.sm_clock == 1485
            require_clocks_as_found(Regime(clocks="fixed"), "cupti-kineto")
            with pytest.raises(UserError, match="not fixed"):
                require_clocks_as_found(Regime(clocks="fixed"), "monotonic")
            with pytest.raises(UserError, match="not sustained"):
                require_clocks_as_found(Regime(clocks="sustained"), "cupti-kineto")
        with pytest.raises(UserError, match="not fixed"):
            require_clocks_as_found(Regime(clocks="fixed"), "cupti-kineto")
        assert fake.gpu.sm_clock == 1980

    def test_what_was_left_is_restored_first(self, home: Path, fake: FakeNvml) -> None:
        leave_behind(home)
        with run._clocks("cuda", fixed=False) as said:
            assert "restored" in said[0]

    def test_a_cpu_run_asks_nothing(self, home: Path, fake: FakeNvml) -> None:
        leave_behind(home)
        with run._clocks("cpu", fixed=True) as said:
            assert said == []
        assert fake.calls == []


def test_a_gpu_that_is_gone_is_said(home: Path) -> None:
    leave_behind(home, uuid="GPU-9")
    clocks._note(GPU).rename(clocks._note("GPU-9"))
    (line,) = restore_left_behind(library=FakeNvml())
    assert "cannot be restored" in line
