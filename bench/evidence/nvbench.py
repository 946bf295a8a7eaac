"""This harness's device times against NVBench's, call by call.

    python -m sparsity_roofline.bench.evidence.nvbench OUT.csv

Needs an NVIDIA GPU and NVIDIA's ``cuda-bench``, which is NVBench for Python. Each of its samples is the time between
two CUDA events around the call, behind a kernel that blocks the stream until the call is enqueued, so that the launch
on the host is kept out; before it, NVBench zeroes a buffer of the size of the L2, which leaves that full of dirty
lines: the same calls are measured here in the state ``cold-dirty``. Events see the gaps between the kernels of a call,
so its span is compared, not its busy time; what they read for a one-element kernel beyond its span is a constant of
theirs and is taken off.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sparsity_roofline.bench.evidence.agreement import write_and_tell
from sparsity_roofline.bench.evidence.nsight import cells
from sparsity_roofline.model.errors import UserError

MEDIAN, MEAN, CLOCK = "nv/cold/time/gpu/median", "nv/cold/time/gpu/mean", "nv/cold/sm_clock_rate/mean"
WARM_UP_CALLS = 5
DEADLOCK_S = 5.0


def ours() -> dict[str, tuple[float, float]]:
    """Median span and busy time of each cell in ns, by CUPTI records."""
    from sparsity_roofline.bench.timing import timer_for
    from sparsity_roofline.bench.timing.protocol import Regime, Stopping

    timer = timer_for("cuda")
    out = {}
    for cell in cells():
        samples = timer.measure(cell.launch, Regime("cold-dirty"), Stopping(maximum=60))
        out[cell.name] = statistics.median(samples.span_ns), statistics.median(samples.busy_ns)
    return out


def theirs(out: str) -> None:
    """Every cell under NVBench, its JSON to ``out``."""
    import torch

    bench = import_module("cuda.bench")
    listed = cells()

    def product(state: Any) -> None:
        cell = listed[state.get_int64("cell")]

        def call(launch: Any) -> None:
            with torch.cuda.stream(torch.cuda.ExternalStream(launch.get_stream().addressof())):
                cell.launch()

        for _ in range(WARM_UP_CALLS):  # compiles, loads and allocates, which the blocked stream would wait for
            call(state)
        torch.cuda.synchronize()
        state.set_blocking_kernel_timeout(DEADLOCK_S)
        state.exec(call, batched=False)

    made = bench.register(product)
    made.add_int64_axis("cell", range(len(listed)))
    rule = ["--stopping-criterion", "sample-count", "--target-samples", "40", "--timeout", "1"]
    bench.run_all_benchmarks(["cells", "--devices", "0", "--json", out, "--quiet", *rule])


def parse(content: dict[str, Any], names: list[str]) -> dict[str, tuple[float, float | None]]:
    """Time in ns and SM clock in MHz of each cell from NVBench's JSON; skipped ones are left out.

    Raises:
        UserError: no measurement in it.
    """
    found: dict[str, tuple[float, float | None]] = {}
    for benchmark in content.get("benchmarks", []):
        for state in benchmark.get("states", []):
            values = {s["tag"]: _number(s) for s in state.get("summaries") or []}
            place = next((int(a["value"]) for a in state["axis_values"] if a["name"] == "cell"), None)
            time = values.get(MEDIAN, values.get(MEAN))
            if state.get("is_skipped") or place is None or time is None:
                continue
            clock = values.get(CLOCK)
            found[names[place]] = time * 1e9, clock / 1e6 if clock else None
    if not found:
        raise UserError("NVBench measured nothing", 6)
    return found


def _number(summary: dict[str, Any]) -> float | None:
    value = next((d["value"] for d in summary.get("data", []) if d["name"] == "value"), None)
    try:
        return None if value is None else float(value)
    except ValueError:
        return None


def compare(
    ours_ns: dict[str, tuple[float, float]], theirs_ns: dict[str, tuple[float, float | None]]
) -> list[dict[str, float | str]]:
    """Both raw figures and, with the one-element kernel's excess taken off, the difference of NVBench to the span.

    Raises:
        UserError: the one-element kernel is missing, so that there is no constant.
    """
    empty = next(iter(ours_ns))
    if empty not in theirs_ns:
        raise UserError(f"NVBench has no time of {empty}", 6)
    constant = theirs_ns[empty][0] - ours_ns[empty][0]
    rows: list[dict[str, float | str]] = []
    for name, (span, busy) in ours_ns.items():
        if name in theirs_ns:
            time, clock = theirs_ns[name]
            left = time - constant - span
            row: dict[str, float | str] = {"kernel": name, "ours_us": span / 1e3, "ours_busy_us": busy / 1e3}
            row |= {"nvbench_us": time / 1e3, "constant_us": constant / 1e3}
            row |= {"difference_us": left / 1e3, "difference_share": left / span, "nvbench_sm_mhz": clock or ""}
            rows.append(row)
    return rows


def _child(*arguments: str) -> str:
    command = [sys.executable, "-m", __spec__.name, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "without a word").splitlines()[-1]
        raise UserError(f"the process of {arguments[0].strip('-')} ended with {done.returncode}: {last}", 6)
    return done.stdout


def main(arguments: list[str]) -> int:
    """Measure both, compare, write the table and print how many calls agree."""
    if arguments == ["--ours"]:
        sys.stdout.write(json.dumps(ours()) + "\n")
        return 0
    if arguments[:1] == ["--theirs"]:
        theirs(arguments[1])
        sys.stdout.flush()
        os._exit(0)  # destructors of both libraries' device objects in an order of their own
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m sparsity_roofline.bench.evidence.nvbench OUT.csv\n")
        return 2
    try:
        if find_spec("cuda") is None or find_spec("cuda.bench") is None:
            raise UserError("NVBench for Python is not installed: pip install 'cuda-bench[cu13]'", 6)
        mine = {k: (v[0], v[1]) for k, v in json.loads(_child("--ours").splitlines()[-1]).items()}
        with tempfile.TemporaryDirectory() as folder:
            _child("--theirs", f"{folder}/out.json")
            content = json.loads(Path(folder, "out.json").read_text(encoding="utf-8"))
        rows = compare(mine, parse(content, list(mine)))
        write_and_tell(rows, Path(arguments[0]), "NVBench", "nvbench_us", "calls")
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
