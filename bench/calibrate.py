"""This machine's own ceilings: DRAM bandwidth, matrix rates per precision, launch floor. Measured, and kept.

A ceiling is an upper bound that kernels are judged by, so each is the best of several ways to reach it (operations,
shapes) and of their samples, taken with the timer and the cache regime that kernels are timed with. Data are random and
non-zero: zeros run faster than any real weight.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sparsity_roofline.bench import calibration_store, l2_rates
from sparsity_roofline.bench.environment import DeviceKind, device_name, host_state, threads
from sparsity_roofline.bench.timing import flush, timer_for
from sparsity_roofline.bench.timing.protocol import InvalidMeasurement, L2State, Regime, Stopping, Timer
from sparsity_roofline.kernels.dense.cublas import math_mode
from sparsity_roofline.model.ceilings import Ceilings
from sparsity_roofline.model.dtype import dtype as lookup_dtype
from sparsity_roofline.model.errors import UserError

if TYPE_CHECKING:
    import torch

Progress = Callable[[str], None]
Call = Callable[[], object]
Shape = tuple[int, int, int]

MIB = 1 << 20

# (M, K, N). The best rate of a GPU is not that of its largest product: longer ones run into the power limit.
SHAPES: dict[str, tuple[Shape, ...]] = {
    "cuda": ((4096, 4096, 2048), (4096, 4096, 4096), (14336, 4096, 2048), (8192, 4096, 4096), (8192, 8192, 8192)),
    "cpu": ((512, 512, 512), (1024, 1024, 1024), (2048, 512, 2048), (1536, 1536, 1536)),
}
DTYPES = {"cuda": ("fp16", "bf16", "tf32", "fp32", "fp64", "fp8", "int8"), "cpu": ("fp32", "fp64", "bf16", "fp16")}
SECONDS = {"cuda": 12.0, "cpu": 10.0}
ROUNDS = {"cuda": 1, "cpu": 2}
"""Rounds over memory and products. A CPU is shared with whatever else runs: what one round loses to it, another far
enough away in time may not."""
MAIN_DTYPE = "fp32"
"""What CPU kernels are judged in: every shape is measured, whatever the time."""
BUSY_SHARE = 0.5
"""Load per core above which somebody else is taken to be computing here."""
MINIMUM, MAXIMUM = 5, 30
"""Samples of one figure: the best of them counts, so no interval is needed."""


def measured_ceilings(
    device: DeviceKind, *, calibrate_if_missing: bool, replace_busy: bool = False, progress: Progress | None = None
) -> Ceilings | None:
    """The kept ceilings of this device, torch and thread count; without any, calibrate or return None.

    A kept file that cannot be read counts as missing, with a note to ``progress``.

    Args:
        replace_busy: measure anew, too, where the kept ones come from a busy machine that is idle now. Not for a run
            that has records: their ceilings must stay the same.

    Raises:
        UserError: ``cuda`` without a GPU, or no timer to calibrate with.
    """
    kept = calibration_store.load(device, progress)
    if kept is None:
        return calibrate(device, progress=progress) if calibrate_if_missing else None
    if replace_busy and (why := from_busy_machine(kept)) and not _busy(device, host_state()["load_1min"]):
        if progress is not None:
            progress(f"the kept ceilings are replaced: {why}, and now it is idle")
        return calibrate(device, progress=progress)
    return kept


def from_busy_machine(ceilings: Ceilings) -> str:
    """How busy the CPU was whose ceilings these are, in words; "" if it was not, and for a GPU."""
    load = ceilings.details.get("load_before")
    if ceilings.details.get("threads") is None or not _busy("cpu", load):
        return ""
    return f"this machine was busy when they were measured (load {load:.1f} on {os.cpu_count()} cores)"


def _busy(device: DeviceKind, load: object) -> bool:
    return device == "cpu" and isinstance(load, float) and load > BUSY_SHARE * (os.cpu_count() or 1)


def calibrate(
    device: DeviceKind,
    *,
    seconds: float | None = None,
    progress: Progress | None = None,
    timer: Timer | None = None,
    keep: bool = True,
) -> Ceilings:
    """Measure this machine's ceilings and keep them.

    ``dram_bandwidth`` is the better of a copy (bytes read plus bytes written) and a read. A pure write is recorded
    beside them but does not count: no product only writes. On a CPU whose stores first fetch the line, a copy moves
    half as much again as is counted; that is what a kernel's output costs there too.

    Args:
        device: ``cuda`` or ``cpu``.
        seconds: wall time to aim at; by default 12 on a GPU, 10 on a CPU.
        progress: called with one line per step.
        timer: in place of the device's own.
        keep: write the result for ``measured_ceilings``.

    Raises:
        UserError: no such device here, or a timer that cannot run (exit code 6) or measures no bandwidth (4).
    """
    say = progress or _silent
    name = device_name(device)
    timer = timer or timer_for(device)
    support = timer.available()
    if not support:
        raise UserError(f"cannot calibrate {name}: {support.reason}", exit_code=6)
    load = host_state()["load_1min"]
    if _busy(device, load):
        say(f"this machine is busy (load {load:.1f} on {os.cpu_count()} cores): ceilings may come out too low")
    rounds = ROUNDS[device]
    meter = _Meter(timer, (seconds or SECONDS[device]) / (len(DTYPES[device]) + 4) / rounds)
    dram: dict[str, float] = {}
    rates: dict[str, dict[str, float]] = {dtype: {} for dtype in DTYPES[device]}
    cache = _cache(meter, device)
    floor = meter.best("launch floor", [_smallest(device)], 1.0, "hot")
    writes = l2_rates.write_rates(meter.best, _last_level_bytes(device), 1.0 / floor) if floor and cache else {}
    for turn in range(1, rounds + 1):
        which = f" (round {turn} of {rounds})" if rounds > 1 else ""
        say(f"calibrating {name}: memory{which}")
        _keep_best(dram, _dram(meter, device))
        for dtype in DTYPES[device]:
            say(f"calibrating {name}: {dtype} products{which}")
            _keep_best(rates[dtype], _products(meter, device, dtype))
    if not {"copy", "read"} & dram.keys():
        raise UserError(f"cannot calibrate {name}: no bandwidth measured: {meter.skipped}", exit_code=4)
    ceilings = Ceilings(
        device=name,
        kind="measured",
        peaks={lookup_dtype(d).peak: max(by_shape.values()) for d, by_shape in rates.items() if by_shape},
        dram_bandwidth=max(dram[way] for way in ("copy", "read") if way in dram),
        l2_bytes=_last_level_bytes(device),
        l2_bandwidth=cache.get("unshared", max(cache.values())) if cache else None,
        l2_shared_bandwidth=cache.get("shared"),
        l2_write_bandwidth=writes.get("write"),
        l2_held_bytes=writes.get("held"),
        launch_floor_s=1.0 / floor if floor else None,
        sm_count=_sm_count(device),
        details={
            "timer": timer.name,
            "regime_l2": "cold-clean",
            "statistic": "best sample",
            "bandwidth": dram,
            "cache_bandwidth": cache,
            "rates": rates,
            "skipped": meter.skipped,
            "sm_clock_mhz": [min(meter.clocks), max(meter.clocks)] if meter.clocks else None,
            "threads": threads() if device == "cpu" else None,
            "load_before": load,
            "torch": calibration_store.torch_version(),
            "calibrated_at": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    )
    if device == "cuda":
        _give_back_memory()
    if keep:
        calibration_store.save(device, ceilings, say)
    return ceilings


def _silent(line: str) -> None:
    del line


@dataclass
class _Meter:
    """Takes rates with one timer, ``share`` seconds of wall time a figure, and remembers what it could not take."""

    timer: Timer
    share: float
    clocks: list[float] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    def best(self, name: str, calls: Iterable[Call], work: float, l2: L2State = "cold-clean") -> float | None:
        """The highest rate, in units of ``work`` per second, over calls that do the same; None if none can be timed."""
        rates = []
        for call in calls:
            try:
                samples = self.timer.measure(
                    _returning_nothing(call),
                    Regime(l2),
                    Stopping(minimum=MINIMUM, maximum=MAXIMUM, seconds=self.share / 4),
                )
            except (InvalidMeasurement, RuntimeError) as error:  # torch's errors for want of memory or of a kernel
                self.skipped[name] = (str(error).splitlines() or [type(error).__name__])[0]
                continue
            rates.append(work / (max(min(samples.busy_ns), 1.0) * 1e-9))
            if samples.sm_clock_mhz is not None:
                self.clocks.append(samples.sm_clock_mhz)
        return max(rates, default=None)


def _returning_nothing(call: Call) -> Callable[[], None]:
    def run() -> None:
        call()

    return run


def _dram(meter: _Meter, device: DeviceKind) -> dict[str, float]:
    """Bytes per second by what is done: ``copy``, ``read``, ``write``; arrays far larger than any cache."""
    import torch

    source = _random((stream_bytes(device) // 4,), "fp32", device)
    target = torch.empty_like(source)
    total = torch.empty((), device=source.device)
    size = float(source.nbytes)
    ways: dict[str, tuple[list[Call], float]] = {
        "copy": ([lambda: target.copy_(source), lambda: torch.neg(source, out=target)], 2 * size),
        "read": ([lambda: torch.sum(source, dim=0, out=total), lambda: torch.dot(source, source)], size),
        "write": ([lambda: target.fill_(0.5)], size),
    }
    return _known({way: meter.best(way, calls, work) for way, (calls, work) in ways.items()})


def _cache(meter: _Meter, device: DeviceKind) -> dict[str, float]:
    """Bytes per second out of a GPU's resident L2, hot: a copy and a sum within half of it, and what reads of lines
    that multiprocessors do and do not share reach (``l2_rates``)."""
    if device != "cuda":
        return {}
    import torch

    elements = max(_last_level_bytes(device) // 4 // 4, 1)
    source = _random((elements,), "fp32", device)
    target, total = torch.empty_like(source), torch.empty((), device=source.device)
    size = float(source.nbytes)
    return _known(
        {
            "copy": meter.best("cache copy", [lambda: torch.neg(source, out=target)], 2 * size, "hot"),
            "read": meter.best("cache read", [lambda: torch.sum(source, dim=0, out=total)], size, "hot"),
            **l2_rates.read_rates(meter.best, _sm_count(device) or 1, _last_level_bytes(device)),
        }
    )


def _products(meter: _Meter, device: DeviceKind, dtype: str) -> dict[str, float]:
    """Operations per second (2 M K N a product) by shape, until this precision's share of time is spent."""

    rates: dict[str, float] = {}
    started = time.perf_counter()
    for M, K, N in SHAPES[device]:
        left = meter.share - (time.perf_counter() - started)
        if rates and dtype != MAIN_DTYPE and 2.0 * M * K * N / max(rates.values()) * (MINIMUM + 3) > left:
            continue
        shape = f"{M}x{K}x{N}"
        try:
            product = _product(dtype, _random((M, K), dtype, device), _random((K, N), dtype, device))
        except RuntimeError as error:
            meter.skipped[f"{dtype} {shape}"] = str(error).splitlines()[0]
            continue
        with math_mode(dtype) if device == "cuda" else nullcontext():
            rate = meter.best(f"{dtype} {shape}", [product], 2.0 * M * K * N)
        if rate is not None:
            rates[shape] = rate
    return rates


