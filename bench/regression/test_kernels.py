"""The regression suite: every kernel of this repository and its peers, by device time.

    pytest bench/regression --benchmark-autosave
    pytest bench/regression --benchmark-compare --benchmark-compare-fail=median:5%

A worked example, too: parametrise over kernels and cases, call ``gpu_benchmark.case``, and pytest-benchmark does the
rest. One process says little about a change of a few percent: ``sparsity-roofline compare`` measures several.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from sparsity_roofline.bench.gpu_benchmark import GpuBenchmark

CASES = {
    "unstructured": ("512x2048x256", 0.9, ("csr.triton", "csr.cusparse", "csr.torch", "csr.scipy")),
    "block32x32": ("512x2048x256", 0.9, ("bsr.triton", "bsr.cusparse", "bsr.torch", "bsr.scipy")),
    "2:4": ("512x2048x256", 0.5, ("nm.triton",)),
    "dense": ("512x2048x256", 0.0, ("dense.triton", "dense.cublas", "dense.torch")),
}
"""Pattern -> shape M x K x N, sparsity, kernels."""


@pytest.mark.parametrize(
    ("kernel", "pattern"), [(kernel, pattern) for pattern, case in CASES.items() for kernel in case[2]]
)
def test_kernel(gpu_benchmark: GpuBenchmark, kernel: str, pattern: str) -> None:
    """Device time of one kernel; those that do not run on this machine are skipped with the reason."""
    shape, sparsity, _ = CASES[pattern]
    record = gpu_benchmark.case(kernel, shape, pattern=pattern, sparsity=sparsity)
    assert record is None or record.status == "ok"
