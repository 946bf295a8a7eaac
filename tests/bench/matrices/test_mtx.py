from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from sparsity_roofline.bench.matrices import read_matrix
from sparsity_roofline.bench.matrices.mtx import mtx_header
from sparsity_roofline.model.errors import UserError

GENERAL = "%%MatrixMarket matrix coordinate real general\n% a comment\n\n2 3 3\n2 1 -1.5\n1 2 2\n2 3 1e-3\n"


def read(tmp_path: Path, text: str, **more: object) -> np.ndarray:
    (tmp_path / "m.mtx").write_text(text)
    return read_matrix(tmp_path / "m.mtx", **more).to_dense()


def test_general_in_any_order(tmp_path: Path) -> None:
    expected = np.array([[0, 2, 0], [-1.5, 0, 1e-3]], dtype=np.float32)
    assert np.array_equal(read(tmp_path, GENERAL), expected)
    assert np.array_equal(read(tmp_path, GENERAL, transpose=True), expected.T)


@pytest.mark.parametrize(
    ("symmetry", "mirrored"), [("symmetric", 5.0), ("skew-symmetric", -5.0)], ids=["symmetric", "skew"]
)
def test_symmetric_storage_is_expanded(tmp_path: Path, symmetry: str, mirrored: float) -> None:
    text = f"%%MatrixMarket matrix coordinate real {symmetry}\n3 3 2\n2 1 5\n3 2 7\n"
    expected = np.zeros((3, 3))
    expected[1, 0], expected[0, 1], expected[2, 1], expected[1, 2] = 5, mirrored, 7, 7 * mirrored / 5
    assert np.array_equal(read(tmp_path, text), expected)


def test_pattern_gets_seeded_values_and_integers_keep_theirs(tmp_path: Path) -> None:
    pattern = "%%MatrixMarket matrix coordinate pattern general\n2 2 2\n1 1\n2 2\n"
    dense = read(tmp_path, pattern)
    assert np.array_equal(dense != 0, np.eye(2) != 0)
    assert not np.array_equal(dense, read(tmp_path, pattern, seed=1))
    integers = "%%MatrixMarket matrix coordinate integer general\n2 2 1\n1 2 -7\n"
    assert read(tmp_path, integers).tolist() == [[0, -7], [0, 0]]


def test_stored_zero_stays_stored(tmp_path: Path) -> None:
    (tmp_path / "m.mtx").write_text("%%MatrixMarket matrix coordinate real general\n2 2 2\n1 1 0.0\n2 2 1\n")
    assert read_matrix(tmp_path / "m.mtx").nnz == 2


def test_dense_array_by_columns(tmp_path: Path) -> None:
    text = "%%MatrixMarket matrix array real general\n2 2\n1\n0\n3\n4\n"
    assert read(tmp_path, text).tolist() == [[1, 3], [0, 4]]
    text = "%%MatrixMarket matrix array real symmetric\n2 2\n1\n2\n3\n"
    assert read(tmp_path, text).tolist() == [[1, 2], [2, 3]]


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_lines_are_checked_over_the_seams_of_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr("sparsity_roofline.bench.matrices.mtx._CHUNK", chunk)
    assert read(tmp_path, GENERAL).shape == (2, 3)
    assert read(tmp_path, GENERAL.replace("2 3 1e-3\n", "\n  2\t3 1e-3\r\n\n")).shape == (2, 3)
    with pytest.raises(UserError, match=r"m\.mtx:7: 2 words"):
        read(tmp_path, GENERAL.replace("2 3 1e-3", "2 3"))


def test_empty(tmp_path: Path) -> None:
    assert read(tmp_path, "%%MatrixMarket matrix coordinate real general\n3 4 0\n").shape == (3, 4)


