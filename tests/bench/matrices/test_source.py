from __future__ import annotations

import errno
import io
import os
import shutil
import tarfile
from pathlib import Path

import pytest

from sparsity_roofline.bench.matrices import source
from sparsity_roofline.bench.matrices.source import DirectorySource, TarSource, open_source
from sparsity_roofline.model.errors import UserError

from .conftest import pack


def archive_of(path: Path, members: list[tarfile.TarInfo], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(b"x" * member.size))
    return path


def member(name: str, size: int = 3, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, target
    return info


def test_plain_tar_is_read_in_place(dlmc_folder: Path, tmp_path: Path, cache_home: Path) -> None:
    found = open_source(pack(dlmc_folder, tmp_path / "a.tar"))
    assert isinstance(found, TarSource)
    assert found.read("dlmc/README") == b"text\n"
    assert not cache_home.exists()


def test_compressed_archive_is_unpacked_once(
    dlmc_folder: Path, tmp_path: Path, cache_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = pack(dlmc_folder, tmp_path / "a.tar.xz")
    first = open_source(archive)
    assert isinstance(first, DirectorySource)
    assert first.read("dlmc/README") == b"text\n"
    assert first.where("dlmc/README") == f"{archive}:/dlmc/README"
    monkeypatch.setattr(source, "_unpack", lambda *_: pytest.fail("unpacked again"))
    assert open_source(archive).names() == first.names()


def test_another_content_under_the_same_name_is_unpacked_again(tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "a.tar.gz", [member("one")])
    assert open_source(archive).names() == ["one"]
    archive_of(archive, [member("two")])
    assert open_source(archive).names() == ["two"]


@pytest.mark.parametrize("name", ["../outside", "/absolute", "a/../../outside"])
def test_a_member_that_leads_outside_is_refused(tmp_path: Path, cache_home: Path, name: str) -> None:
    archive = archive_of(tmp_path / "a.tar.gz", [member("good"), member(name)])
    if name.startswith("/"):
        # The filter makes it relative, which is safe.
        assert open_source(archive).names() == ["absolute", "good"]
        assert not Path("/absolute").exists()
        return
    with pytest.raises(UserError, match="unsafe member"):
        open_source(archive)
    assert [p.name for p in (cache_home / "archives").iterdir() if p.is_dir()] == []
    assert not (cache_home / "archives" / "outside").exists()


def test_links_and_devices_are_left_out(tmp_path: Path) -> None:
    members = [
        member("good"),
        member("link", 0, tarfile.SYMTYPE, "/etc/passwd"),
        member("hard", 0, tarfile.LNKTYPE, "good"),
        member("pipe", 0, tarfile.FIFOTYPE),
    ]
    assert open_source(archive_of(tmp_path / "a.tar.gz", members)).names() == ["good"]
    assert open_source(archive_of(tmp_path / "a.tar", members, "w")).names() == ["good"]


@pytest.mark.parametrize("suffix", [".tar.gz", ".tar.xz", ".tar.bz2"])
def test_truncated_and_corrupt_archives(dlmc_folder: Path, tmp_path: Path, cache_home: Path, suffix: str) -> None:
    (dlmc_folder / "noise").write_bytes(os.urandom(100_000))
    data = pack(dlmc_folder, tmp_path / f"a{suffix}").read_bytes()
    for broken in (data[: len(data) // 2], data[:-60_000] + b"\x00" * 50_000 + data[-10_000:]):
        (tmp_path / f"b{suffix}").write_bytes(broken)
        with pytest.raises(UserError, match=r"broken|not a readable|neither a directory"):
            open_source(tmp_path / f"b{suffix}")
    archives = cache_home / "archives"
    assert not archives.exists() or [p for p in archives.iterdir() if p.is_dir()] == []


def test_truncated_plain_tar(tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "a.tar", [member("one"), member("two", 5000)], "w")
    archive.write_bytes(archive.read_bytes()[:2500])
    with pytest.raises(UserError, match="truncated"):
        open_source(archive).read("two")


def test_full_disk_is_one_line(tmp_path: Path, cache_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = archive_of(tmp_path / "a.tar.gz", [member("one", 5000)])
    usage = shutil._ntuple_diskusage(10**9, 10**9, 100)
    monkeypatch.setattr(source.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UserError, match=r"no space left in .*SPARSITY_ROOFLINE_HOME") as caught:
        open_source(archive)
    assert caught.value.exit_code == 4
    monkeypatch.undo()
    monkeypatch.setenv("SPARSITY_ROOFLINE_HOME", str(cache_home))

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tarfile.TarFile, "extract", full)
    with pytest.raises(UserError, match="no space left"):
        open_source(archive)
    assert [p for p in (cache_home / "archives").iterdir() if p.is_dir()] == []


def test_unusable_cache_folder_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("SPARSITY_ROOFLINE_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match="point SPARSITY_ROOFLINE_HOME elsewhere"):
        open_source(archive_of(tmp_path / "a.tar.gz", [member("one")]))
