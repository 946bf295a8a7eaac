"""Files of a collection by their relative names, whether they lie in a directory or in a tar archive.

A plain .tar is read in place. A compressed one has no random access (one matrix of a .tar.xz costs a pass over all
that precedes it), so it is unpacked once, in one pass, into the cache folder; later openings and other processes use
that. Members that are no regular files, or whose names lead outside, are never written.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import logging
import lzma
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Protocol

from sparsity_roofline.bench.matrices.bounded import Within, XzStream
from sparsity_roofline.bench.matrices.cache import disk_error, identity, lock
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.home import cache_home

log = logging.getLogger(__name__)

_MAGIC = {"gz": b"\x1f\x8b", "bz2": b"BZh", "xz": b"\xfd7zXZ\0"}
_LONGEST_HEADER = 1 << 20

MOST_MEMBERS = 1 << 20
"""Names are held in memory, and in a compressed archive a member may take half a byte."""


class Source(Protocol):
    """Where files come from. ``where(name)`` is how messages call a file."""

    def names(self) -> list[str]:
        """Relative POSIX names of all regular files, sorted."""

    def read(self, name: str) -> bytes:
        """The content of one file."""

    def where(self, name: str) -> str: ...


class DirectorySource:
    """Files below a directory."""

    def __init__(self, root: Path, shown: str | None = None) -> None:
        self.root = root
        self._shown = str(root) if shown is None else shown

    def names(self) -> list[str]:
        found: list[str] = []
        for folder, _, files in os.walk(self.root):
            base = Path(folder).relative_to(self.root)
            found.extend((base / file).as_posix() for file in files)
        return sorted(found)

    def read(self, name: str) -> bytes:
        try:
            return (self.root / name).read_bytes()
        except OSError as error:
            raise UserError(f"{self.where(name)}: cannot be read ({error.strerror})") from None

    def where(self, name: str) -> str:
        return f"{self._shown}/{name}"


class TarSource:
    """Files of an uncompressed tar archive, read at their offsets."""

    def __init__(self, archive: Path) -> None:
        self.archive = archive
        self._places: dict[str, tuple[int, int]] = {}
        with _reading(archive), _opened(archive) as tar:
            for member in _members(tar):
                if member.isreg():
                    self._places[member.name.removeprefix("./")] = (member.offset_data, member.size)

    def names(self) -> list[str]:
        return sorted(self._places)

    def read(self, name: str) -> bytes:
        offset, size = self._places[name]
        with self.archive.open("rb") as file:
            if offset + size > os.fstat(file.fileno()).st_size:
                raise UserError(f"{self.where(name)}: the archive ends within this file: truncated")
            file.seek(offset)
            return file.read(size)

    def where(self, name: str) -> str:
        return f"{self.archive}:{name}"


def open_source(path: Path) -> Source:
    """The files of a directory or of a tar archive, compressed or not.

    Raises:
        UserError: no such path, no archive, a broken one, an unsafe member, or no room to unpack it.
    """
    if path.is_dir():
        return DirectorySource(path)
    if not path.exists():
        raise UserError(f"{path}: no such file or directory")
    if not is_tar(path):
        raise UserError(f"{path}: neither a directory nor a tar archive")
    if _packing(path):
        return DirectorySource(unpacked(path), shown=f"{path}:")
    return TarSource(path)


def is_tar(path: Path) -> bool:
    """Is it a tar archive, compressed or not?"""
    try:
        with _opened(path):  # reads the first header
            return True
    except (OSError, EOFError, ValueError, tarfile.TarError, lzma.LZMAError, zlib.error):
        return False


def unpacked(archive: Path) -> Path:
    """The folder that holds the archive's files, unpacked now or by an earlier call of any process.

    Raises:
        UserError: as ``open_source``.
    """
    home = cache_home() / "archives"
    folder = home / identity(archive)
    if folder.is_dir():
        return folder
    try:
        home.mkdir(parents=True, exist_ok=True)
        with lock(home / f"{folder.name}.lock"):
            if not folder.is_dir():
                _unpack(archive, folder)
    except OSError as error:
        raise disk_error(error, home, f"unpacking {archive}") from None
    return folder


def _unpack(archive: Path, folder: Path) -> None:
    log.info("unpacking %s into %s, once", archive, folder)
    partial = Path(tempfile.mkdtemp(prefix=f"{folder.name}.partial-", dir=folder.parent))
    try:
        with _reading(archive), _opened(archive) as tar:
            for member in _members(tar):
                if not member.isreg():
                    continue
                if member.size > shutil.disk_usage(partial).free:
                    raise OSError(errno.ENOSPC, f"{member.name} needs {member.size} bytes")
                tar.extract(member, partial, set_attrs=False, filter="data")
        partial.chmod(0o755)
        with suppress(OSError) if folder.is_dir() else nullcontext():
            partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


class _Member(tarfile.TarInfo):
    """A member whose name and attributes are of sane length: tarfile holds them in memory."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:  # meant to be overridden, says tarfile
        if self.size < 0 or (not self.isreg() and self.size > _LONGEST_HEADER):
            raise tarfile.ReadError(f"a header of {self.size} bytes")
        return super()._proc_member(tar)  # type: ignore[misc, no-any-return]


def _packing(path: Path) -> str:
    """How a file is compressed, '' if it is not."""
    with path.open("rb") as file:
        head = file.read(6)
    return next((name for name, magic in _MAGIC.items() if head.startswith(magic)), "")


@contextmanager
def _opened(archive: Path) -> Iterator[tarfile.TarFile]:
    """A tar archive, compressed or not. A compressed one is a stream: members in turn, each read before the next."""
    packing = _packing(archive)
    with archive.open("rb") as file:
        stream: Any
        if not packing:
            stream = Within(file, os.fstat(file.fileno()).st_size)
        elif packing == "xz":
            stream = io.BufferedReader(XzStream(file))
        else:
            stream = gzip.GzipFile(fileobj=file) if packing == "gz" else bz2.BZ2File(file)
        with tarfile.open(fileobj=stream, mode="r|" if packing else "r:", tarinfo=_Member) as tar:
            yield tar


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Members in turn.

    Raises:
        tarfile.ReadError: one with holes, whose few bytes may claim any size, more members than any collection has, or
            an impossible name or size.
    """
    for number, member in enumerate(tar):
        if number >= MOST_MEMBERS:
            raise tarfile.ReadError(f"more than {MOST_MEMBERS} members")
        if member.issparse():
            raise tarfile.ReadError(f"{member.name} is stored with holes: pack it anew without them")
        if "\0" in member.name or member.size < 0:
            raise tarfile.ReadError(f"member {number + 1} has an impossible name or size")
        yield member


@contextmanager
def _reading(archive: Path) -> Iterator[None]:
    """A broken archive as one line; a failed write (an ``OSError`` with a number) is left to the caller."""
    try:
        yield
    except tarfile.FilterError as error:
        raise UserError(f"{archive}: unsafe member, nothing was unpacked: {error}") from None
    except (tarfile.TarError, EOFError, ValueError, lzma.LZMAError, zlib.error) as error:
        raise UserError(f"{archive}: broken or truncated archive: {error}") from None
    except OSError as error:
        if error.errno is not None:
            raise
        raise UserError(f"{archive}: broken or truncated archive: {error}") from None
