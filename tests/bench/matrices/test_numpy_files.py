from __future__ import annotations

import io
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from sparsity_roofline.bench.matrices import read_matrix
from sparsity_roofline.bench.matrices.numpy_files import npz_shape
from sparsity_roofline.model.errors import UserError


@pytest.fixture
def dense() -> np.ndarray:
    random = np.random.default_rng(0)
    return np.where(random.random((12, 18)) < 0.3, random.normal(size=(12, 18)), 0).astype(np.float32)


def save(path: Path, **arrays: object) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def parts(**changes: object) -> dict[str, object]:
    """A correct 2 x 3 CSR file, with changes."""
    base: dict[str, object] = {
        "format": np.array(b"csr"),
        "shape": np.array([2, 3]),
        "indptr": np.array([0, 1, 3], dtype=np.int32),
        "indices": np.array([1, 0, 2], dtype=np.int32),
        "data": np.array([1.0, 2.0, 3.0]),
    }
    return {key: value for key, value in (base | changes).items() if value is not None}


@pytest.mark.parametrize("layout", ["csr", "csc", "coo", "bsr", "dia"])
@pytest.mark.parametrize("compressed", [True, False])
def test_every_scipy_format(tmp_path: Path, dense: np.ndarray, layout: str, compressed: bool) -> None:
    sp.save_npz(tmp_path / "m.npz", sp.csr_array(dense).asformat(layout), compressed=compressed)
    matrix = read_matrix(tmp_path / "m.npz")
    assert np.array_equal(matrix.to_dense(), dense)
    assert not matrix.seeded_values
    rows, cols, nnz, has_values = npz_shape(tmp_path / "m.npz")
    assert (rows, cols, has_values) == (12, 18, True)
    assert nnz >= matrix.nnz


def test_blocks_keep_their_zeros(tmp_path: Path) -> None:
    dense = np.zeros((4, 6), dtype=np.float32)
    dense[0, 0] = 1
    sp.save_npz(tmp_path / "m.npz", sp.bsr_array(dense, blocksize=(2, 3)))
    matrix = read_matrix(tmp_path / "m.npz")
    assert matrix.nnz == 6
    assert np.array_equal(matrix.to_dense(), dense)


def test_unsorted_rows_are_sorted_and_booleans_are_a_pattern(tmp_path: Path) -> None:
    unsorted = parts(indices=np.array([1, 2, 0], dtype=np.int32))
    matrix = read_matrix(save(tmp_path / "m.npz", **unsorted))
    assert matrix.to_dense().tolist() == [[0, 1, 0], [3, 0, 2]]
    matrix = read_matrix(save(tmp_path / "m.npz", **parts(data=np.array([True, True, True]))))
    assert matrix.seeded_values
    assert npz_shape(tmp_path / "m.npz") == (2, 3, 3, False)


def test_empty(tmp_path: Path) -> None:
    for layout in ("csr", "csc", "coo", "bsr", "dia"):
        sp.save_npz(tmp_path / "m.npz", sp.csr_array((3, 5), dtype=np.float32).asformat(layout))
        assert (read_matrix(tmp_path / "m.npz").shape, read_matrix(tmp_path / "m.npz").nnz) == ((3, 5), 0)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format": None}, "not a SciPy sparse matrix"),
        ({"format": np.array(b"xyz")}, "sparse format 'xyz'"),
        ({"format": np.array([b"csr", b"csr"])}, "sparse format"),
        ({"indices": None}, "no 'indices'"),
        ({"shape": np.array([2, 3, 4])}, "not two whole numbers"),
        ({"shape": np.array([2.0, 3.0])}, "not two whole numbers"),
        ({"shape": np.array([-2, 3])}, "negative"),
        ({"shape": np.array([2, 2**40])}, "more than 2147483647"),
        ({"shape": np.array([2**30, 3])}, "1073741824 rows"),
        ({"shape": np.array([3, 3])}, "3 offsets where 4 belong"),
        ({"indptr": np.array([0, 2, 1], dtype=np.int32)}, "decrease"),
        ({"indptr": np.array([1, 1, 3], dtype=np.int32)}, "the first offset is 1"),
        ({"indptr": np.array([0, 1, 9], dtype=np.int32)}, "the last offset is 9"),
        ({"indptr": np.array([0.0, 1.0, 3.0])}, "not whole numbers"),
        ({"indices": np.array([1, 0, 3], dtype=np.int32)}, "outside 0..2"),
        ({"indices": np.array([1, -1, 2], dtype=np.int32)}, "outside 0..2"),
        ({"indices": np.array([1, 2, 2], dtype=np.int32)}, "row 1, column 2 (from 0) occurs twice"),
        ({"indices": np.array([[1, 0, 2]], dtype=np.int32)}, "not one axis"),
        ({"indices": np.array([1, 0], dtype=np.int32)}, "different lengths"),
        ({"data": np.array([1.0, np.nan, 3.0])}, "value 1 is nan"),
        ({"data": np.array([1j, 1, 3.0])}, "not real numbers"),
        ({"data": np.array("x")}, "single number"),
        ({"data": np.array(["a", "b", "c"])}, "not real numbers"),
    ],
)
def test_malformed(tmp_path: Path, changes: dict[str, object], reason: str) -> None:
    path = save(tmp_path / "m.npz", **parts(**changes))
    with pytest.raises(UserError) as caught:
        read_matrix(path)
    assert reason in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("layout", ["coo", "csc", "bsr", "dia"])