REAL = "%%MatrixMarket matrix coordinate real general\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "m.mtx:1: the first line"),
        ("hello\n1 1 1\n", "m.mtx:1: the first line"),
        ("%%MatrixMarket matrix coordinate complex general\n1 1 1\n1 1 1 1\n", "m.mtx:1: a complex general"),
        ("%%MatrixMarket matrix coordinate complex hermitian\n1 1 1\n1 1 1 1\n", "m.mtx:1: a complex hermitian"),
        ("%%MatrixMarket matrix coordinate real upper\n1 1 1\n", "m.mtx:1: unknown field or symmetry"),
        ("%%MatrixMarket matrix diagonal real general\n1 1 1\n", "m.mtx:1: format 'diagonal'"),
        ("%%MatrixMarket matrix coordinate real symmetric\n1 2 1\n1 1 1\n", "m.mtx:2: symmetric, but 1 x 2"),
        (REAL, "m.mtx:2: the size line"),
        (REAL + "2 2\n", "m.mtx:2: the size line"),
        (REAL + "% c\n2 two 1\n", "m.mtx:3: the size line"),
        (REAL + "-2 2 1\n1 1 1\n", "m.mtx:2: negative"),
        (REAL + "2 2 5\n1 1 1\n", "m.mtx:2: the header says 5 elements"),
        (REAL + "2 99999999999 1\n1 1 1\n", "m.mtx:2: the header says 2 x 99999999999"),
        (REAL + "2000000000 2 1\n1 1 1\n", "m.mtx:2: the header says 2000000000 rows"),
        (REAL + "20000 20000 300000000\n1 1 1\n", "m.mtx:2: truncated"),
        ("%%MatrixMarket matrix array real general\n30000 30000\n1\n", "m.mtx:2: truncated"),
        (REAL + "2 2 3\n1 1 1.123456789\n1 2 2.123456789\n", "m.mtx:2: 2 entries, but the size line says 3"),
        (REAL + "2 2 1\n1 1 1\n2 2 2\n", "m.mtx:2: 2 entries, but the size line says 1"),
        (REAL + "2 2 1\n1 1 1\0\n", "m.mtx:3: byte 0x00 is no text"),
        (REAL + "2 2 2\n1 1 1\n\n2 2 1\xe9\n", "m.mtx:5: byte 0xc3 is no text"),
        (REAL + "2 2 1\n1 1 1 5\n", "m.mtx:3: 4 words, where an entry has 3"),
        (REAL + "2 2 2\n1 1 1.0\n1 2\n", "m.mtx:4: 2 words, where an entry has 3"),
        (REAL + "2 2 1\n% late\n1 1 1\n", "m.mtx:3: 2 words"),
        (REAL + "2 2 1\n1 1 " + "1" * 100000 + " 1\n", "m.mtx:3: "),
        ("%%MatrixMarket matrix coordinate pattern general\n2 2 1\n1 1 1\n", "m.mtx:3: 3 words, where an entry has 2"),
        ("%%MatrixMarket matrix array real general\n2 1\n1 2\n3\n", "m.mtx:3: 2 words, where an entry has 1"),
        (REAL + "2 2 1\n3 1 1\n", "m.mtx:3: index 3 is outside 1..2"),
        (REAL + "2 2 1\n\n0 1 1\n", "m.mtx:4: index 0 is outside 1..2"),
        (REAL + "2 2 1\n1 -1 1\n", "m.mtx:3: index -1 is outside 1..2"),
        (REAL + "2 2 1\na 1 1\n", "m.mtx:3: 'a' is not a whole number"),
        (REAL + "2 2 1\n1.5 1 1\n", "m.mtx:3: '1.5' is not a whole number"),
        (REAL + "2 2 1\n99999999999999999999 1 1\n", "m.mtx:3: '99999999999999999999' is not a whole number"),
        (REAL + "2 2 2\n2 2 1.5\n1 1 1.5x\n", "m.mtx:4: '1.5x' is not a number"),
        (REAL + "2 2 2\n2 2 1.5\n1 1 1.5p", "m.mtx:4: '1.5p' is not a number"),
        (REAL + '2 2 1\n1 1 "1.5"\n', "is not a number"),
        (REAL + "2 2 2\n1 1 1\n1 1 2\n", "row 0, column 0 (from 0) occurs twice"),
        (REAL + "2 2 1\n1 1 nan\n", "m.mtx:3: 'nan' is not a number"),
        (REAL + "2 2 1\n1 1 inf\n", "inf"),
        (REAL + "2 2 1\n1 1 1e60\n", "not a finite float32"),
        ("%%MatrixMarket matrix coordinate real symmetric\n2 2 2\n1 2 1\n2 1 1\n", "occurs twice"),
    ],
)
def test_malformed(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(UserError) as caught:
        read(tmp_path, text)
    assert reason in str(caught.value)
    assert "m.mtx" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_huge_header_numbers_take_no_memory(tmp_path: Path) -> None:
    (tmp_path / "m.mtx").write_text(REAL + "100000 100000 1000000000\n1 1 1\n")
    tracemalloc.start()
    with pytest.raises(UserError):
        mtx_header(tmp_path / "m.mtx")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000
