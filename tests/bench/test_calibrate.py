"""Calibration with a fake timer (arithmetic of the rates, failures), keeping it, and one tiny real run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sparsity_roofline.bench import calibrate as module
from sparsity_roofline.bench import calibration_store as store
from sparsity_roofline.bench.calibrate import calibrate, measured_ceilings
from sparsity_roofline.bench.timing import flush
from sparsity_roofline.bench.timing.protocol import InvalidMeasurement, Regime, Samples, Stopping
from sparsity_roofline.kernels.protocol import YES, Support
from sparsity_roofline.model.ceilings import Ceilings
from sparsity_roofline.model.errors import UserError

ELEMENTS = 1 << 14
STREAM_BYTES = module.stream_bytes


@pytest.fixture(autouse=True)
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    monkeypatch.setenv("SPARSITY_ROOFLINE_HOME", str(home))
    monkeypatch.setattr(module, "stream_bytes", lambda device: 4 * ELEMENTS)
    monkeypatch.setattr(module, "host_state", lambda: {"load_1min": 0.0})
    monkeypatch.setitem(module.SHAPES, "cpu", ((16, 16, 16), (32, 16, 8)))
    return home


class FakeTimer:
    """Every call lasts 1 us at the least, 3 us in the median, and is really made once."""

    name = "fake"

    def __init__(self, refuse: Callable[[Regime], bool] = lambda regime: False, support: Support = YES) -> None:
        self.refuse, self.support, self.regimes = refuse, support, list[Regime]()

    def available(self) -> Support:
        return self.support

    def measure(self, call: Callable[[], None], regime: Regime, stopping: Stopping) -> Samples:
        assert stopping.minimum <= stopping.maximum
        if self.refuse(regime):
            raise InvalidMeasurement("records lost")
        call()
        self.regimes.append(regime)
        return Samples([3000.0, 1000.0, 5000.0], [5000.0] * 3, 1, "samples", sm_clock_mhz=1980.0)


def test_rates_are_work_over_the_best_sample() -> None:
    found = calibrate("cpu", timer=FakeTimer())
    size = 4 * ELEMENTS
    assert found.details["bandwidth"] == pytest.approx(
        {"copy": 2 * size / 1e-6, "read": size / 1e-6, "write": size / 1e-6}
    )
    assert found.dram_bandwidth == pytest.approx(2 * size / 1e-6)
    assert found.peaks == pytest.approx(
        dict.fromkeys(("fp32_flops", "fp64_flops", "bf16_flops", "fp16_flops"), 8192 / 1e-6)
    )
    assert set(found.details["rates"]["fp32"]) == {"16x16x16", "32x16x8"}
    assert found.launch_floor_s == pytest.approx(1e-6)
    assert (found.kind, found.sm_count, found.l2_bandwidth) == ("measured", None, None)
    assert found.details["sm_clock_mhz"] == [1980.0, 1980.0]
    assert found.details["threads"] == torch.get_num_threads()


def test_memory_and_products_are_taken_cold() -> None:
    timer = FakeTimer()
    calibrate("cpu", timer=timer)
    assert [r.l2 for r in timer.regimes].count("hot") == 1, "only the launch floor is hot"


def test_a_write_is_no_ceiling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_dram", lambda meter, device: {"copy": 2.0, "read": 3.0, "write": 9.0})
    assert calibrate("cpu", timer=FakeTimer()).dram_bandwidth == 3.0


def test_data_are_random_and_not_zero() -> None:
    for dtype in ("fp16", "bf16", "fp32", "fp64"):
        data = module._random((4096,), dtype, "cpu")
        assert data.float().std() > 0.3
        assert (data == 0).float().mean() < 0.01
        assert data.abs().max() <= 1


def test_a_figure_that_cannot_be_taken_is_left_out_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    real = torch.mm

    def no_half(w: torch.Tensor, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        if w.dtype == torch.float16:
            raise RuntimeError('"addmm_impl_cpu_" not implemented for Half\nstack')
        return real(w, x, out=out)

    monkeypatch.setattr(torch, "mm", no_half)
    found = calibrate("cpu", timer=FakeTimer())
    assert "fp16_flops" not in found.peaks
    assert found.details["skipped"]["fp16 16x16x16"] == '"addmm_impl_cpu_" not implemented for Half'
    with pytest.raises(UserError, match="no measured figure"):
        found.peak("fp16", "cpu")


def test_no_bandwidth_no_ceilings() -> None:
    with pytest.raises(UserError, match="no bandwidth measured") as caught:
        calibrate("cpu", timer=FakeTimer(refuse=lambda regime: regime.l2 != "hot"))
    assert caught.value.exit_code == 4


def test_no_launch_floor_is_none() -> None:
    assert calibrate("cpu", timer=FakeTimer(refuse=lambda regime: regime.l2 == "hot")).launch_floor_s is None


def test_no_timer() -> None:
    with pytest.raises(UserError, match=r"cannot calibrate .*: CUPTI is held") as caught:
        calibrate("cpu", timer=FakeTimer(support=Support("CUPTI is held")))
    assert caught.value.exit_code == 6


def test_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="no NVIDIA GPU"):
        calibrate("cuda")


def test_progress_tells_each_step() -> None:
    lines: list[str] = []
    calibrate("cpu", timer=FakeTimer(), progress=lines.append)
    assert len(lines) == module.ROUNDS["cpu"] * (1 + len(module.DTYPES["cpu"]))
    assert lines[0].endswith("memory (round 1 of 2)")


class Disturbed(FakeTimer):
    """Ten times slower for its first ``lost`` figures, as beside another process."""

    def __init__(self, lost: int) -> None:
        super().__init__()
        self.lost = lost

    def measure(self, *args: Any, **more: Any) -> Samples:
        samples = super().measure(*args, **more)
        if len(self.regimes) <= self.lost:
            samples.busy_ns = [10 * ns for ns in samples.busy_ns]
        return samples


def test_a_round_lost_to_another_process_costs_nothing() -> None:
    quiet = Disturbed(0)
    clean = calibrate("cpu", timer=quiet, keep=False)
    again = calibrate("cpu", timer=Disturbed(len(quiet.regimes) // 2), keep=False)
    assert again.peaks == clean.peaks
    assert again.dram_bandwidth == clean.dram_bandwidth


def test_a_busy_machine_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "host_state", lambda: {"load_1min": 1e3})
    lines: list[str] = []
    found = calibrate("cpu", timer=FakeTimer(), progress=lines.append)
    assert "busy (load 1000.0" in lines[0]
    assert found.details["load_before"] == 1e3


def test_ceilings_of_a_busy_machine_are_replaced_once_it_is_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    load = [1e3]
    monkeypatch.setattr(module, "host_state", lambda: {"load_1min": load[0]})
    monkeypatch.setattr(module, "timer_for", lambda device: FakeTimer())
    busy = calibrate("cpu", timer=Disturbed(10**6))
    assert "busy when they were measured (load 1000.0" in module.from_busy_machine(busy)
    lines: list[str] = []

    def found(replace: bool) -> Ceilings | None:
        return measured_ceilings("cpu", calibrate_if_missing=True, replace_busy=replace, progress=lines.append)

    assert found(True) == busy  # still busy: another calibration would be no better
    load[0] = 0.0
    assert found(False) == busy  # a run that has records keeps its ceilings
    assert lines == []
    quiet = found(True)
    assert quiet is not None
    assert quiet.peaks["fp32_flops"] > busy.peaks["fp32_flops"]
    assert module.from_busy_machine(quiet) == ""
    assert "replaced" in lines[0]
    assert found(True) == quiet
    assert measured_ceilings("cpu", calibrate_if_missing=False) == quiet


def test_a_calibration_is_kept_and_found(small: Path) -> None:
    assert measured_ceilings("cpu", calibrate_if_missing=False) is None
    made = calibrate("cpu", timer=FakeTimer())
    kept = measured_ceilings("cpu", calibrate_if_missing=False)
    assert kept == made
    assert kept is not None
    assert kept.details == made.details
    assert [p.suffix for p in small.iterdir()] == [".json"], "no part of a file is left behind"


def test_keep_is_a_choice(small: Path) -> None:
    calibrate("cpu", timer=FakeTimer(), keep=False)
    assert not small.exists()


def test_another_thread_count_or_torch_is_another_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    calibrate("cpu", timer=FakeTimer())
    with monkeypatch.context() as patch:
        patch.setattr(store, "threads", lambda: 1234)
        assert measured_ceilings("cpu", calibrate_if_missing=False) is None
    with monkeypatch.context() as patch:
        patch.setattr(store, "torch_version", lambda: "9.9")
        assert measured_ceilings("cpu", calibrate_if_missing=False) is None
    assert measured_ceilings("cpu", calibrate_if_missing=False) is not None


def spoil(text: str, how: str) -> bytes:
    data = json.loads(text)
    match how:
        case "truncated":
            return text[: len(text) // 2].encode()
        case "empty":
            return b""
        case "not text":
            return b"\xff\xfe\x00"
        case "another device":
            data["key"]["device"] = "0123456789ab"
        case "no ceilings":
            del data["ceilings"]
        case "impossible figure":
            data["ceilings"]["dram_bandwidth"] = -1
        case "unknown field":
            data["ceilings"]["colour"] = "red"
        case "data sheet":
            data["ceilings"]["kind"] = "datasheet"
        case "a list":
            data = [data]
    return json.dumps(data).encode()


@pytest.mark.parametrize(
    "how",
    [
        "truncated",
        "empty",
        "not text",
        "another device",
        "no ceilings",
        "impossible figure",
        "unknown field",
        "data sheet",
        "a list",
    ],
)
def test_a_spoilt_file_is_measured_anew_with_a_note(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = calibrate("cpu", timer=FakeTimer())
    file = store.path("cpu")
    file.write_bytes(spoil(file.read_text(encoding="utf-8"), how))
    assert measured_ceilings("cpu", calibrate_if_missing=False) is None
    monkeypatch.setattr(module, "timer_for", lambda device: FakeTimer())
    lines: list[str] = []
    again = measured_ceilings("cpu", calibrate_if_missing=True, progress=lines.append)
    assert "not usable" in lines[0]
    assert again == made
    assert measured_ceilings("cpu", calibrate_if_missing=False) == made


def test_a_folder_that_cannot_be_written_costs_the_keeping_only(small: Path) -> None:
    small.write_text("a file where the folder should be", encoding="utf-8")
    lines: list[str] = []
    assert isinstance(calibrate("cpu", timer=FakeTimer(), progress=lines.append), Ceilings)
    assert "cannot be kept" in lines[-1]


def test_the_arrays_are_far_larger_than_the_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=1 << 40))
    assert STREAM_BYTES("cpu") >= 4 * (flush.cpu_cache_bytes() or 0)
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=1 << 28))
    assert STREAM_BYTES("cpu") == 1 << 25


def test_a_real_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "stream_bytes", lambda device: 8 << 20)
    monkeypatch.setitem(module.SHAPES, "cpu", ((128, 128, 128),))
    monkeypatch.setitem(module.DTYPES, "cpu", ("fp32", "fp64"))
    found = calibrate("cpu", seconds=0.5)
    assert found.details["timer"] == "monotonic"
    assert 1e8 < found.dram_bandwidth < 1e13
    assert set(found.peaks) == {"fp32_flops", "fp64_flops"}
    assert all(1e7 < rate < 1e14 for rate in found.peaks.values())
    assert found.launch_floor_s is not None
    assert 1e-8 < found.launch_floor_s < 1e-3


@pytest.mark.gpu
def test_a_real_run_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "stream_bytes", STREAM_BYTES)
    monkeypatch.setitem(module.SHAPES, "cuda", ((2048, 2048, 2048),))
    found = calibrate("cuda", seconds=5.0)
    assert found.details["timer"] == "cupti-kineto"
    assert found.details["skipped"] == {}
    assert found.peaks["fp16_flops"] > found.peaks["fp32_flops"]
    assert found.l2_bandwidth is not None
    assert found.sm_count
