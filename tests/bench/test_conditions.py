"""Readings around a case, the columns they fill, and samples that may not stand."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sparsity_roofline.bench import rows
from sparsity_roofline.bench.conditions import Conditions, ranges, read_host, require_enough, watched
from sparsity_roofline.bench.timing import clocks, counters, nvml
from sparsity_roofline.bench.timing.protocol import InvalidMeasurement, Regime, Samples
from sparsity_roofline.model import hardware
from sparsity_roofline.model.case import Case
from sparsity_roofline.model.record import Record

from ._nvml import Err, FakeNvml


def samples(n: int = 20, clock: float | None = 1980.0, **more: Any) -> Samples:
    return Samples([5000.0] * n, [5000.0] * n, 1, "precise", sm_clock_mhz=clock, **more)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNvml]:
    """An H100 that this process alone computes on, by way of the same calls as in a run."""
    made = FakeNvml(pids=(os.getpid(),))
    monkeypatch.setattr(nvml, "device_uuid", lambda device=None: "GPU-1")
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(nvml, "_library", lambda: made)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    for kept in (counters.current_handle, counters.energy_meter):
        kept.cache_clear()
    counters.energy_meter(0).every_s = 0.001
    yield made
    for kept in (counters.current_handle, counters.energy_meter):
        kept.cache_clear()


def around(record: Record, work: Callable[[], Samples]) -> None:
    with rows.conditions(record, "cuda", Regime()) as seen:
        seen.samples = work()


def test_all_columns_of_an_undisturbed_case(fake: FakeNvml) -> None:
    def work() -> Samples:
        fake.gpu.fields |= {83: 5_090_000, 74: 95_000, 79: 9}
        fake.gpu.sm_clock, fake.gpu.temperature, fake.gpu.power_mw = 1965, 52, 655_000
        time.sleep(0.002)
        return samples(clocks_mhz=[1980.0, 1965.0])

    record = Record("ok")
    around(record, work)
    assert (record.clock_state, record.foreign_processes, record.discarded) == ("steady", 0, 0)
    assert (record.sm_clock_before_mhz, record.sm_clock_after_mhz) == (1980, 1965)
    assert (record.sm_clock_low_mhz, record.sm_clock_high_mhz) == (1965, 1980)
    assert (record.power_w, record.temperature_c, record.memory_clock_mhz) == (655.0, 52, 2619)
    assert (record.energy_mj, record.throttle_power_ns, record.throttle_thermal_ns) == (90_000, 25_000, 0)
    assert record.energy_s == pytest.approx(record.watched_s, rel=0.5)
    assert (record.throttle_reasons_before, record.throttle_reasons_after) == (0, 0)
    assert record.watched_s is not None
    assert 0 < record.watched_s < 5
    assert set(json.loads(record.unread or "{}")) <= {"cpu_governor", "load_before", "load_after"}


def test_every_column_is_one_of_the_record(fake: FakeNvml) -> None:
    seen = Conditions()
    with watched("cuda", seen):
        pass
    assert set(seen.columns()) <= {f.name for f in fields(Record)}


@pytest.mark.parametrize("code", [3, 4])
def test_what_cannot_be_read_is_none_and_a_word(fake: FakeNvml, code: int) -> None:
    fake.gpu.power_mw = fake.gpu.fields = fake.gpu.pids = Err(code)
    record = Record("ok")
    around(record, lambda: time.sleep(0.002) or samples())
    word = {3: "not_supported", 4: "no_permission"}[code]
    assert record.power_w is record.energy_mj is record.throttle_power_ns is record.foreign_processes is None
    said = json.loads(record.unread)
    assert {said[c] for c in ("power_w", "energy_mj", "throttle_power_ns", "foreign_processes")} == {word}
    assert record.temperature_c == 41
    assert record.clock_state == "steady", "the reasons are evidence still"


def test_without_nvml_the_run_goes_on(fake: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "_library", lambda: None)
    for kept in (counters.current_handle, counters.energy_meter):
        kept.cache_clear()
    record = Record("ok")
    around(record, partial(samples, clock=None))
    assert record.clock_state == "unknown"
    assert json.loads(record.unread)["sm_clock_before_mhz"] == "no_library"
    assert record.sm_clock_before_mhz is None


def test_throttling_is_a_label_and_drops_nothing(fake: FakeNvml) -> None:
    def work() -> Samples:
        fake.gpu.fields |= {74: 10**9}
        fake.gpu.sm_clock, fake.gpu.reasons = 1410, 0x4
        return samples(clock=1410.0)

    record = Record("ok")
    around(record, work)
    assert (record.clock_state, record.discarded) == ("throttled", 0)


@pytest.mark.parametrize("when", ["before", "during", "all along"])
def test_another_process_on_the_gpu_leaves_the_samples_out(fake: FakeNvml, when: str) -> None:
    alone, both = (os.getpid(),), (os.getpid(), 2**22 + 7)
    fake.gpu.pids = both if when != "during" else alone

    def work() -> Samples:
        fake.gpu.pids = alone if when == "before" else both
        return samples(40)

    record = Record("error", "not yet")
    with pytest.raises(InvalidMeasurement, match="40 of 40 samples left out: 1 other compute process on the GPU"):
        around(record, work)
    assert (record.foreign_processes, record.discarded) == (1, 40)


def test_our_own_parent_is_not_foreign(fake: FakeNvml) -> None:
    fake.gpu.pids = (os.getpid(), os.getppid())
    record = Record("ok")
    around(record, samples)
    assert record.foreign_processes == 0


def test_fixed_clocks_that_were_not_held_give_no_time(
    fake: FakeNvml, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARSITY_ROOFLINE_HOME", str(tmp_path))
    fixed = Regime(clocks="fixed")
    with pytest.raises(InvalidMeasurement, match="nobody holds"), rows.conditions(Record("ok"), "cuda", fixed) as seen:
        seen.samples = samples(clock=1410.0)
    with clocks.held("GPU-1", 1410, library=fake):
        with rows.conditions(Record("ok"), "cuda", fixed) as seen:
            seen.samples = samples(clock=1410.0)
        with (
            pytest.raises(InvalidMeasurement, match="locked at 1410 MHz and ran at 1305"),
            rows.conditions(Record("ok"), "cuda", fixed) as seen,
        ):
            seen.samples = samples(clock=1305.0)


def test_a_failure_inside_keeps_its_conditions_and_its_error(fake: FakeNvml) -> None:
    def work() -> Samples:
        fake.gpu.temperature = 77
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    record = Record("error", "not yet")
    with pytest.raises(RuntimeError, match="illegal memory access"):
        around(record, work)
    assert (record.temperature_c, record.clock_state) == (77, "unknown")


@pytest.mark.parametrize(("out", "stands"), [(0, True), (1, True), (2, False), (20, False)])
def test_more_than_a_twentieth_left_out_is_invalid(out: int, stands: bool) -> None:
    made = samples(20 - out, discarded=["lost records"] * out)
    if stands:
        require_enough(made)
    else:
        with pytest.raises(InvalidMeasurement, match=f"{out} of 20 samples left out: lost records"):
            require_enough(made)


def test_no_samples_at_all_and_none_left_out_is_the_timers_affair() -> None:
    require_enough(samples(0))


def test_on_a_cpu_the_host_is_read_and_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("asked NVML")

    monkeypatch.setattr(counters, "read", never)
    record = Record("ok")
    with rows.conditions(record, "cpu", Regime()) as seen:
        seen.samples = samples(clock=None)
    assert record.clock_state is None
    assert record.cpu_affinity == ranges(os.sched_getaffinity(0))
    assert record.load_before is not None
    assert record.load_after is not None


def test_ranges() -> None:
    assert ranges({0, 1, 2, 3, 8}) == "0-3,8"
    assert ranges({5}) == "5"
    assert ranges({2, 0}) == "0,2"
    assert ranges(set()) == ""


def test_governor(tmp_path: Path) -> None:
    file = tmp_path / "scaling_governor"
    assert read_host(file).governor == "not_supported"
    file.write_text("performance\n")
    assert read_host(file).governor == "performance"


def test_speed_of_light_at_the_clock_held() -> None:
    case = Case(
        collection="t", matrix="w", M=8192, K=8192, N=8192, pattern="dense", format="dense", dtype="fp16", nnz=8192**2
    )  # fmt: skip
    record = Record("ok", sm_clock_mhz=1410.0)
    rows.add_held(record, case, hardware.datasheet("h100"))
    # 2 * 8192^3 / 989.5e12 s at 1830 MHz, 1830 / 1410 of that at the clock held.
    assert record.sol_paper_held_ns == pytest.approx(2 * 8192**3 / 989.5e12 * 1e9 * 1830 / 1410, rel=2e-4)
    for without in (Record("ok"), SimpleNamespace(sm_clock_mhz=None, sol_paper_held_ns=None)):
        rows.add_held(without, case, hardware.datasheet("h100"))  # type: ignore[arg-type]
        assert without.sol_paper_held_ns is None
    rows.add_held(record := Record("ok", sm_clock_mhz=1410.0), case, None)
    assert record.sol_paper_held_ns is None
