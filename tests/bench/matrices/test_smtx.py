from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsity_roofline.bench.matrices import read_matrix, write_matrix
from sparsity_roofline.bench.matrices.smtx import format_smtx, parse_smtx, smtx_header
from sparsity_roofline.bench.matrices.structure import Malformed

from .conftest import smtx_text


@st.composite
def mask_arrays(draw: st.DrawFn) -> np.ndarray:
    rows, cols = draw(st.integers(1, 12)), draw(st.integers(1, 40))
    density = draw(st.sampled_from([0.0, 0.05, 0.5, 1.0]))
    return np.random.default_rng(draw(st.integers(0, 1000))).random((rows, cols)) < density


@given(mask_arrays())
def test_reads_and_writes_byte_for_byte(mask: np.ndarray) -> None:
    text = smtx_text(mask).encode()
    matrix = parse_smtx(text, "x").matrix("x", 0)
    assert matrix.shape == mask.shape
    assert np.array_equal(matrix.to_dense() != 0, mask)
    assert format_smtx(matrix) == text
    assert smtx_header(text, "x") == (*mask.shape, int(mask.sum()))


def test_writes_many_numbers_without_a_seam() -> None:
    mask = np.ones((3, 700_000), dtype=bool)  # more than one piece of the writer
    matrix = parse_smtx(smtx_text(mask).encode(), "x").matrix("x", 0)
    assert format_smtx(matrix) == smtx_text(mask).encode()


@pytest.mark.parametrize(
    "text",
    [
        "%% a comment\n% another\n2 3 3\n0 1 3\n1 0 2\n",
        "%c\n2,3,3\n0 1 3\n1 0 2",
        "2 3 3\n0 1 3\n1 0 2",
        "2, 3, 3\r\n0 1 3 \r\n1 0 2 \r\n",
        "2 , 3 , 3\n0\t1  3\n1 0 2\n\n",
    ],
)
def test_second_dialect(text: str) -> None:
    csr = parse_smtx(text.encode(), "x")
    assert csr.shape == (2, 3)
    assert csr.indptr.tolist() == [0, 1, 3]
    assert csr.indices.tolist() == [1, 0, 2]