def _product(dtype: str, w: torch.Tensor, x: torch.Tensor) -> Call:
    """One product by the vendor's library; 8-bit types are written as bf16 (fp8) or int32 (int8), with X as (N, K)."""
    import torch

    if dtype == "int8":
        transposed = x.t().contiguous().t()
        return lambda: torch._int_mm(w, transposed)
    if dtype == "fp8":
        transposed, one = x.t().contiguous().t(), torch.ones((), device=w.device)
        return lambda: torch._scaled_mm(w, transposed, scale_a=one, scale_b=one, out_dtype=torch.bfloat16)
    y = torch.empty((w.shape[0], x.shape[1]), dtype=w.dtype, device=w.device)
    return lambda: torch.mm(w, x, out=y)


def _give_back_memory() -> None:
    """The arrays are gone, torch's allocator still holds their memory: others ask the device what is free."""
    import torch

    torch.cuda.empty_cache()


def _smallest(device: DeviceKind) -> Call:
    """The least a call can do: one element."""
    import torch

    one = torch.ones(1, device=device)
    return lambda: torch.neg(one, out=one)


def stream_bytes(device: DeviceKind) -> int:
    """Size of each of the two arrays of the bandwidth test: four times the caches or more, if memory allows."""
    if device == "cuda":
        import torch

        free, least = torch.cuda.mem_get_info()[0], 1024 * MIB
    else:
        import psutil

        free = psutil.virtual_memory().available
        least = max(256 * MIB, 4 * (flush.cpu_cache_bytes() or flush.UNKNOWN_CACHE_BYTES))
    return int(max(min(least, free // 8), MIB)) // 64 * 64


def _random(shape: tuple[int, ...], dtype: str, device: DeviceKind) -> torch.Tensor:
    import torch

    types = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp64": torch.float64, "fp8": torch.float8_e4m3fn}
    generator = torch.Generator(device=device).manual_seed(0)
    uniform = torch.rand(shape, generator=generator, device=device, dtype=torch.float32)
    if dtype == "int8":
        return uniform.mul_(222).sub_(127).to(torch.int8)
    return uniform.mul_(1.75).sub_(1.0).to(types.get(dtype, torch.float32))


def _last_level_bytes(device: DeviceKind) -> int:
    if device == "cpu":
        return flush.cpu_cache_bytes() or 0
    import torch

    return int(torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size)


def _sm_count(device: DeviceKind) -> int | None:
    if device == "cpu":
        return None
    import torch

    return int(torch.cuda.get_device_properties(torch.cuda.current_device()).multi_processor_count)


def _keep_best(best: dict[str, float], new: dict[str, float]) -> None:
    for name, rate in new.items():
        best[name] = max(rate, best.get(name, 0.0))


def _known(rates: dict[str, float | None]) -> dict[str, float]:
    return {name: rate for name, rate in rates.items() if rate is not None}
