"""Declared patterns: hand-worked, equal to the built-in formulas where both exist, and only arithmetic is let in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsity_roofline.model import hardware, roofline
from sparsity_roofline.model.assumed import change
from sparsity_roofline.model.cost import PRESETS, CostOptions, cost
from sparsity_roofline.model.declared import Declared, find, library, read
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.pattern import Pattern
from sparsity_roofline.model.table import CaseTable

H100 = hardware.datasheet("h100")


@pytest.mark.parametrize(
    ("name", "density", "operations", "stored"),
    [
        # W is 128 x 64 in fp16, X has 10 columns: 2 * 128 * 64 * 10 = 163840 dense operations, 16384 dense bytes.
        # a quarter kept: 2048 values, 2 bits each, and 2 x 8 groups of 4 columns with 3 bits
        ("64:2:8", 0.25, 40960, 4096 + 512 + 16 * 4 * 3 / 8),
        # an eighth: 1024 values, 2 bits each, 2 x 4 groups of 4 columns with 4 bits
        ("64:2:16", 0.125, 20480, 2048 + 256 + 8 * 4 * 4 / 8),
        ("1:4 on 2:4 units", 0.25, 81920, 4096 + 512),
        # 819.2 values, an index for every 8, 17 offsets
        ("vector8", 0.1, 16384, 0.1 * (2 + 4 / 8) * 8192 + 4 * 17),
        ("vector8 on CUDA cores", 0.1, 16384, 0.1 * (2 + 4 / 8) * 8192 + 4 * 17),
        ("unstructured on CUDA cores", 0.1, 16384, 0.1 * 6 * 8192 + 4 * 129),
        # half of the 8 blocks of 1024, each half full: 2048 values with 2 bits, 4 indices, 5 offsets
        ("block32+2:4", 0.25, 40960, 4096 + 512 + 4 * 4 + 4 * 5),
        ("bitmap", 0.1, 163840, 0.1 * 2 * 8192 + 1024),
    ],
)
def test_the_library_is_hand_worked(name: str, density: float, operations: float, stored: float) -> None:
    c = library()[name].cost(128, 64, 10, density, "fp16")
    assert c.flops[0] == pytest.approx(operations)
    assert c.weight_bytes[0] == pytest.approx(stored)
    assert (c.input_bytes[0], c.output_bytes[0]) == (2 * 64 * 10, 2 * 128 * 10)


def test_every_pattern_of_the_library_is_tried_above() -> None:
    assert len(library()) == 8
    for name, pattern in library().items():
        assert pattern.name == name
        assert pattern.description
        assert find(name) is pattern


shapes = st.tuples(st.integers(1, 500), st.integers(1, 500), st.integers(1, 5000))


@given(shapes, st.sampled_from(["fp32", "fp16", "int8", "fp8"]), st.integers(1, 1000))
def test_a_declaration_of_csr_is_csr(shape: tuple[int, int, int], dtype: str, part: int) -> None:
    M, K, N = shape
    nnz = M * K * part // 1000
    mine = Declared("mine", "(b + i) * d * M * K + p * (M + 1)").cost(M, K, N, nnz / (M * K), dtype)
    theirs = cost(CaseTable.from_columns(M=M, K=K, N=N, format="csr", dtype=dtype, nnz=nnz), PRESETS["paper"])
    assert mine.flops[0] == pytest.approx(theirs.flops[0], rel=1e-12)
    assert mine.bytes[0] == pytest.approx(theirs.bytes[0], rel=1e-12)


@given(st.integers(1, 200), st.integers(1, 100), st.integers(1, 5000), st.sampled_from(["fp16", "int8"]))
def test_a_declaration_of_two_four_is_two_four(M: int, groups: int, N: int, dtype: str) -> None:
    K = 4 * groups
    mine = Declared("mine", "b * M * K / 2 + M * K / 8", "M * K * N", density=0.5)
    theirs = roofline.predict(CaseTable.from_columns(M=M, K=K, N=N, format="nm", dtype=dtype, n=2, m=4), H100)
    assert mine.sol(M, K, N, 0.5, dtype, H100).latency_s[0] == pytest.approx(theirs.sol_s[0], rel=1e-12)
    sparse = Declared("mine", mine.storage, "2 * M * K * N", peak="sparse", density=0.5)
    full = roofline.predict(
        CaseTable.from_columns(M=M, K=K, N=N, format="nm", dtype=dtype, n=2, m=4), H100,
        options=CostOptions(nm_work="full_at_sparse_peak"),
    )  # fmt: skip
    assert sparse.sol(M, K, N, 0.5, dtype, H100).latency_s[0] == pytest.approx(full.sol_s[0], rel=1e-12)


@given(st.sampled_from(sorted(library())), shapes, st.floats(0.01, 0.5), st.floats(1, 20), st.integers(2, 9))
def test_time_is_monotone(name: str, shape: tuple[int, int, int], density: float, times: float, more: int) -> None:
    """More is kept, more columns, less bandwidth: never faster."""
    M, K, N = shape
    pattern = library()[name]
    d = pattern.density or density

    def seconds(n: int, kept: float, ceilings: Any = H100) -> float:
        return float(pattern.sol(M, K, n, kept, "fp16", ceilings).latency_s[0])

    base = seconds(N, d)
    assert seconds(N * more, d) >= base
    assert seconds(N, d, change(H100, {"dram_bandwidth": f"x{times}"})) <= base
    if pattern.density is None:
        assert seconds(N, d / 2) <= base


@pytest.mark.parametrize(
    ("peak", "rate"), [("dtype", 989.5e12), ("tensor", 989.5e12), ("cuda", 67e12), ("sparse", 1979e12)]
)
def test_which_peak(peak: Any, rate: float) -> None:
    assert Declared("mine", "b", peak=peak).rate("fp16", H100) == pytest.approx(rate, rel=1e-3)


def test_options_reach_declared_patterns() -> None:
    pattern = library()["vector8"]
    found = pattern.cost(128, 64, 10, 0.1, "fp16", CostOptions(index_bytes=2, pointer_bytes=8, output_bytes="none"))
    assert found.weight_bytes[0] == pytest.approx(0.1 * (2 + 2 / 8) * 8192 + 8 * 17)
    assert found.output_bytes[0] == 0
    narrow = pattern.cost(128, 64, 10, 0.1, "fp16", CostOptions(weight_bytes=0.5))
    assert narrow.weight_bytes[0] == pytest.approx(0.1 * (0.5 + 4 / 8) * 8192 + 4 * 17)


@pytest.mark.parametrize(
    ("text", "value"),
    [("ceil(M / 3)", 3), ("floor(7 / 2)", 3), ("-M + 2 ** 4", 9), ("max(M, K)", 11), ("min(M, K) // 2", 3),
     ("log2(8)", 3), ("sqrt(16)", 4), ("+d * 10", 5)],
)  # fmt: skip
def test_expressions(text: str, value: float) -> None:
    assert Declared("mine", text).cost(7, 11, 3, 0.5, "fp16").weight_bytes.tolist() == [value]


@pytest.mark.parametrize(
    "text",
    ["", "M +", "x * M", "__import__('os')", "M.__class__", "[M]", "M if K else N", "lambda: 1", "M @ K", "ceil(M, K)",
     "ceil(x=M)", "open('f')", "'M'", "True", "(M)(K)", "M < K", "M and K"],
)  # fmt: skip
def test_anything_but_arithmetic_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="pattern mine: storage"):
        Declared("mine", text)


def test_figures_that_are_none(tmp_path: Path) -> None:
    for text in ("M / (K - K)", "log2(0)", "d - 1"):
        with pytest.raises(UserError, match="negative or no number"):
            Declared("mine", text).cost(4, 4, 4, 0.5, "fp16")
    assert np.isfinite(Declared("mine", "0").cost(4, 4, 4, 0.5, "fp16").bytes).all()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[mine]\n", "storage is missing"),
        ("mine = 3\n", "must be a table"),
        ("[mine]\nstorage = 'b'\ncolour = 1\n", "unknown key 'colour'"),
        ("[mine]\nstorage = 'b'\npeak = 'gpu'\n", "choose one of dtype"),
        ("[mine]\nstorage = 'b'\ndensity = 2\n", "not a number in"),
        ("[mine]\nstorage = 'b'\nmax_density = 0\n", "not a number in"),
        ("['2:4']\nstorage = 'b'\n", "name is taken"),
        ("[mine", "mine.toml"),
    ],
)
def test_files_that_declare_nothing(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=said):
        read(path)


def test_names(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('["3 of 7"]\nstorage = "3 / 7 * b * M * K"\ndensity = 0.42857\n')
    more = read(path)
    assert find("3 of 7", more) is more["3 of 7"]
    assert find("4:8") == Pattern.parse("4:8")
    with pytest.raises(UserError, match="64:2:8"):
        find("3 of 7")
    with pytest.raises(UserError, match="cannot read"):
        read(tmp_path / "nowhere.toml")
