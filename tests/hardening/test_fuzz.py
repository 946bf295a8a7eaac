"""The quick part of the fuzz: damage to good files of every kind. ``fuzz.py`` goes on for as long as it is told."""

from __future__ import annotations

import random
import subprocess
import sys
import tracemalloc
from functools import cache
from pathlib import Path

import pytest
from _mutate import mutate
from _targets import TARGETS, guarded
from fuzz import MEMORY_BYTES, alarm
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SLOW = {"validate": 3, "records.jsonl": 8, "suite": 15}
"""Files tried of a target that takes long for each."""


@cache
def seeds(name: str) -> list[bytes]:
    return TARGETS[name].seeds()


@pytest.mark.parametrize("name", TARGETS)
def test_good_files_are_read(name: str, tmp_path: Path) -> None:
    outcomes = set()
    for number, data in enumerate(seeds(name)):
        folder = tmp_path / str(number)
        folder.mkdir()
        outcomes.add(guarded(TARGETS[name].read, folder, data))
    assert "read" in outcomes


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_files_are_refused_or_read(name: str, tmp_path: Path) -> None:
    @settings(max_examples=SLOW.get(name, 25), deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(number=st.integers(0, 2**32))
    def one(number: int) -> None:
        nonlocal count
        rng = random.Random(number)
        folder = tmp_path / str(count)
        folder.mkdir()
        count += 1
        tracemalloc.start(1)
        try:
            with alarm(10):
                guarded(TARGETS[name].read, folder, mutate(rng.choice(seeds(name)), seeds(name), rng))
            assert tracemalloc.get_traced_memory()[1] < MEMORY_BYTES
        finally:
            tracemalloc.stop()

    count = 0
    one()


@pytest.mark.parametrize(
    ("data", "name"),
    [
        # Each took gigabytes, or ended in a traceback, before.
        (b"\x00" + b"\xff" * 13 + b"3\n0 1 1 2 2 2 3\n0 4 7\n", "smtx"),  # an LZMA dictionary of 4 GiB
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{", "npy"),  # a header of 4 GiB
        (b"\x80\x02\x8e" + b"\xff\xff\xff\x7f\x00\x00\x00\x00", "torch"),  # a pickle of 2 GiB
        (b'{"status": "ok", "case": "c", "kernel": "k", "M": 123456789012345678901}\n', "records.jsonl"),
        (b'{"status": "ok", "case": "c", "kernel": "k", "nnz": "many"}\n{}\n', "records.jsonl"),
        (b'{"status": "ok", "case": "\\udc80", "kernel": "k"}\n{}\n', "records.jsonl"),
        (b"[" * 100_000, "run.json"),
    ],
)
def test_what_the_fuzz_found_stays_mended(data: bytes, name: str, tmp_path: Path) -> None:
    tracemalloc.start(1)
    try:
        guarded(TARGETS[name].read, tmp_path, data)
        assert tracemalloc.get_traced_memory()[1] < MEMORY_BYTES
    finally:
        tracemalloc.stop()


def test_little_gzip_data_cannot_keep_a_reader_busy(tmp_path: Path) -> None:
    """A header of one entry, then gigabytes of blank lines in a few megabytes."""
    import gzip

    from sparsity_roofline.bench.matrices.files import read_matrix
    from sparsity_roofline.model.errors import UserError

    path = tmp_path / "bomb.mtx.gz"
    with gzip.open(path, "wb", 9) as out:
        out.write(b"%%MatrixMarket matrix coordinate real general\n2 2 1\n")
        for _ in range(64):
            out.write(b"\n" * (1 << 20))
    with alarm(5), pytest.raises(UserError, match="more text than 1 entries can be"):
        read_matrix(path)


def test_holes_and_crowds_in_archives_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from _targets import tar

    from sparsity_roofline.bench.matrices import source
    from sparsity_roofline.model.errors import UserError

    sparse = bytearray(tar({"dlmc/rn50/m/0.5/c.smtx": b"1, 1, 0\n0 0 \n\n"}))
    sparse[156:157] = b"S"  # GNU's type for a file with holes, whose real size is another field
    sparse[257:265] = b"ustar  \0"
    sparse[483:495] = b"77777777777\0"
    sparse[148:156] = b" " * 8
    sparse[148:156] = f"{sum(sparse[:512]):06o}\0 ".encode()
    (tmp_path / "holes.tar").write_bytes(sparse)
    with pytest.raises(UserError, match="stored with holes"):
        source.open_source(tmp_path / "holes.tar")
    monkeypatch.setattr(source, "MOST_MEMBERS", 3)
    (tmp_path / "crowd.tar.gz").write_bytes(tar({f"f{i}": b"" for i in range(5)}, "w:gz"))
    with pytest.raises(UserError, match="more than 3 members"):
        source.open_source(tmp_path / "crowd.tar.gz")


def test_packed_checkpoint_members_are_refused(tmp_path: Path) -> None:
    import io
    import zipfile

    from sparsity_roofline.bench.matrices.files import read_matrix
    from sparsity_roofline.model.errors import UserError

    with zipfile.ZipFile(io.BytesIO(seeds("torch")[0])) as old, zipfile.ZipFile(tmp_path / "p.pt", "w", 8) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(UserError, match="packed member"):
        read_matrix(tmp_path / "p.pt")


def test_the_command_prints_its_counts() -> None:
    words = [sys.executable, str(Path(__file__).with_name("fuzz.py")), "--seconds", "1", "--seed", "1"]
    done = subprocess.run([*words, "--target", "smtx"], capture_output=True, text=True, check=True)
    name, tried, read, refused, *_ = done.stdout.splitlines()[-1].split()
    assert name == "smtx"
    assert int(tried) == int(read) + int(refused) > 3
