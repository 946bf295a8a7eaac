"""The folder for what is costly to make again: unpacked archives, counts of checkpoints."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sparsity_roofline.model.errors import UserError


def identity(path: Path) -> str:
    """16 hex digits that change when a file does: its size, time of change, and first and last megabyte."""
    status = path.stat()
    h = hashlib.sha256(f"{status.st_size} {status.st_mtime_ns}".encode())
    with path.open("rb") as file:
        h.update(file.read(1 << 20))
        file.seek(max(0, status.st_size - (1 << 20)))
        h.update(file.read(1 << 20))
    return h.hexdigest()[:16]


def disk_error(error: OSError, path: Path, doing: str) -> UserError:
    """A failed write as one line: what, where, what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(
            f"{doing}: no space left in {path}: free some or set SPARSITY_ROOFLINE_HOME to another disk", 4
        )
    return UserError(f"{doing}: cannot write to {path} ({error.strerror}): point SPARSITY_ROOFLINE_HOME elsewhere", 4)


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold a file lock, so that several processes do not do the same work; without locking (NFS) it is only wasted."""
    import fcntl

    with path.open("a+b") as file:
        locked = False
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
            locked = True
        try:
            yield
        finally:
            if locked:
                fcntl.flock(file, fcntl.LOCK_UN)


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that nobody ever sees half of it.

    Raises:
        OSError: nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise
