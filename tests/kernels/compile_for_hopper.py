"""Compile the Triton kernels' fixed variants for sm_90 without a GPU; prints one JSON object a line.

Run by ``test_compile.py`` in a process of its own: it puts a stand-in in the place of Triton's driver, so that the real
launch code compiles exactly what it would launch on a GPU, and launches nothing.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from sparsity_roofline.kernels.convert import torch_dtype
from sparsity_roofline.kernels.registry import load_kernels
from sparsity_roofline.model.case import Case
from sparsity_roofline.model.matrix import Matrix
from sparsity_roofline.model.pattern import Pattern

PATTERNS = {
    "dense": ["dense"],
    "csr": ["unstructured"],
    "bsr": ["block16", "block64", "block128", "block3x5"],
    "nm": ["2:4", "4:8"],
}
COLUMNS = {"dense.triton": [1, 16, 64, 4096], "csr.triton": [1, 16, 32, 2048], "nm.triton": [16, 2048]}
M, K = 4096, 256


class Hopper:
    """A driver that knows what it would run on and never runs it."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int | None = None) -> int:
        return 0


def resources(cubin: bytes) -> tuple[int, int]:
    """Registers per thread and bytes of stack (where spills live), read from the binary."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile("wb", suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(tool), "--dump-resource-usage", file.name]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", said)
    assert found, said
    return int(found[1]), int(found[2])


def main() -> None:
    driver.set_active(Hopper())
    compiled: list[Any] = []
    run = JITFunction.run
    JITFunction.run = lambda self, *a, grid, warmup, **k: compiled.append(run(self, *a, grid=grid, warmup=True, **k))
    for kernel in load_kernels().values():
        if not hasattr(kernel, "interpreted"):
            continue
        for text in PATTERNS[kernel.format]:
            matrix = Matrix.from_dense("zero", np.zeros((M, K), dtype=np.float32), pattern=Pattern.parse(text))
            for dtype in sorted(
                set(kernel.dtypes) - {"bf16"}
            ):  # bf16 differs from fp16 in the instruction's suffix only
                columns = COLUMNS.get(kernel.name, [16, 48, 2048])
                for N in columns if dtype == "fp16" or kernel.format in ("dense", "csr") else columns[-1:]:
                    case = Case.of(matrix, N, dtype, kernel.format)
                    prepared = kernel.prepare(matrix, case, "cpu")
                    storage = torch_dtype(dtype)
                    prepared.launch(torch.zeros((K, N), dtype=storage), torch.zeros((M, N), dtype=storage))
                    ptx = compiled[-1].asm["ptx"]
                    registers, stack = resources(compiled[-1].asm["cubin"])
                    row = {
                        "kernel": kernel.name,
                        "pattern": text,
                        "dtype": dtype,
                        "N": N,
                        "registers": registers,
                        "stack": stack,
                        "shared": compiled[-1].metadata.shared,
                        "wgmma": "wgmma.mma_async" in ptx,
                        "mma": "wgmma.mma_async" in ptx or "mma.sync" in ptx,
                        "tma": "cp.async.bulk.tensor" in ptx,
                        "narrow_loads": len(re.findall(r"ld\.global[.a-z0-9:]*\.b16", ptx)),
                    }
                    print(json.dumps(row))  # noqa: T201


if __name__ == "__main__":
    main()
