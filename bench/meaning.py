"""What the numbers mean on this kind of device, and when not to trust them: what ``doctor`` says below its findings."""

from __future__ import annotations

from collections.abc import Sequence

from sparsity_roofline.bench.doctor import Finding
from sparsity_roofline.kernels.protocol import Device

_TIME = {
    "cuda": (
        "A time is the median device-busy time of one call by CUPTI records, launches left out, each call after a pass "
        "that reads twice the L2 (cold-clean). What the host needs to enqueue a call is a figure of its own (host_us)."
    ),
    "cpu": (
        "A time is the median wall time of one call with all threads, each call after a pass that reads twice the "
        "caches (cold-clean)."
    ),
}
_REST = (
    "A fraction of SoL is the least time that peaks and bandwidth allow over that time; parity, the sparse fraction "
    "over the dense one, is the whole error of the predicted speedup.",
    "The 95 % interval beside a time is of one process: it does not hold what differs from process to process.",
    "A row that could not be vouched for (lost records, another process on the GPU, a wrong result) has a status and "
    "no time.",
)
_DOUBT = {
    "cuda": (
        "a difference of less than 3 %, or of 0.5 us below 20 us, from one process a side",
        "clock_state throttled, drifting or unknown; records of another clock regime, timer or L2 state beside these",
        "a speed of light below the launch floor (below floor)",
        "nm.cusparselt from process to process: its search may end at another algorithm",
        "energy and power of a single case: the meters are slower than it is",
    ),
    "cpu": (
        "a difference from one process a side: nobody holds the clock of a CPU, repeat in fresh processes",
        "anything measured, ceilings or kernels, while the machine was busy (load_before, load_after)",
        "a fraction above 1: the ceilings were measured too low",
    ),
}
_TOUCHING = ("MIG", "clocks", "other processes", "CPU governor", "measured ceilings", "CUPTI timing")
"""Findings that, when they are not ok, bear on figures."""


def meaning(device: Device, findings: Sequence[Finding] = ()) -> list[tuple[str, list[str]]]:
    """Headings, each with its lines.

    Args:
        findings: of this machine; those that bear on figures and are not ok are named.
    """
    names = [f.name for f in findings if f.name in _TOUCHING and f.status == "warn"]
    here = [f"here: see {', '.join(names)} above"] if names else []
    return [
        ("What the numbers mean", [_TIME[device], *_REST]),
        ("When not to trust them", [*_DOUBT[device], *here]),
    ]
