from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sparsity_roofline.bench.matrices import files as files_module
from sparsity_roofline.bench.matrices import open_collection, read_matrix, synthetic, write_matrix
from sparsity_roofline.bench.matrices.files import WRITABLE, peek
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.matrix import Matrix
from sparsity_roofline.model.pattern import Pattern

VALUED = [suffix for suffix in WRITABLE if suffix != ".smtx"]


@st.composite
def matrices(draw: st.DrawFn) -> Matrix:
    """Any mask; values over float32's range, stored zeros among them."""
    shape = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    random = np.random.default_rng(draw(st.integers(0, 1000)))
    mask = random.random(shape) < draw(st.sampled_from([0.0, 0.3, 1.0]))
    values = st.floats(width=32, allow_nan=False, allow_infinity=False)
    dense = np.array(draw(st.lists(values, min_size=mask.size, max_size=mask.size)), dtype=np.float32).reshape(shape)
    return Matrix.from_dense("m", dense, mask)


@pytest.mark.parametrize("suffix", VALUED)
@given(matrix=matrices())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
def test_round_trip_keeps_every_bit(tmp_path: Path, suffix: str, matrix: Matrix) -> None:
    path = tmp_path / f"m{suffix}"
    write_matrix(matrix, path)
    again = read_matrix(path)
    assert again.shape == matrix.shape
    assert np.array_equal(again.indptr, matrix.indptr)
    assert np.array_equal(again.indices, matrix.indices)
    assert np.array_equal(again.values, matrix.values)
    assert (again.indptr.dtype, again.indices.dtype, again.values.dtype) == (np.int64, np.int32, np.float32)
    found = peek(path)
    assert (found.rows, found.cols) == matrix.shape
    assert found.nnz >= matrix.nnz
    assert [entry.name for entry in tmp_path.iterdir() if "partial" in entry.name] == []


@pytest.mark.parametrize("suffix", WRITABLE)
@pytest.mark.parametrize("pattern", ["2:4", "block16x16"])
def test_the_pattern_is_found_again(tmp_path: Path, suffix: str, pattern: str) -> None:
    matrix = synthetic((64, 96), pattern, None if pattern == "2:4" else 0.75)
    write_matrix(matrix, tmp_path / f"m{suffix}")
    assert read_matrix(tmp_path / f"m{suffix}").pattern == matrix.pattern
    collection = open_collection(str(tmp_path / f"m{suffix}"))
    (info,) = collection.infos()
    assert (info.pattern, info.nnz) == (matrix.pattern, matrix.nnz)
    assert collection.load(info.name).digest == matrix.digest


def test_a_dense_weight_round_trips(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)
    write_matrix(Matrix.dense("w", weight), tmp_path / "w.safetensors")
    again = read_matrix(tmp_path / "w.safetensors")
    assert str(again.pattern) == "dense"
    assert np.array_equal(again.dense_operand(), weight)


def test_a_claimed_pattern_is_checked(tmp_path: Path) -> None:
    write_matrix(synthetic((64, 64), "unstructured", 0.5), tmp_path / "m.npz")
    with pytest.raises(UserError, match="not 2:4: row 0 holds more than 2"):
        read_matrix(tmp_path / "m.npz", pattern=Pattern.parse("2:4"))


@pytest.mark.parametrize("suffix", WRITABLE)
def test_transposed(tmp_path: Path, suffix: str) -> None:
    matrix = synthetic((10, 7), "unstructured", 0.6)
    write_matrix(matrix, tmp_path / f"m{suffix}")
    path = tmp_path / f"m{suffix}"
    turned = read_matrix(path, transpose=True)
    assert np.array_equal(turned.to_dense() != 0, (matrix.to_dense() != 0).T)
    assert (peek(path, transpose=True).rows, peek(path, transpose=True).cols) == (7, 10)


