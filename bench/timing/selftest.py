"""Proof on the device that the regimes are what they are called: cold is cold, clean is clean, empty is empty.

Judged by time, not by counters, which need rights that few have. Each check says what it saw, so that a verdict can be
disputed.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from sparsity_roofline.bench.timing import flush, timer_for
from sparsity_roofline.bench.timing.protocol import InvalidMeasurement, L2State, Regime, Stopping, Timer

Verdict = Literal["ok", "failed", "unknown"]

MIB = 1 << 20
READ_BYTES = 16 * MIB
STREAM_BYTES = 1024 * MIB
BOUND_BYTES = 128 * MIB
CPU_READ_BYTES = 64 << 10
"""Fits any second-level cache, and torch reads it with one thread: waiting for others would hide the difference."""
ROW = 1024  # elements that one row of the reading kernel sums up

COLD_ABOVE_DRAM = 1.10
"""A cold read may seem this much faster than the long read that stands for DRAM: both are measured."""
HOT_ABOVE_COLD = 1.25
"""Rates of a hot and a cold read of one buffer. An L2 gives about twice what DRAM does; a 16 MiB read is short, and
the constant part of a kernel's time brings the two closer together."""
DIRTY_ABOVE_CLEAN = 1.03
"""Times after a writing and after a reading flush. Up to 1.28 was seen for memory-bound products on an H100."""
CPU_COLD_ABOVE_HOT = 1.2
QUICK = Stopping(minimum=20, maximum=60, seconds=1.0)


@dataclass(frozen=True)
class Check:
    """One thing that was shown, or was not.

    Attributes:
        name: what.
        verdict: ``unknown`` where this machine cannot show it; only ``failed`` speaks against measuring here.
        detail: figures in words.
        figures: the same as numbers; times in ns, rates in bytes per second.
    """

    name: str
    verdict: Verdict
    detail: str
    figures: dict[str, float] = field(default_factory=dict)


def selftest(device: str, *, timer: Timer | None = None) -> list[Check]:
    """All checks of a device, with its default timer unless another one that flushes is given.

    A check that cannot be made because the timer gives no time has failed. Takes a few seconds, 1.3 GB of GPU memory.
    """
    timer = timer or timer_for(device)
    support = timer.available()
    if not support:
        return [Check("timer", "failed", f"{timer.name}: {support.reason}")]
    if device == "cpu":
        return [_size(None), _checked("cold reads", lambda: _cpu_reads(timer))]
    import torch

    where = torch.cuda.current_device()
    return [
        _size(where),
        _persisting(),
        _checked("empty call", lambda: _empty(timer)),
        *_several(("cold reads", "hot reads"), lambda: _gpu_reads(timer)),
        _checked("clean flush", lambda: _dirty(timer)),
        _checked("cold rotation", _rotation),
    ]


def passed(checks: Sequence[Check]) -> bool:
    """Nothing failed."""
    return all(check.verdict != "failed" for check in checks)


def _checked(name: str, look: Callable[[], Check]) -> Check:
    return _several((name,), lambda: [look()])[0]


def _several(names: Sequence[str], look: Callable[[], list[Check]]) -> list[Check]:
    """The checks, or why there are none: no time, or no memory."""
    try:
        return look()
    except (InvalidMeasurement, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        return [Check(name, "failed", reason) for name in names]


# -- both devices


def _size(device: int | None) -> Check:
    cache = flush.cpu_cache_bytes() if device is None else flush.gpu_cache_bytes(device)
    covered = flush.flush_bytes("cold-clean", device)
    figures = {"flush_bytes": float(covered)}
    if cache is None:
        return Check("flush size", "unknown", f"{covered / MIB:.0f} MiB; the caches' size is not to be had", figures)
    verdict: Verdict = "ok" if covered >= 2 * cache else "failed"
    said = f"{covered / MIB:.0f} MiB over {cache / MIB:.0f} MiB of cache"
    return Check("flush size", verdict, said, {**figures, "cache_bytes": float(cache)})


def _time(timer: Timer, call: Callable[[], None], l2: L2State) -> float:
    return float(statistics.median(timer.measure(call, Regime(l2), QUICK).busy_ns))


def _reader(size: int, device: str) -> Callable[[], None]:
    """A call that reads ``size`` bytes once and writes next to nothing."""
    import torch

    source = torch.rand(size // 4 // ROW, ROW, device=device)
    sums = torch.empty(source.shape[0], device=device)

    def read() -> None:
        torch.sum(source, dim=1, out=sums)

    return read


# -- CPU


def _cpu_reads(timer: Timer) -> Check:
    read = _reader(CPU_READ_BYTES, "cpu")
    hot, cold = _time(timer, read, "hot"), _time(timer, read, "cold-clean")
    return judge_cpu(hot, cold)


def judge_cpu(hot_ns: float, cold_ns: float) -> Check:
    """A buffer that the caches hold is read more slowly after the flush."""
    return Check(
        "cold reads",
        "ok" if cold_ns >= CPU_COLD_ABOVE_HOT * hot_ns else "failed",
        f"64 KiB in {cold_ns / 1e3:.1f} us cold, {hot_ns / 1e3:.1f} us hot: {cold_ns / hot_ns:.2f} times, "
        f"at least {CPU_COLD_ABOVE_HOT:g} wanted",
        {"cold_ns": cold_ns, "hot_ns": hot_ns},
    )


# -- GPU


def _persisting() -> Check:
    if flush.reset_persisting_l2():
        return Check("persisting lines", "ok", "reset by the driver before every measurement")
    return Check("persisting lines", "unknown", "the driver offers no reset: lines that other work set aside may stay")


def _empty(timer: Timer) -> Check:
    try:
        samples = timer.measure(_nothing, Regime(), QUICK)
    except InvalidMeasurement as refusal:
        if "nothing on the device" in str(refusal):
            return Check("empty call", "ok", "no kernels: the flush and the markers are outside the sample")
        raise
    count = float(samples.kernels_per_call)
    return Check("empty call", "failed", f"{count:.0f} kernels in a call that launches none", {"kernels": count})


def _nothing() -> None:
    return None


def _gpu_reads(timer: Timer) -> list[Check]:
    short, long = _reader(READ_BYTES, "cuda"), _reader(STREAM_BYTES, "cuda")
    cold, hot = _time(timer, short, "cold-clean"), _time(timer, short, "hot")
    return judge_reads(READ_BYTES / cold * 1e9, READ_BYTES / hot * 1e9, STREAM_BYTES / _time(timer, long, "hot") * 1e9)


def judge_reads(cold: float, hot: float, dram: float) -> list[Check]:
    """A buffer that the L2 holds: read no faster than DRAM after the flush, far faster without. Rates in B/s."""
    figures = {"cold": cold, "hot": hot, "dram": dram}
    return [
        Check(
            "cold reads",
            "ok" if cold <= COLD_ABOVE_DRAM * dram else "failed",
            f"16 MiB at {cold / 1e12:.2f} TB/s after the flush; DRAM gives {dram / 1e12:.2f} TB/s over 1 GiB",
            figures,
        ),
        Check(
            "hot reads",
            "ok" if hot >= HOT_ABOVE_COLD * cold else "failed",
            f"16 MiB at {hot / 1e12:.2f} TB/s without the flush: {hot / cold:.2f} times the cold rate, "
            f"at least {HOT_ABOVE_COLD:g} wanted",
            figures,
        ),
    ]


def _dirty(timer: Timer) -> Check:
    read = _reader(BOUND_BYTES, "cuda")
    return judge_dirty(_time(timer, read, "cold-clean"), _time(timer, read, "cold-dirty"))


def judge_dirty(clean_ns: float, dirty_ns: float) -> Check:
    """A memory-bound kernel pays for lines that a writing flush left, and not for those of a reading one."""
    return Check(
        "clean flush",
        "ok" if dirty_ns >= DIRTY_ABOVE_CLEAN * clean_ns else "failed",
        f"128 MiB read in {clean_ns / 1e3:.1f} us after a reading flush, {dirty_ns / 1e3:.1f} us after a writing one: "
        f"{dirty_ns / clean_ns:.2f} times, at least {DIRTY_ABOVE_CLEAN:g} wanted",
        {"clean_ns": clean_ns, "dirty_ns": dirty_ns},
    )


def _rotation() -> Check:
    """The graph timer goes round enough buffers: against its own hot time."""
    import torch

    from sparsity_roofline.bench.rotation import sets_needed
    from sparsity_roofline.bench.timing.graph import GraphTimer

    timer = GraphTimer(settle_seconds=0)
    count = sets_needed(READ_BYTES, flush.gpu_cache_bytes(torch.cuda.current_device()))
    reads = [_reader(READ_BYTES, "cuda") for _ in range(count)]
    hot = _time(timer, reads[0], "hot")
    cold = float(statistics.median(timer.measure_rotation(reads, Regime(), QUICK).busy_ns))
    return judge_rotation(count, hot, cold)


def judge_rotation(count: int, hot_ns: float, cold_ns: float) -> Check:
    """A graph's call over rotating buffers takes longer than one over its own."""
    return Check(
        "cold rotation",
        "ok" if cold_ns >= HOT_ABOVE_COLD * hot_ns else "failed",
        f"16 MiB in {cold_ns / 1e3:.1f} us over {count} buffers in a graph, {hot_ns / 1e3:.1f} us over one: "
        f"{cold_ns / hot_ns:.2f} times, at least {HOT_ABOVE_COLD:g} wanted",
        {"cold_ns": cold_ns, "hot_ns": hot_ns, "buffers": float(count)},
    )
