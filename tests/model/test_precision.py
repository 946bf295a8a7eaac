"""Every precision in every format, worked by hand: bytes with index and metadata overhead, and the ceiling."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsity_roofline.model import hardware
from sparsity_roofline.model.cost import PRESETS, CostOptions, cost
from sparsity_roofline.model.dtype import DTYPES
from sparsity_roofline.model.roofline import predict
from sparsity_roofline.model.table import CaseTable

H100 = hardware.datasheet("h100")
BYTES = {"fp64": 8, "fp32": 4, "tf32": 4, "fp16": 2, "bf16": 2, "fp8": 1, "int8": 1}
# H100 SXM data sheet, dense, operations per second.
PEAKS = {"fp32": 67e12, "tf32": 494.5e12, "fp16": 989.5e12, "bf16": 989.5e12, "fp8": 1979e12, "int8": 1979e12}
SHAPE = {"M": 64, "K": 128, "N": 10}
FORMATS: dict[str, dict[str, Any]] = {
    "dense": {}, "csr": {"nnz": 1000}, "bsr": {"stored_blocks": 8, "block_rows": 16, "block_cols": 16},
    "nm": {"n": 2, "m": 4}, "bitmap": {"nnz": 1000},
}  # fmt: skip

# Stored elements and bytes beside their values, for W of 64 x 128. csr: 1000 indices and 65 offsets of 4 bytes. bsr:
# 8 indices and 5 offsets. 2:4: 2 bits for each of 4096 kept, in every type. bitmap: 8192 bits.
STORED = {"dense": (8192, 0), "csr": (1000, 4000 + 260), "bsr": (2048, 32 + 20), "nm": (4096, 1024),
          "bitmap": (1000, 1024)}  # fmt: skip


def test_every_dtype_is_here() -> None:
    assert {name: d.element_bytes for name, d in DTYPES.items()} == BYTES


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("dtype", BYTES)
def test_bytes(dtype: str, format: str) -> None:
    c = cost(CaseTable.from_columns(**SHAPE, format=format, dtype=dtype, **FORMATS[format]), PRESETS["paper"])
    kept, beside = STORED[format]
    b = BYTES[dtype]
    assert c.flops[0] == 2 * kept * 10
    assert (c.weight_bytes[0], c.input_bytes[0], c.output_bytes[0]) == (b * kept + beside, b * 1280, b * 640)


@pytest.mark.parametrize(("dtype", "peak"), PEAKS.items())
@pytest.mark.parametrize("format", ["dense", "csr", "bsr", "nm"])
def test_ceilings(dtype: str, peak: float, format: str) -> None:
    """So many columns that the work decides: 2 x stored x N / peak."""
    side = 2**20
    blocks = {"block_rows": 64, "block_cols": 64, "stored_blocks": (side // 64) ** 2 // 8}
    more: dict[str, Any] = {"csr": {"nnz": side * side // 10}, "nm": {"n": 2, "m": 4}, "bsr": blocks}
    table = CaseTable.from_columns(M=side, K=side, N=side, format=format, dtype=dtype, **more.get(format, {}))
    p = predict(table, H100)
    assert p.bound[0] == "compute"
    assert p.flops[0] / p.sol_s[0] == pytest.approx(peak)
    # A kernel on CUDA cores runs at their fp32 rate, whatever it multiplies.
    slow = predict(table, H100, "unit", unit="cuda")
    assert slow.flops[0] / slow.sol_s[0] == pytest.approx(67e12)


@pytest.mark.parametrize(
    ("dtype", "overhead"),
    # metadata over values: 2 bits for each kept element of 8 b bits
    [("fp32", 1 / 16), ("tf32", 1 / 16), ("fp16", 1 / 8), ("bf16", 1 / 8), ("fp8", 1 / 4), ("int8", 1 / 4)],
)
def test_metadata_weighs_more_the_narrower_the_type(dtype: str, overhead: float) -> None:
    two_four = cost(CaseTable.from_columns(**SHAPE, format="nm", dtype=dtype, n=2, m=4), PRESETS["paper"])
    assert two_four.weight_bytes[0] == 4096 * BYTES[dtype] * (1 + overhead)
    pairs = cost(CaseTable.from_columns(**SHAPE, format="nm", dtype=dtype, n=1, m=2), PRESETS["paper"])
    # 1:2: 4 bits a pair in 32-bit types, as the hardware keeps it; one bit in others
    assert pairs.weight_bytes[0] == 4096 * BYTES[dtype] + 4096 * (4 if BYTES[dtype] == 4 else 1) / 8


@pytest.mark.parametrize(
    ("index", "break_even"), [(2, {2: 1 / 2, 1: 1 / 3, 4: 2 / 3}), (4, {2: 1 / 3, 1: 1 / 5, 4: 1 / 2})]
)
def test_density_at_which_csr_stores_less(index: int, break_even: dict[int, float]) -> None:
    """(b + i) d = b: indices of 4 bytes make fp8 pay only below a fifth."""
    side = 2**13
    for dtype in ("fp8", "fp16", "fp32"):
        d = break_even[BYTES[dtype]]
        nnz = [int(side * side * d * x) for x in (0.99, 1.01)]
        table = CaseTable.from_columns(M=side, K=side, N=1, format="csr", dtype=dtype, nnz=nnz)
        stored = cost(table, CostOptions(index_bytes=index)).weight_bytes / (BYTES[dtype] * side * side)
        assert stored[0] < 1 < stored[1]


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 10**5), st.sampled_from(list(FORMATS)))
def test_a_narrower_type_never_takes_longer(M: int, K: int, N: int, format: str) -> None:
    names = ["fp32", "tf32", "fp16", "fp8"]
    more: dict[str, Any] = {
        "csr": {"nnz": M * K // 2}, "bitmap": {"nnz": M * K // 2}, "nm": {"n": 2, "m": 4},
        "bsr": {"block_rows": 8, "block_cols": 8, "stored_blocks": 1},
    }  # fmt: skip
    table = CaseTable.from_columns(M=M, K=K, N=N, format=format, dtype=names, **more.get(format, {}))
    for preset in PRESETS:
        assert np.all(np.diff(predict(table, H100, preset).sol_s) <= 0)


@given(
    st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 10**5), st.integers(2, 9), st.sampled_from(list(FORMATS))
)
def test_more_columns_never_take_less_and_each_no_more(M: int, K: int, N: int, times: int, format: str) -> None:
    """Twice the columns cost between once and twice as much: the weight is read once."""
    more: dict[str, Any] = {
        "csr": {"nnz": M * K // 2}, "bitmap": {"nnz": M * K // 2}, "nm": {"n": 2, "m": 4},
        "bsr": {"block_rows": 8, "block_cols": 8, "stored_blocks": 1},
    }  # fmt: skip
    table = CaseTable.from_columns(M=M, K=K, N=[N, N * times], format=format, dtype="fp16", **more.get(format, {}))
    for preset in ("paper", "unit"):
        one, many = predict(table, H100, preset).sol_s
        assert one <= many <= times * one * (1 + 1e-12)
