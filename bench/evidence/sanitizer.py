"""Our kernels under NVIDIA's compute-sanitizer: no access out of bounds, no race, no memory read before it is written.

    python -m sparsity_roofline.bench.evidence.sanitizer OUT.csv [--tool memcheck] [--kernel GLOB]

Needs an NVIDIA GPU and ``compute-sanitizer`` (CUDA toolkit) on the PATH. Each kernel runs in a process of its own on
small, odd cases, its result checked against float64; one row a kernel and tool. ``initcheck`` is left out by default:
PyTorch's allocator hands out memory that an earlier tensor wrote, and padding read but never used counts as an error.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from sparsity_roofline.bench.evidence.agreement import Row, write_rows
from sparsity_roofline.bench.profile.target import Target, make_ready
from sparsity_roofline.kernels.registry import load_kernels, select
from sparsity_roofline.model.errors import UserError

TOOLS = ("memcheck", "racecheck", "synccheck")
LIMIT_S = 300.0
PATTERNS = {"dense": ("dense",), "csr": ("unstructured",), "bsr": ("block16x16", "block64x64"), "nm": ("2:4",)}
SHAPES = ((200, 136, 24), (256, 256, 136))
"""M, K, N: whole tiles and ragged ones."""

_SUMMARY = re.compile(r"(?:ERROR|RACECHECK) SUMMARY: (\d+)")


def targets(kernel: str, format: str, dtype: str) -> list[Target]:
    """The small cases of one kernel."""
    found = []
    for pattern in PATTERNS[format]:
        for M, K, N in SHAPES:
            uri = f"uniform:{M}x{K}"
            if pattern == "dense":
                found.append(Target(uri, f"{M}x{K}", N, dtype, kernel))
                continue
            levels = () if ":" in pattern else (0.5,)
            found.append(Target(uri, f"{M}x{K}@{pattern}@0.5", N, dtype, kernel, (pattern,), levels))
    return found


def exercise(kernel: str) -> int:
    """What the sanitizer watches: every case that the kernel takes, in its first dtype; the number of cases."""
    import torch

    known = load_kernels()[kernel]
    done = 0
    for target in targets(kernel, known.format, known.dtypes[0]):
        _, case = target.load()
        if known.supports(case, "cuda"):
            make_ready(target).launch()
            torch.cuda.synchronize()
            done += 1
    return done


def errors_in(text: str) -> int | None:
    """The number of errors that the sanitizer's summary tells, or None without a summary."""
    found = _SUMMARY.findall(text)
    return int(found[-1]) if found else None


def watch(kernel: str, tool: str) -> Row:
    """One kernel under one tool."""
    command = ["compute-sanitizer", "--tool", tool, sys.executable, "-m", __spec__.name, "--exercise", kernel]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        return {"kernel": kernel, "tool": tool, "cases": "", "errors": "", "said": f"not done within {LIMIT_S:g} s"}
    text = done.stdout + done.stderr
    cases = re.findall(r"^CASES (\d+)$", text, re.MULTILINE)
    errors = errors_in(text)
    lines = [line for line in text.splitlines() if "=========" in line and "SUMMARY" not in line]
    said = "" if errors == 0 else (lines[1] if len(lines) > 1 else text.strip()[-200:]).replace("\n", " ")
    return {
        "kernel": kernel,
        "tool": tool,
        "cases": int(cases[-1]) if cases else "",
        "errors": "" if errors is None else errors,
        "said": said.replace("=========", "").strip(),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(prog="python -m sparsity_roofline.bench.evidence.sanitizer", description=__doc__)
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--tool", action="append", choices=[*TOOLS, "initcheck"])
    parser.add_argument("--kernel", action="append", metavar="GLOB")
    parser.add_argument("--exercise", metavar="KERNEL", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.exercise:
        sys.stdout.write(f"CASES {exercise(given.exercise)}\n")
        return 0
    try:
        return _watch_all(given.out, given.tool or TOOLS, given.kernel or ())
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code


def _watch_all(out: Path | None, tools: Sequence[str], globs: Sequence[str]) -> int:
    if out is None:
        raise UserError("say where the table goes: OUT.csv")
    if shutil.which("compute-sanitizer") is None:
        raise UserError("compute-sanitizer is not on the PATH: it comes with the CUDA toolkit", 6)
    chosen = [k for k in select(globs, load_kernels()) if k.ours and k.available("cuda")]
    rows: list[Row] = []
    for kernel in chosen:
        for tool in tools:
            rows.append(watch(kernel.name, tool))
            sys.stdout.write(", ".join(f"{k} {v}" for k, v in rows[-1].items() if v != "") + "\n")
            write_rows(rows, out)
    return 0 if all(row["errors"] == 0 for row in rows) else 3


if __name__ == "__main__":
    sys.exit(main())
