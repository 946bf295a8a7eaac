"""Gzipped Matrix Market files read as the plain ones do."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from sparsity_roofline.bench.matrices import open_collection, read_matrix
from sparsity_roofline.bench.matrices.files import peek, without_suffix
from sparsity_roofline.model.errors import UserError

TEXT = b"%%MatrixMarket matrix coordinate real general\n% made by hand\n3 4 3\n1 1 1.5\n2 4 -2\n3 2 0.25\n"


def test_same_as_the_plain_file(tmp_path: Path) -> None:
    (tmp_path / "a.mtx").write_bytes(TEXT)
    (tmp_path / "b.mtx.gz").write_bytes(gzip.compress(TEXT))
    plain, packed = read_matrix(tmp_path / "a.mtx"), read_matrix(tmp_path / "b.mtx.gz")
    assert packed.name == "b"
    assert packed.shape == plain.shape
    assert np.array_equal(packed.indptr, plain.indptr)
    assert np.array_equal(packed.indices, plain.indices)
    assert np.array_equal(packed.values, plain.values)
    assert peek(tmp_path / "b.mtx.gz") == peek(tmp_path / "a.mtx")


def test_in_folders_manifests_and_alone(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b.mtx.gz").write_bytes(gzip.compress(TEXT))
    for uri in (str(tmp_path), str(tmp_path / "deep" / "b.mtx.gz")):
        collection = open_collection(uri)
        (info,) = collection.infos()
        assert info.name in ("deep/b", "b")
        assert (info.rows, info.cols, info.nnz) == (3, 4, 3)
        assert collection.load(info.name).nnz == 3
    (tmp_path / "m.toml").write_text('[[matrix]]\npath = "deep/b.mtx.gz"\n')
    assert [i.name for i in open_collection(str(tmp_path / "m.toml")).infos()] == ["deep/b"]


def test_two_members_and_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.mtx.gz"
    path.write_bytes(gzip.compress(TEXT[:60]) + gzip.compress(TEXT[60:]))  # as `cat a.gz b.gz` makes
    assert read_matrix(path).nnz == 3
    whole = gzip.compress(TEXT)
    for data, reason in [
        (whole[:-9], "broken or truncated gzip"),
        (whole[:30], "broken or truncated gzip|first line is not"),
        (whole[:-5] + b"\x00" + whole[-4:], "broken or truncated gzip"),
        (gzip.compress(TEXT.replace(b"3 4 3", b"3 4 2")), "3 entries, but the size line says 2"),
        (gzip.compress(TEXT.replace(b"3 4 3", b"3 4 4")), "3 entries, but the size line says 4"),
        (gzip.compress(b"not a matrix"), "first line is not"),
    ]:
        path.write_bytes(data)
        with pytest.raises(UserError, match=reason):
            read_matrix(path)


def test_names_without_suffix() -> None:
    for name, short in [("a.mtx.gz", "a"), ("a.b.npz", "a.b"), ("a", "a"), (".mtx", ".mtx"), ("x/y.smtx", "x/y")]:
        assert without_suffix(Path(name)).as_posix() == short
