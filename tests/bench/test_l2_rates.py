"""What L2 hands over, takes and holds back: the arithmetic with a fake meter, the device code in the interpreter."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsity_roofline.bench import l2_rates

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20


def test_a_copy_that_is_too_quick_left_writes_in_l2() -> None:
    # 64 MiB in 40.2 us at 3.07 TB/s, floor 1.1 us: 2 (134.2 MB - 120.0 MB) = 28.3 MB
    assert l2_rates.held_bytes(64 * MIB, 40.2e-6, 3.07e12, 1.1e-6) == pytest.approx(28.4e6, rel=0.01)


@given(st.floats(1e6, 1e9), st.floats(1e-6, 1e-2), st.floats(1e11, 1e13))
def test_it_holds_between_nothing_and_all_of_the_writes(size: float, seconds: float, bandwidth: float) -> None:
    assert 0.0 <= l2_rates.held_bytes(size, seconds, bandwidth, 1e-6) <= size


def test_rates_from_times_of_known_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times of a device that takes 4 TB/s, copies at 3 TB/s and holds 30 MB back."""
    import torch

    monkeypatch.setattr(torch, "empty", lambda n, **more: torch.zeros(1).expand(n))
    monkeypatch.setattr(torch, "rand", lambda n, **more: torch.zeros(1).expand(n))
    monkeypatch.setattr(torch, "empty_like", lambda other: other)
    floor = 1e-6

    def best(name: str, calls: Iterable[Callable[[], object]], work: float, l2: str = "cold-clean") -> float:
        if name.startswith("L2 write"):
            return work / (floor + work / 4e12)
        held = 30e6 / 2 if work > 40 * MIB else 0.0
        return work / (floor + (2 * work - held) / 3e12)

    found = l2_rates.write_rates(best, 50 * MIB, floor)
    assert found["write"] == pytest.approx(4e12, rel=1e-3)
    assert found["held"] == pytest.approx(30e6, rel=0.01)


def test_what_cannot_be_timed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch, "empty", lambda n, **more: torch.zeros(1).expand(n))
    monkeypatch.setattr(torch, "rand", lambda n, **more: torch.zeros(1).expand(n))
    monkeypatch.setattr(torch, "empty_like", lambda other: other)
    assert l2_rates.write_rates(lambda *args: None, 50 * MIB, 1e-6) == {}
    assert l2_rates.write_rates(lambda *args: 1e12, 0, 1e-6) == {}


def test_programs_walk_the_buffer_from_their_own_place() -> None:
    """In Triton's interpreter, in a process of its own: it is chosen before Triton is first imported."""
    code = """
import torch
from sparsity_roofline.bench._triton_l2 import walk
source = torch.randint(-1000, 1000, (64 * 16,), dtype=torch.int32)
for share in (1, 2):
    out = torch.empty(4 * 16, dtype=torch.int32)
    walk[(4,)](source, out, 64, 40, SHARE=share, BLOCK=16, num_warps=1)
    for program in range(4):
        start = program // share * 64 // (4 // share)
        tiles = [(start + turn) % 64 for turn in range(40)]
        assert (source.view(64, 16)[tiles].sum(0) == out.view(4, 16)[program]).all(), (share, program)
print("walked")
"""
    pytest.importorskip("triton")
    environment = {"TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/bin:/bin", "HOME": "/tmp"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.stdout.strip() == "walked", done.stderr


@pytest.mark.gpu
def test_shared_lines_come_faster_on_a_gpu() -> None:
    import torch

    from sparsity_roofline.bench.calibrate import _Meter
    from sparsity_roofline.bench.timing import timer_for

    properties = torch.cuda.get_device_properties(0)
    meter = _Meter(timer_for("cuda"), 0.4)
    found = l2_rates.read_rates(meter.best, properties.multi_processor_count, properties.L2_cache_size)
    assert found["shared"] > found["unshared"] > 1e12
