"""What CUPTI's trace says of each kernel of a call: grid, block, registers, shared memory. Needs no permission."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

FIELDS = {
    "grid": "grid",
    "block": "block",
    "registers per thread": "registers",
    "shared memory": "shared_bytes",
    "blocks per SM": "blocks_per_sm",
    "est. achieved occupancy %": "occupancy_estimate",
}
"""Arguments of a kernel in the trace's JSON (torch.profiler, Chrome trace format), and what they are called here."""


def launches_of(call: Callable[[], None]) -> list[dict[str, Any]]:
    """One dictionary per kernel of a call that has run before: ``name``, ``time_us`` and ``FIELDS`` where known."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="(?i).*(profiler|kineto)")
        with profile(activities=[ProfilerActivity.CUDA]) as session:
            torch.cuda._sleep(1000)  # some versions lose a session's first record
            call()
            torch.cuda.synchronize()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        session.export_chrome_trace(str(path))
        return read_trace(json.loads(path.read_text(encoding="utf-8")))


def read_trace(trace: dict[str, Any]) -> list[dict[str, Any]]:
    """The kernels of a trace in order of their start, the spin that leads it left out."""
    found = []
    for event in trace.get("traceEvents", []):
        if event.get("cat") != "kernel" or "spin_kernel" in event.get("name", ""):
            continue
        known = {ours: event["args"][theirs] for theirs, ours in FIELDS.items() if theirs in event.get("args", {})}
        found.append((float(event["ts"]), {"name": event["name"], "time_us": float(event["dur"]), **known}))
    return [row for _, row in sorted(found, key=lambda item: item[0])]
