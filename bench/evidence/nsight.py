"""This harness's device times against Nsight Compute's ``gpu__time_duration``, kernel by kernel.

    python -m sparsity_roofline.bench.evidence.nsight OUT.csv

Needs an NVIDIA GPU, ``ncu`` on the PATH and the permission to read counters. Both sides see the same calls with the
same cold, clean L2 (our flush before each call, ncu's own cache control off) and clocks as found. ncu runs in a process
of its own, since CUPTI serves one tool at a time; what searches its algorithm anew in each process (``nm.cusparselt``)
may be another kernel there. ncu reads a constant more for each kernel than CUPTI's records do; the time of a
one-element kernel under both shows it.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

from sparsity_roofline.bench.evidence.agreement import write_and_tell
from sparsity_roofline.bench.evidence.cells import Cell, empty_cell, prepared_cells
from sparsity_roofline.model.errors import UserError

METRIC = "gpu__time_duration.sum"
CALLS = 7
_UNITS = {"nsecond": 1.0, "ns": 1.0, "usecond": 1e3, "us": 1e3, "msecond": 1e6, "ms": 1e6, "second": 1e9, "s": 1e9}


def cells() -> list[Cell]:
    """The one-element kernel, then every cell."""
    return [empty_cell(), *prepared_cells()]


def ours() -> dict[str, float]:
    """Median device-busy time of each cell in ns, by CUPTI records."""
    from sparsity_roofline.bench.timing import timer_for
    from sparsity_roofline.bench.timing.protocol import Regime, Stopping

    timer = timer_for("cuda")
    return {
        cell.name: statistics.median(timer.measure(cell.launch, Regime(), Stopping(maximum=60)).busy_ns)
        for cell in cells()
    }


def profiled() -> None:
    """What ncu watches: every cell ``CALLS`` times, each call in an NVTX range of its own behind a flush."""
    import torch

    from sparsity_roofline.bench.timing.flush import gpu_flush

    device = torch.cuda.current_device()
    flush = gpu_flush("cold-clean", device)
    for number, cell in enumerate(cells()):
        for _ in range(3):
            cell.launch()
        for turn in range(CALLS):
            flush()
            torch.cuda.synchronize()
            torch.cuda.nvtx.range_push(f"cell {number} {turn}")
            cell.launch()
            torch.cuda.synchronize()
            torch.cuda.nvtx.range_pop()
        sys.stderr.write(f"NAME {number} {cell.name}\n")


def parse(text: str) -> dict[tuple[int, int], tuple[float, int]]:
    """Nanoseconds of each (cell, turn) from ncu's CSV, summed over the kernels of the range, and their number.

    Raises:
        UserError: no table in the text.
    """
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith('"ID"')), None)
    if start is None:
        said = next((line for line in lines if "ERR" in line or "==ERROR==" in line), "no table in its output")
        raise UserError(f"ncu measured nothing: {said}", 6)
    out: dict[tuple[int, int], tuple[float, int]] = {}
    for row in csv.DictReader(io.StringIO("\n".join(lines[start:]))):
        if row.get("Metric Name") != METRIC:
            continue
        ranges = " ".join(str(value) for key, value in row.items() if key and "Range" in key and value)
        words = ranges.partition("cell ")[2].replace('"', " ").replace(":", " ").split()
        key = (int(words[0]), int(words[1]))
        value = float(row["Metric Value"].replace(",", "")) * _UNITS[row["Metric Unit"]]
        total, kernels = out.get(key, (0.0, 0))
        out[key] = (total + value, kernels + 1)
    return out


def nsight(raw: Path) -> dict[str, tuple[float, int]]:
    """Median time of each cell in ns under ncu and its kernels a call; ncu's own output is kept in ``raw``.

    Raises:
        UserError: ncu is missing or may not read counters.
    """
    if shutil.which("ncu") is None:
        raise UserError("ncu is not on the PATH: install Nsight Compute", 6)
    command = ["ncu", "--nvtx", "--nvtx-include", "regex:cell.*/", "--metrics", METRIC, "--csv"]
    command += ["--clock-control", "none", "--cache-control", "none", sys.executable, "-m", __spec__.name, "--profiled"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    raw.write_text(done.stdout, encoding="utf-8")
    times = parse(done.stdout)
    names: dict[int, str] = {}
    for line in (done.stdout + done.stderr).splitlines():
        if line.startswith("NAME "):
            _, place, name = line.split(" ", 2)
            names[int(place)] = name
    found: dict[str, tuple[float, int]] = {}
    for number, name in names.items():
        calls = [times[key] for key in times if key[0] == number]
        if calls:
            found[name] = (statistics.median(ns for ns, _ in calls), statistics.mode(count for _, count in calls))
    return found


def compare(ours_ns: dict[str, float], nsight_ns: dict[str, tuple[float, int]]) -> list[dict[str, float | str]]:
    """Both raw figures and, with the one-element kernel's excess taken off once a kernel, the difference."""
    empty = next(iter(ours_ns))
    constant = nsight_ns[empty][0] - ours_ns[empty]
    rows: list[dict[str, float | str]] = []
    for name, time in ours_ns.items():
        if name in nsight_ns:
            theirs, kernels = nsight_ns[name]
            left = theirs - kernels * constant - time
            row: dict[str, float | str] = {"kernel": name, "kernels_per_call": str(kernels)}
            row |= {"ours_us": time / 1e3, "ncu_us": theirs / 1e3, "constant_us": constant / 1e3}
            row |= {"difference_us": left / 1e3, "difference_share": left / time}
            rows.append(row)
    return rows


def main(arguments: list[str]) -> int:
    """Measure, compare, write the table and print how many kernels agree."""
    if arguments == ["--profiled"]:
        profiled()
        return 0
    if arguments == ["--ours"]:
        sys.stdout.write(json.dumps(ours()) + "\n")
        return 0
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m sparsity_roofline.bench.evidence.nsight OUT.csv\n")
        return 2
    try:
        mine = subprocess.run(
            [sys.executable, "-m", __spec__.name, "--ours"], check=True, stdout=subprocess.PIPE, text=True
        )
        rows = compare(json.loads(mine.stdout.splitlines()[-1]), nsight(Path(arguments[0]).with_suffix(".ncu.csv")))
        write_and_tell(rows, Path(arguments[0]), "ncu", "ncu_us", "kernels")
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
