"""The struct of arrays: same rows however it is made, and contradictions refused with the row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsity_roofline.model.case import Case
from sparsity_roofline.model.cost import PRESETS, cost
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.expect import expected_case
from sparsity_roofline.model.pattern import Pattern
from sparsity_roofline.model.table import CaseTable

GOOD = {"M": 6, "K": 8, "N": 5, "format": "csr", "dtype": "fp16", "nnz": 7}


def case(pattern: str, M: int, K: int, N: int, sparsity: float, dtype: str) -> Case:
    return expected_case(M, K, N, Pattern.parse(pattern), sparsity, dtype)


@given(
    st.lists(
        st.builds(
            case,
            st.sampled_from(["dense", "unstructured", "block4x8", "block16", "2:4", "1:4"]),
            st.integers(1, 300),
            st.integers(1, 300),
            st.integers(1, 300),
            st.floats(0, 1),
            st.sampled_from(["fp32", "fp16", "int8", "tf32"]),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_rows_are_independent(cases: list[Case]) -> None:
    """A table costs what its cases cost one at a time, in order."""
    table = CaseTable.of(cases)
    assert table.format.tolist() == [c.format for c in cases]
    assert table.dtype.tolist() == [c.dtype for c in cases]
    for options in PRESETS.values():
        together = cost(table, options, l2_bytes=1000)
        alone = [cost(CaseTable.of([c]), options, l2_bytes=1000) for c in cases]
        assert together.flops.tolist() == [float(a.flops[0]) for a in alone]
        assert together.bytes.tolist() == [float(a.bytes[0]) for a in alone]


@given(
    st.sampled_from(["dense", "unstructured", "block4x8", "2:4", "3:8"]),
    st.integers(1, 99),
    st.integers(1, 99),
    st.floats(0, 1),
)
def test_stored_elements_agree_with_the_case(pattern: str, M: int, K: int, sparsity: float) -> None:
    """Two operations per stored element and column: the harness's count and the model's are one."""
    one = case(pattern, M, K, 1, sparsity, "fp32")
    assert cost(CaseTable.of([one]), PRESETS["paper"]).flops[0] == 2 * one.stored_elements


def test_from_columns_equals_of() -> None:
    cases = [case("unstructured", 20, 30, 4, 0.7, "fp16"), case("block4x8", 20, 30, 4, 0.5, "fp32")]
    made = CaseTable.from_columns(
        **{name: [getattr(c, name) for c in cases] for name in ("M", "K", "N", "format", "dtype", "nnz")},
        stored_blocks=[0, cases[1].stored_blocks],
        block_rows=[0, 4],
        block_cols=[0, 8],
        used_columns=[c.used_columns for c in cases],
    )
    of = CaseTable.of(cases)
    for name in of.__dataclass_fields__:
        assert getattr(made, name).tolist() == getattr(of, name).tolist(), name


def test_scalars_are_repeated_and_defaults_filled() -> None:
    table = CaseTable.from_columns(M=[4, 8, 9], K=8, N=2, format=["dense", "nm", "bsr"], dtype="fp16",
                                   n=2, m=4, stored_blocks=[0, 0, 3], block_rows=4, block_cols=4)  # fmt: skip
    assert len(table) == 3
    assert table.nnz.tolist() == [32, 32, 48]
    assert table.used_columns.tolist() == [8, 8, 8]


def test_empty_tables() -> None:
    assert len(CaseTable.of([])) == 0
    assert len(CaseTable.from_columns(M=[], K=[], N=[], format=[], dtype=[])) == 0
    assert len(CaseTable.from_columns(M=[], K=8, N=1, format="dense", dtype="fp16").as_dense()) == 0


def test_take_and_as_dense() -> None:
    table = CaseTable.from_columns(M=[4, 8], K=8, N=2, format="csr", dtype="fp16", nnz=[1, 2], used_columns=1)
    assert table.take([1]).M.tolist() == [8]
    plain = table.as_dense()
    assert plain.format.tolist() == ["dense", "dense"]
    assert plain.nnz.tolist() == [32, 64]
    assert plain.used_columns.tolist() == [8, 8]
    assert plain.dtype.tolist() == table.dtype.tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nnz": 49}, "row 0: nnz exceeds"),
        ({"nnz": [7, 7, 49]}, "row 2: nnz exceeds"),
        ({"nnz": -1}, "nnz is negative"),
        ({"M": -6}, "M is negative"),
        ({"used_columns": 9}, "used_columns exceeds K"),
        ({"M": 2**40, "K": 2**40}, "63 bits"),
        ({"M": 6.5}, "whole numbers"),
        ({"nnz": np.nan}, "whole numbers"),
        ({"format": "coo"}, "unknown format 'coo'"),
        ({"dtype": "fp12"}, "unknown dtype 'fp12'"),
        ({"format": "nm"}, "0 < n <= m"),
        ({"format": "nm", "n": 5, "m": 4}, "0 < n <= m"),
        ({"format": "bsr", "nnz": 0}, "needs block_rows"),
        ({"format": "bsr", "block_rows": 4, "block_cols": 4, "stored_blocks": 5}, "number of blocks"),
        ({"columns": 3}, "unknown column 'columns'"),
        ({"M": [1, 2], "K": [1, 2, 3]}, "expected 3 rows"),
    ],
)
def test_contradictions_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        CaseTable.from_columns(**{**GOOD, **change})


@pytest.mark.parametrize("gone", ["M", "N", "format", "nnz"])
def test_missing_columns_are_named(gone: str) -> None:
    with pytest.raises(UserError, match=f"'{gone}'"):
        CaseTable.from_columns(**{k: v for k, v in GOOD.items() if k != gone})


def test_a_case_of_an_unknown_dtype_is_refused() -> None:
    good = case("dense", 4, 4, 4, 0, "fp16")
    with pytest.raises(UserError, match="unknown dtype 'fp12'"):
        CaseTable.of([Case(**{**good.to_dict(), "dtype": "fp12"})])
