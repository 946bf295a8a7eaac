"""Streams that take no more memory than their files can stand for, whatever a header in them claims."""

from __future__ import annotations

import io
import lzma
from typing import IO

XZ_MEMORY = 256 << 20
"""A decoder's dictionary; ``xz -9`` asks for 65 MiB. The format lets a file of a few bytes ask for 4 GiB."""

_CHUNK = 1 << 16


class Within:
    """A file whose reads never ask for more than it holds: who asks for gigabytes would get their buffer first."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._size = file, size
        self.seek, self.tell, self.readline = file.seek, file.tell, file.readline

    def read(self, count: int | None = -1) -> bytes:
        """As a file's."""
        left = max(self._size - self._file.tell(), 0)
        return self._file.read(left if count is None or count < 0 else min(count, left))

    def close(self) -> None:
        """Nothing; the file is its opener's."""


class XzStream(io.RawIOBase):
    """What an .xz file holds, read in order. ``lzma.open`` has no limit for the dictionary.

    Raises:
        lzma.LZMAError: damaged, or a dictionary above ``XZ_MEMORY``.
        EOFError: truncated.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._decoder = self._new()
        self._rest = b""

    @staticmethod
    def _new() -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, XZ_MEMORY)

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """The next bytes; 0 at the end."""
        while True:
            if self._decoder.eof:  # streams may follow each other, with zeros between them
                rest = (self._decoder.unused_data or self._file.read(_CHUNK)).lstrip(b"\x00")
                while not rest and (more := self._file.read(_CHUNK)):
                    rest = more.lstrip(b"\x00")
                if not rest:
                    return 0
                self._decoder, self._rest = self._new(), rest
            if self._decoder.needs_input:
                self._rest = self._rest or self._file.read(_CHUNK)
                if not self._rest:
                    raise EOFError("the compressed data end before their end marker")
            data = self._decoder.decompress(self._rest, len(buffer))
            self._rest = b""
            if data:
                buffer[: len(data)] = data
                return len(data)