def test_no_elements_no_rows_no_columns() -> None:
    assert parse_smtx(b"2, 3, 0\n0 0 0 \n\n", "x").indices.tolist() == []
    assert parse_smtx(b"0, 3, 0\n0 \n\n", "x").shape == (0, 3)
    assert parse_smtx(b"2, 0, 0\n0 0 0 \n\n", "x").shape == (2, 0)


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        ("", "f.smtx:1:", "empty file"),
        ("\n2, 3, 3\n", "f.smtx:1:", "empty line"),
        ("% only\n% comments", "f.smtx:2:", "no header"),
        ("abc\n", "f.smtx:1:", "the header is not"),
        ("2, 3\n0 1 3\n1 0 2\n", "f.smtx:1:", "the header is not"),
        ("2, 3, 3, 4\n0 1 3\n1 0 2\n", "f.smtx:1:", "the header is not"),
        ("2, 3.5, 3\n0 1 3\n1 0 2\n", "f.smtx:1:", "the header is not"),
        ("-2, 3, 3\n0 1 3\n1 0 2\n", "f.smtx:1:", "negative number in the header"),
        ("2, 3, 7\n0 1 7 \n1 0 2 \n", "f.smtx:1:", "has room for 6"),
        ("2, 99999999999, 3\n0 1 3 \n1 0 2 \n", "f.smtx:1:", "more than 2147483647"),
        ("99999999999999999999999, 3, 3\n0 1 3 \n1 0 2 \n", "f.smtx:1:", "the header is not"),
        ("2000000000, 3, 3\n0 1 3 \n1 0 2 \n", "f.smtx:1:", "the file has"),
        ("2000000, 3, 3\n0 1 3 \n1 0 2 \n", "f.smtx:1:", "truncated"),
        ("2, 2000000000, 2000000000\n0 1 3 \n1 0 2 \n", "f.smtx:1:", "truncated"),
        ("2, 3, 3\n", "f.smtx:1:", "truncated"),
        ("2, 3, 3\n0 1 3 1 0 2 \n", "f.smtx:2:", "6 numbers where 3 belong"),
        ("2, 3, 3\n0 1 \n1 0 2 0 1 2 \n", "f.smtx:2:", "truncated"),
        ("2, 3, 3\n0 1    \n1 0 2 \n", "f.smtx:2:", "2 numbers where 3 belong"),
        ("2, 3, 3\n0 1 3 3 \n1 0 2 \n", "f.smtx:2:", "4 numbers where 3 belong"),
        ("2, 3, 3\n1 1 3 \n1 0 2 \n", "f.smtx:2:", "the first row offset is 1"),
        ("3, 3, 3\n0 2 1 3 \n1 0 2 \n", "f.smtx:2:", "decrease from 2 to 1 at row 1"),
        ("2, 3, 3\n0 1 2 \n1 0 2 \n", "f.smtx:2:", "the last row offset is 2"),
        ("2, 3, 3\n0 4 3 \n1 0 2 \n", "f.smtx:2:", "4 is larger than 3"),
        ("2, 3, 3\n0 1 3 \n1 0 \n", "f.smtx:3:", "truncated"),
        ("2, 3, 3\n0 1 3 \n1 0    \n", "f.smtx:3:", "2 numbers where 3 belong"),
        ("2, 3, 3\n0 1 3 \n1 0 2 2 \n", "f.smtx:3:", "4 numbers where 3 belong"),
        ("2, 3, 3\n0 1 3 \n1 0 3 \n", "f.smtx:3:", "3 is larger than 2"),
        ("2, 3, 3\n0 1 3 \n1 2 0 \n", "f.smtx:3:", "row 1: column 0 follows 2: unsorted"),
        ("2, 3, 3\n0 1 3 \n1 2 2 \n", "f.smtx:3:", "row 1: column 2 occurs twice"),
        ("2, 3, 3\n0 1 3 \n1 -1 2 \n", "f.smtx:3:", "negative number -1"),
        ("2, 3, 3\n0 1 3 \n1 a 2 \n", "f.smtx:3:", "'a' is not a number"),
        ("2, 3, 3\n0 1 3 \n1 0 2", "f.smtx:3:", "truncated"),
        ("2, 3, 3\n0 1 3 \n1 0 2 \n5\n", "f.smtx:4:", "text after"),
        ("% c\n2 3 3\n0 1 3\n1 0 7\n", "f.smtx:4:", "7 is larger than 2"),
    ],
)
def test_malformed(tmp_path: Path, text: str, place: str, reason: str) -> None:
    file = tmp_path / "f.smtx"
    file.write_bytes(text.encode())
    with pytest.raises(Malformed) as caught:
        read_matrix(file)
    assert place in str(caught.value)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_cut_of_a_file_is_refused_or_complete() -> None:
    mask = np.random.default_rng(3).random((6, 30)) < 0.4
    text = smtx_text(mask).encode()
    for length in range(len(text)):
        try:
            found = parse_smtx(text[:length], "x")
        except Malformed:
            continue
        assert np.array_equal(found.matrix("x", 0).to_dense() != 0, mask), length
        assert length >= len(text) - 2  # only the last separator and newline can be missed


def test_huge_header_numbers_take_no_memory() -> None:
    texts = [
        f"{rows}, {cols}, {nnz}\n0 1 \n0 \n".encode() for rows in (1, 10**9) for cols in (10**9,) for nnz in (10**9,)
    ]
    tracemalloc.start()
    for text in texts:
        with pytest.raises(Malformed):
            parse_smtx(text, "x")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


@given(st.binary(max_size=200))
def test_arbitrary_bytes_end_in_one_way(data: bytes) -> None:
    try:
        csr = parse_smtx(data, "x")
    except Malformed:
        return
    assert len(csr.indptr) == csr.shape[0] + 1
    assert csr.indptr[-1] == len(csr.indices)


def test_written_file_is_read_again_with_the_same_structure(tmp_path: Path) -> None:
    file = tmp_path / "m.smtx"
    file.write_text(smtx_text(np.eye(5, 7) != 0))
    matrix = read_matrix(file, seed=4)
    assert matrix.seeded_values
    write_matrix(matrix, tmp_path / "again.smtx")
    assert (tmp_path / "again.smtx").read_bytes() == file.read_bytes()
    again = read_matrix(tmp_path / "again.smtx", name="m", seed=4)
    assert np.array_equal(again.values, matrix.values)
    assert not np.array_equal(read_matrix(file, seed=5).values, matrix.values)
