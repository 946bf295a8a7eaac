"""Which assumption of the prediction broke, largest first, with the speedup that mending it alone would give.

The prediction says: the time is max(operations / peak, bytes / bandwidth). Each finding names one way in which a launch
fell short of that and how long it would take without it. Gains of different findings overlap and do not multiply.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from sparsity_roofline.bench.profile.facts import STALL_WORDS, Facts

Term = Literal["more bytes", "bandwidth", "more operations", "pipe idle", "L2 traffic", "imbalance", "launch floor"]

Add = Callable[[Term, float, str], None]

SLACK = 0.03
"""A gain below this share of the time is not worth a word."""

HOLDS = 0.5
"""A unit that reaches this share of its rate is taken to hold the kernel."""


@dataclass(frozen=True)
class Limits:
    """What the model says of the case, in seconds, bytes and operations.

    Attributes:
        flops: operations of the case in its format.
        bytes: compulsory traffic with DRAM (preset ``bound``: used rows of X, output beyond L2).
        peak: operations per second of the unit the kernel runs on.
        bandwidth: of DRAM, bytes per second.
        l2_bandwidth: from L2 to the multiprocessors, bytes per second, or None.
        floor_s: time of an empty kernel.
        unit: ``tensor`` or ``cuda``.
    """

    flops: float
    bytes: float
    peak: float
    bandwidth: float
    floor_s: float
    unit: str
    l2_bandwidth: float | None = None

    @property
    def compute_s(self) -> float:
        """Time of the operations at peak."""
        return self.flops / self.peak

    @property
    def memory_s(self) -> float:
        """Time of the compulsory bytes at full bandwidth."""
        return self.bytes / self.bandwidth

    @property
    def sol_s(self) -> float:
        """The plain limit."""
        return max(self.compute_s, self.memory_s)


@dataclass(frozen=True)
class Finding:
    """One broken assumption.

    Attributes:
        term: which.
        words: what was seen beside what was assumed.
        mended_s: time without it, other things equal.
        speedup: measured time over that.
    """

    term: Term
    words: str
    mended_s: float
    speedup: float


def diagnose(limits: Limits, facts: Facts, time_s: float) -> list[Finding]:
    """Findings in order of their gain.

    Args:
        limits: the model's side.
        facts: the counters of one call; of a call without counters only the launch floor can be told.
        time_s: device time of a call as measured without the profiler.

    The rules, with t the time, B the DRAM bytes seen and A = B / t the bandwidth reached:

    - more bytes: the bytes beyond the compulsory ones at A where DRAM is what holds the kernel (A above half of the
      bandwidth), at full bandwidth elsewhere.
    - bandwidth: the bytes seen at full bandwidth, where memory binds the case.
    - more operations: the tensor pipe's work (use x t) shrunk to the case's share of the operations it did.
    - pipe idle: only the cycles in which the pipe worked, where operations bind the case.
    - L2 traffic: where L2 feeds the multiprocessors at more than half of its rate, the time that the pipe's work and
      the DRAM bytes would take without it.
    - imbalance: every multiprocessor as long active as the mean.
    - launch floor: without the time of an empty kernel (fuse or batch launches).
    """
    found: list[Finding] = []

    def add(term: Term, mended_s: float, words: str) -> None:
        mended_s = max(mended_s, limits.sol_s)  # nothing mends a kernel beyond the limit
        if mended_s > 0 and mended_s < (1 - SLACK) * time_s:
            found.append(Finding(term, words, mended_s, time_s / mended_s))

    _memory(limits, facts, time_s, add)
    _compute(limits, facts, time_s, add)
    if facts.l2_to_sm and limits.l2_bandwidth:
        rate = facts.l2_to_sm / time_s
        if rate > HOLDS * limits.l2_bandwidth:
            working = (facts.tensor_use if limits.unit == "tensor" else facts.fma_use) or 0.0
            others = max(working * time_s, (facts.dram or 0.0) / limits.bandwidth)
            add("L2 traffic", others, _l2_words(limits, facts, rate))
    if facts.balance is not None and facts.balance < 1:
        add(
            "imbalance",
            time_s * (1 - (facts.busy or 1.0) * (1 - facts.balance)),
            f"multiprocessors are active {facts.balance:.0%} of the longest one's time on average"
            + (f"; {facts.waves:.2f} waves of blocks" if facts.waves else ""),
        )
    if limits.floor_s:
        count = max(len(facts.kernels), 1)
        kernels = "an empty kernel takes" if count == 1 else f"{count} kernels, each with a floor of"
        add("launch floor", time_s - count * limits.floor_s, f"{kernels} {limits.floor_s * 1e6:.1f} us")
    return sorted(found, key=lambda finding: -finding.speedup)


def latency_words(facts: Facts) -> str:
    """What the warps wait for, for a kernel that no unit holds; "" where nothing is known."""
    if not facts.stalls:
        return ""
    top = [f"{STALL_WORDS[name]} ({share:.0%})" for name, share in list(facts.stalls.items())[:3]]
    text = "warps wait: " + ", ".join(top)
    if facts.occupancy is not None and facts.occupancy_limit is not None:
        text += f"; {facts.occupancy:.0%} of the warp slots are filled, {facts.occupancy_limit:.0%} at most"
        text += f" (held by {facts.limiter})" if facts.limiter else ""
    return text


def _memory(limits: Limits, facts: Facts, time_s: float, add: Add) -> None:
    seen = facts.dram
    if not seen:
        return
    rate = seen / time_s
    if seen > limits.bytes:
        held = rate > HOLDS * limits.bandwidth
        saved = (seen - limits.bytes) / (rate if held else limits.bandwidth)
        add(
            "more bytes",
            time_s - saved,
            f"{seen / 1e6:.1f} MB through DRAM, {seen / limits.bytes:.2f} times the compulsory "
            f"{limits.bytes / 1e6:.1f} MB",
        )
    if limits.memory_s >= limits.compute_s:
        add(
            "bandwidth",
            seen / limits.bandwidth,
            f"{rate / 1e12:.2f} TB/s of {limits.bandwidth / 1e12:.2f}: {latency_words(facts) or 'DRAM is not busy'}",
        )


def _compute(limits: Limits, facts: Facts, time_s: float, add: Add) -> None:
    use = facts.tensor_use if limits.unit == "tensor" else facts.fma_use
    if not use:
        return
    working = use * time_s
    name = "tensor" if limits.unit == "tensor" else "FMA"
    if limits.unit == "tensor" and facts.operations and facts.operations > limits.flops > 0:
        waste = 1 - limits.flops / facts.operations
        words = f"the tensor pipe did {facts.operations / limits.flops:.2f} times the case's operations (padding)"
        add("more operations", time_s - waste * working, words)
    if limits.compute_s > limits.memory_s:
        words = f"the {name} pipe works in {use:.0%} of the cycles: {latency_words(facts) or 'no stall is known'}"
        add("pipe idle", working, words)


def _l2_words(limits: Limits, facts: Facts, rate: float) -> str:
    assert facts.l2_to_sm is not None
    assert limits.l2_bandwidth is not None
    return (
        f"L2 feeds the multiprocessors {facts.l2_to_sm / 1e6:.0f} MB at {rate / 1e12:.1f} TB/s "
        f"({rate / limits.l2_bandwidth:.0%} of the {limits.l2_bandwidth / 1e12:.1f} measured): larger or shared tiles"
    )