def test_malformed_in_other_formats(tmp_path: Path, layout: str) -> None:
    kinds: dict[str, dict[str, object]] = {
        "coo": {"row": np.array([0, 5]), "col": np.array([0, 1]), "data": np.array([1.0, 2.0])},
        "csc": {"indptr": np.array([0, 1, 1, 2]), "indices": np.array([0, 7]), "data": np.array([1.0, 2.0])},
        "bsr": {"indptr": np.array([0, 1, 2]), "indices": np.array([0, 9]), "data": np.ones((2, 1, 1))},
        "dia": {"offsets": np.array([0, 1]), "data": np.ones(4)},
    }
    path = save(tmp_path / "m.npz", format=np.array(layout.encode()), shape=np.array([2, 3]), **kinds[layout])
    with pytest.raises(UserError, match=r"outside|diagonals"):
        read_matrix(path)


def test_a_block_size_that_does_not_divide_or_is_huge(tmp_path: Path) -> None:
    for shape, data in (((2, 3), np.ones((1, 2, 2))), ((2, 3), np.ones((1, 0, 3)))):
        arrays = {"indptr": np.array([0, 1]), "indices": np.array([0]), "data": data}
        path = save(tmp_path / "m.npz", format=np.array(b"bsr"), shape=np.array(shape), **arrays)
        with pytest.raises(UserError, match="do not fit"):
            read_matrix(path)
    arrays = {"indptr": np.array([0, 0]), "indices": np.array([], dtype=int), "data": np.ones((0, 1, 2**30))}
    path = save(tmp_path / "m.npz", format=np.array(b"bsr"), shape=np.array([1, 2**30]), **arrays)
    assert read_matrix(path).nnz == 0


def npy_with_shape(shape: tuple[int, ...], kind: str, body: bytes) -> bytes:
    header = repr({"descr": kind, "fortran_order": False, "shape": shape}).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body


def test_a_header_larger_than_the_file_is_refused_before_memory(tmp_path: Path) -> None:
    path = tmp_path / "m.npy"
    path.write_bytes(npy_with_shape((1 << 20, 1 << 20), "<f4", b"\0" * 64))
    with pytest.raises(UserError, match="truncated: shape"):
        read_matrix(path)
    with zipfile.ZipFile(tmp_path / "m.npz", "w") as archive:
        for name, array in parts(data=None).items():
            buffer = io.BytesIO()
            np.save(buffer, array)  # type: ignore[arg-type]
            archive.writestr(f"{name}.npy", buffer.getvalue())
        archive.writestr("data.npy", npy_with_shape((1 << 40,), "<f4", b"\0" * 64))
    with pytest.raises(UserError, match=r"m\.npz:data: truncated"):
        read_matrix(tmp_path / "m.npz")


class Evil:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.marker,))


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    evil = np.array([Evil(marker)], dtype=object)
    np.save(tmp_path / "m.npy", evil, allow_pickle=True)
    save(tmp_path / "m.npz", **parts(data=evil))
    (tmp_path / "raw.npz").write_bytes(pickle.dumps(Evil(marker)))
    for name, reason in (
        ("m.npy", "pickle; refused"),
        ("m.npz", "pickle; refused"),
        ("raw.npz", "not a readable .npz"),
    ):
        with pytest.raises(UserError, match=reason):
            read_matrix(tmp_path / name)
    assert not marker.exists()


def test_truncated_archive(tmp_path: Path, dense: np.ndarray) -> None:
    sp.save_npz(tmp_path / "m.npz", sp.csr_array(dense))
    data = (tmp_path / "m.npz").read_bytes()
    for length in range(0, len(data), 37):
        (tmp_path / "cut.npz").write_bytes(data[:length])
        with pytest.raises(UserError):
            read_matrix(tmp_path / "cut.npz")


def test_flipped_bytes_never_escape(tmp_path: Path, dense: np.ndarray) -> None:
    sp.save_npz(tmp_path / "m.npz", sp.csr_array(dense))
    data = (tmp_path / "m.npz").read_bytes()
    random = np.random.default_rng(1)
    for _ in range(150):
        broken = bytearray(data)
        broken[random.integers(len(data))] ^= 1 << random.integers(8)
        (tmp_path / "b.npz").write_bytes(broken)
        try:
            read_matrix(tmp_path / "b.npz")
        except UserError:
            continue


def test_dense_npy(tmp_path: Path, dense: np.ndarray) -> None:
    np.save(tmp_path / "m.npy", dense)
    assert np.array_equal(read_matrix(tmp_path / "m.npy").to_dense(), dense)
    np.save(tmp_path / "m.npy", np.asfortranarray(dense.astype(np.float64)))
    assert np.array_equal(read_matrix(tmp_path / "m.npy").to_dense(), dense)
    np.save(tmp_path / "conv.npy", np.ones((4, 3, 2, 2), dtype=np.float16))
    matrix = read_matrix(tmp_path / "conv.npy")
    assert (matrix.shape, str(matrix.pattern), matrix.nnz) == ((4, 12), "dense", 48)
    for array, reason in ((np.ones(3), "two axes"), (np.ones((2, 2)) * 1j, "not real"), (np.float32(1), "two axes")):
        np.save(tmp_path / "b.npy", array)
        with pytest.raises(UserError, match=reason):
            read_matrix(tmp_path / "b.npy")
    (tmp_path / "b.npy").write_bytes(b"\x93NUMPY\x01\x00\xff")
    with pytest.raises(UserError, match=r"not a \.npy array"):
        read_matrix(tmp_path / "b.npy")
