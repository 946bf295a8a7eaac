"""What was counted, in the model's units: one kernel or a whole call of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

OPERATIONS = tuple(
    f"sm__ops_path_tensor_src_{kind}.sum" for kind in ("fp16", "bf16_dst_fp32", "tf32_dst_fp32", "fp8", "int8")
)
"""Operations done by the tensor pipe, padding included. Hopper counts them; a device that does not is asked without."""

SECTOR = 32  # bytes of an L2 sector
STALL = "smsp__average_warps_issue_stalled_"
STALL_END = "_per_issue_active.ratio"

STALL_WORDS = {
    "long_scoreboard": "waiting for global memory (L1, L2 or DRAM)",
    "short_scoreboard": "waiting for shared memory or special functions",
    "barrier": "waiting at a block's barrier",
    "gmma": "waiting for warpgroup matrix products",
    "math_pipe_throttle": "the arithmetic pipe is busy",
    "mio_throttle": "shared memory instructions queue up",
    "lg_throttle": "global memory instructions queue up",
    "wait": "fixed latency between instructions",
    "membar": "waiting for a memory fence",
    "branch_resolving": "branches",
    "no_instruction": "instruction cache misses",
    "drain": "stores drain at the end",
    "dispatch_stall": "the dispatcher is held up",
    "sleeping": "sleeping",
    "imc_miss": "constant cache misses",
}
"""Stall reasons of Nsight Compute that a kernel's author can act on."""


@dataclass(frozen=True)
class Facts:
    """Counters of a call. Ratios are 0 to 1; None where the device or the profiler does not tell.

    Attributes:
        kernels: names in launch order.
        time_ns: under the profiler, which reads 1 to 2 us more than a trace.
        dram_read, dram_write: bytes.
        l2_to_sm: bytes that multiprocessors asked of L2.
        l2_hit, l2_use: hit rate; share of L2's peak throughput.
        tensor_use, fma_use, issue_use: share of elapsed (issue: active) cycles in which the pipe worked.
        operations: done by the tensor pipe, padding included.
        balance: mean over maximum of the cycles in which multiprocessors were active: 1 is even.
        busy: share of the call in which the longest active multiprocessor worked.
        waves: blocks over what fits on the device at once.
        occupancy, occupancy_limit: warps held over the most there can be; what the launch allows.
        registers, shared_bytes, threads, blocks: of the kernel that takes longest.
        limiter: what keeps more blocks from a multiprocessor: registers, shared memory, warps or blocks.
        spilled: bytes of local memory traffic.
        stalls: share of stalled warps by reason, the largest first.
    """

    kernels: tuple[str, ...]
    time_ns: float
    dram_read: float | None = None
    dram_write: float | None = None
    l2_to_sm: float | None = None
    l2_hit: float | None = None
    l2_use: float | None = None
    tensor_use: float | None = None
    fma_use: float | None = None
    issue_use: float | None = None
    operations: float | None = None
    balance: float | None = None
    busy: float | None = None
    waves: float | None = None
    occupancy: float | None = None
    occupancy_limit: float | None = None
    registers: int | None = None
    shared_bytes: int | None = None
    threads: int | None = None
    blocks: int | None = None
    limiter: str = ""
    spilled: float | None = None
    stalls: Mapping[str, float] = field(default_factory=dict)

    @property
    def dram(self) -> float | None:
        """Bytes read and written."""
        if self.dram_read is None or self.dram_write is None:
            return None
        return self.dram_read + self.dram_write


def facts_of(kernels: Sequence[Mapping[str, Any]]) -> Facts:
    """Facts of a call from the metrics of its kernels (``ncu.count``): amounts are summed, shares weighted by time."""
    times = [float(k.get("gpu__time_duration.sum", 0.0)) for k in kernels]
    total = sum(times)
    longest = kernels[times.index(max(times))] if kernels else {}

    def amount(*names: str) -> float | None:
        found = [float(k[name]) for k in kernels for name in names if name in k]
        return sum(found) if found else None

    def share(name: str) -> float | None:
        known = [(float(k[name]), t) for k, t in zip(kernels, times, strict=True) if name in k]
        weight = sum(t for _, t in known)
        return sum(v * t for v, t in known) / weight / 100.0 if weight else None

    def whole(name: str) -> int | None:
        return int(longest[name]) if name in longest else None

    sectors = amount("lts__t_sectors_srcunit_tex.sum")
    local = amount("l1tex__t_sectors_pipe_lsu_mem_local_op_ld.sum", "l1tex__t_sectors_pipe_lsu_mem_local_op_st.sum")
    operations = [float(k[name]) for k in kernels for name in OPERATIONS if name in k]
    active, most = longest.get("sm__cycles_active.avg"), longest.get("sm__cycles_active.max")
    elapsed = longest.get("gpc__cycles_elapsed.max")
    return Facts(
        kernels=tuple(str(k["name"]) for k in kernels),
        time_ns=total,
        dram_read=amount("dram__bytes_read.sum"),
        dram_write=amount("dram__bytes_write.sum"),
        l2_to_sm=None if sectors is None else sectors * SECTOR,
        l2_hit=share("lts__t_sector_hit_rate.pct"),
        l2_use=share("lts__throughput.avg.pct_of_peak_sustained_elapsed"),
        tensor_use=share("sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_elapsed"),
        fma_use=share("sm__pipe_fma_cycles_active.avg.pct_of_peak_sustained_elapsed"),
        issue_use=share("smsp__issue_active.avg.pct_of_peak_sustained_active"),
        operations=sum(operations) if operations else None,
        balance=active / most if active is not None and most else None,
        busy=most / elapsed if most is not None and elapsed else None,
        waves=longest.get("launch__waves_per_multiprocessor"),
        occupancy=share("sm__warps_active.avg.pct_of_peak_sustained_active"),
        occupancy_limit=share("sm__maximum_warps_per_active_cycle_pct"),
        registers=whole("launch__registers_per_thread"),
        shared_bytes=whole("launch__shared_mem_per_block_allocated"),
        threads=whole("launch__block_size"),
        blocks=whole("launch__grid_size"),
        limiter=_limiter(longest),
        spilled=None if local is None else local * SECTOR,
        stalls=_stalls(longest),
    )


def _limiter(kernel: Mapping[str, Any]) -> str:
    """The resource whose limit on blocks per multiprocessor is the lowest."""
    limits = {
        word: float(kernel[f"launch__occupancy_limit_{name}"])
        for word, name in (
            ("registers", "registers"), ("shared memory", "shared_mem"), ("warps", "warps"), ("blocks", "blocks"),
        )
        if f"launch__occupancy_limit_{name}" in kernel
    }  # fmt: skip
    return min(limits, key=lambda word: limits[word]) if limits else ""


def _stalls(kernel: Mapping[str, Any]) -> dict[str, float]:
    """Share of each reason among the warps that waited, for those with words; the largest first."""
    waits = {
        name.removeprefix(STALL).removesuffix(STALL_END): float(value)
        for name, value in kernel.items()
        if name.startswith(STALL) and name.endswith(STALL_END)
    }
    waits = {name: value for name, value in waits.items() if name not in ("selected", "not_selected")}
    total = sum(waits.values())
    known = {name: value / total for name, value in waits.items() if name in STALL_WORDS and total and value}
    return dict(sorted(known.items(), key=lambda item: -item[1]))
