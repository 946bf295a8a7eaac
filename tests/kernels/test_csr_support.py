"""What the CSR kernels of this repository say they can run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sparsity_roofline.kernels._cuda import compiled
from sparsity_roofline.kernels.csr import bitmap, decode, panel, wgmma
from sparsity_roofline.kernels.protocol import YES, BaseKernel
from sparsity_roofline.model.case import Case

KERNELS: list[BaseKernel] = [bitmap.CsrBitmap(), wgmma.CsrWgmma(), decode.CsrDecode(), panel.CsrPanel()]
CASE = Case("test", "w", 64, 128, 32, "unstructured", "csr", "fp16", nnz=1000)


@pytest.fixture
def hopper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "needs_compiler", lambda capability=(8, 0): YES)


@pytest.mark.usefixtures("hopper")
def test_dtypes() -> None:
    taken = {
        kernel.name: [d for d in ("fp16", "bf16", "fp32") if kernel.supports(replace(CASE, dtype=d), "cuda")]
        for kernel in KERNELS
    }
    assert taken == {
        "csr.bitmap": ["fp16", "bf16"],
        "csr.wgmma": ["fp16", "bf16"],
        "csr.decode": ["fp16", "bf16", "fp32"],
        "csr.panel": ["fp32"],
    }


@pytest.mark.usefixtures("hopper")
@pytest.mark.parametrize(
    ("kernel", "changes", "reason"),
    [
        (KERNELS[1], {"N": 12}, "multiples of 8, not 128 and 12"),
        (KERNELS[1], {"K": 100}, "multiples of 8, not 100 and 32"),
        (KERNELS[1], {"K": 0, "nnz": 0}, "multiples of 8"),
        (KERNELS[0], {"N": 65535 * 64 + 8}, "N exceeds"),
        (KERNELS[0], {"nnz": 2**33}, "32-bit offsets of the bitmap"),
        (KERNELS[2], {"M": 2**27, "K": 2**20}, "32-bit offsets of the bitmap"),
        (KERNELS[3], {"dtype": "fp32", "nnz": 2**31}, "32-bit offsets of the panel"),
        (KERNELS[3], {"dtype": "fp32", "N": 65535 * 128 + 1}, "N exceeds"),
        (KERNELS[0], {"format": "dense"}, "multiplies csr"),
        (KERNELS[2], {"layout": "token-major"}, "row-major"),
    ],
)
def test_what_is_refused_says_why(kernel: BaseKernel, changes: dict[str, object], reason: str) -> None:
    answer = kernel.supports(replace(CASE, **changes), "cuda")  # type: ignore[arg-type]
    assert not answer
    assert reason in answer.reason


@pytest.mark.usefixtures("hopper")
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_units(kernel: BaseKernel) -> None:
    assert kernel.ours
    for dtype in kernel.dtypes:
        assert kernel.unit(dtype, "cuda") == ("cuda" if dtype == "fp32" else "tensor")
    assert not kernel.available("cpu")