def test_other_suffixes_and_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = synthetic((4, 4), "unstructured", 0.5)
    with pytest.raises(UserError, match="write a matrix as"):
        write_matrix(matrix, tmp_path / "m.txt")
    with pytest.raises(UserError, match="cannot be written: No such file"):
        write_matrix(matrix, tmp_path / "nowhere" / "m.npz")
    with pytest.raises(UserError, match="No such file"):
        read_matrix(tmp_path / "nothing.mtx")
    with pytest.raises(UserError, match="Is a directory"):
        read_matrix(tmp_path)
    (tmp_path / "picture").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)))
    with pytest.raises(UserError, match="no known matrix format"):
        read_matrix(tmp_path / "picture")
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(UserError, match="no known matrix format"):
        read_matrix(tmp_path / "empty")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files_module.numpy_files, "write_npz", full)
    with pytest.raises(UserError, match="No space left"):
        write_matrix(matrix, tmp_path / "m.npz")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["empty", "picture"]


def test_content_wins_over_a_missing_suffix(tmp_path: Path) -> None:
    matrix = synthetic((6, 8), "unstructured", 0.5)
    for suffix in (".smtx", ".mtx", ".safetensors"):
        write_matrix(matrix, tmp_path / f"m{suffix}")
        bare = tmp_path / f"bare{suffix[1:]}"
        bare.write_bytes((tmp_path / f"m{suffix}").read_bytes())
        assert read_matrix(bare).digest == matrix.digest


def test_a_folder_of_files(tmp_path: Path) -> None:
    matrix = synthetic((6, 8), "unstructured", 0.5)
    (tmp_path / "set" / "deep").mkdir(parents=True)
    for name in ("a.smtx", "a.npz", "deep/b.mtx"):
        write_matrix(matrix, tmp_path / "set" / name)
    np.save(tmp_path / "set" / "c.npy", np.ones((3, 4)))
    (tmp_path / "set" / "notes.txt").write_text("no matrix")
    collection = open_collection(str(tmp_path / "set"))
    infos = {info.name: info for info in collection.infos()}
    assert collection.label == "set"
    assert list(infos) == ["a.npz", "a.smtx", "c", "deep/b"]
    for name, info in infos.items():
        loaded = collection.load(name)
        assert (loaded.pattern, *loaded.shape, loaded.nnz) == (info.pattern, info.rows, info.cols, info.nnz)
    assert collection.load("a.smtx").seeded_values
    assert not collection.load("deep/b").seeded_values
    pruned = open_collection(str(tmp_path / "set"), prune=["unstructured"], sparsities=[0.75])
    by_name = {info.name: info for info in pruned.infos()}
    assert by_name["a.smtx@unstructured@0.75"].synthetic
    assert not by_name["deep/b@unstructured@0.75"].synthetic
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="no matrices below it"):
        open_collection(str(tmp_path / "none"))


@pytest.mark.parametrize("suffix", [".smtx", ".mtx", ".npz", ".npy", ".safetensors", ".pt"])
def test_damaged_bytes_end_in_one_line_or_in_a_matrix(tmp_path: Path, suffix: str) -> None:
    matrix = synthetic((12, 18), "unstructured", 0.6)
    path = tmp_path / f"m{suffix}"
    if suffix == ".npy":
        np.save(path, matrix.to_dense())
    elif suffix == ".pt":
        torch = pytest.importorskip("torch")
        torch.save({"weight": torch.from_numpy(matrix.to_dense())}, path)
    else:
        write_matrix(matrix, path)
    data, random, messages = path.read_bytes(), np.random.default_rng(0), []
    for _ in range(60):
        broken = bytearray(data)
        for _ in range(random.integers(1, 4)):
            broken[random.integers(len(broken))] = random.integers(256)
        path.write_bytes(broken)
        try:
            found = read_matrix(path)
        except UserError as error:
            messages.append(str(error))
        else:
            assert found.nnz == found.indptr[-1] == len(found.values)
    assert messages
    assert all(str(path) in message and "\n" not in message for message in messages)
