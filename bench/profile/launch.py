"""The process that touches the device: ``python -m sparsity_roofline.bench.profile.launch time|once OUT.json``.

The target comes as JSON on stdin. ``time`` times the kernel as every run does and writes what timing and trace tell;
``once``, run under Nsight Compute, launches it inside an NVTX range, caches as the profiler leaves them. What goes
wrong is written to OUT as ``error`` with an ``exit_code``: a profiler between us and the caller keeps neither.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

from sparsity_roofline.bench.profile.target import Ready, Target, make_ready
from sparsity_roofline.model.errors import UserError

RANGE = "sparsity_roofline profile"
WARM_UP = 3


def timed(ready: Ready) -> dict[str, Any]:
    """Median device time, activities a call, the kernel's configuration and what the trace says of its launches."""
    from sparsity_roofline.bench import environment
    from sparsity_roofline.bench.profile.trace import launches_of
    from sparsity_roofline.bench.timing import timer_for
    from sparsity_roofline.bench.timing.protocol import Regime, Stopping

    samples = timer_for("cuda").measure(ready.launch, Regime(), Stopping(maximum=60, seconds=0.5))
    facts = environment.environment("cuda")
    return {
        "time_ns": statistics.median(samples.busy_ns),
        "kernels_per_call": samples.kernels_per_call,
        "host_ns": samples.host_ns,
        "sm_clock_mhz": samples.sm_clock_mhz,
        "config": {str(k): v for k, v in ready.config.items()},
        "case": ready.case.to_dict(),
        "device_name": environment.device_name("cuda"),
        "memory_bytes": facts["device"]["memory_bytes"],
        "launches": launches_of(ready.launch),
    }


def once(ready: Ready) -> dict[str, Any]:
    """Warm up, then one call inside ``RANGE``."""
    import torch

    for _ in range(WARM_UP):
        ready.launch()
    torch.cuda.synchronize()
    torch.cuda.nvtx.range_push(RANGE)
    ready.launch()
    torch.cuda.synchronize()
    torch.cuda.nvtx.range_pop()
    return {"launched": True}


def main(arguments: list[str]) -> int:
    """See the module's text."""
    mode, out = arguments[0], Path(arguments[1])
    try:
        ready = make_ready(Target.from_json(sys.stdin.read()))
        answer = timed(ready) if mode == "time" else once(ready)
    except UserError as error:
        answer = {"error": str(error), "exit_code": error.exit_code}
    out.write_text(json.dumps(answer), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
