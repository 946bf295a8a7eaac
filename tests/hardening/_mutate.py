"""Damage to good files: from single bits to parts of other files, and numbers that are too large."""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Sequence

_WORDS = [b"-1", b"0", b"1e400", b"nan", b"inf", b"99999999999999999999", b"2147483648", b"4294967297", b"../../x"]
_WORDS += [
    b"\x00",
    b"\n",
    b"\xff\xfe",
    b"\xe2\x80\xae",
    b"\x1b[2J",
    b"[/red]",
    b"null",
    b"{}",
    b"[]",
    b'"',
    b"%",
    b"1e5",
]
_PACKED = [struct.pack("<Q", v) for v in (0, 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)]
_PACKED += [struct.pack("<I", v) for v in (0, 1, 2**31 - 1, 2**32 - 1)] + [struct.pack(">I", 2**31)]


def mutate(data: bytes, others: Sequence[bytes], rng: random.Random, most: int = 4) -> bytes:
    """The data after one to ``most`` edits."""
    for _ in range(rng.randint(1, most)):
        data = _edit(data, others, rng)
    return data


def _edit(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    size = len(data)
    at, end = sorted((rng.randint(0, size), rng.randint(0, size)))
    kind = rng.randrange(10)
    if kind == 0:
        return data[:at]
    if kind == 1 and size:
        at = rng.randrange(size)
        return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]
    if kind == 2 and size:
        at = rng.randrange(size)
        return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
    if kind == 3:
        return data[:at] + data[min(end, at + rng.choice((1, 2, 8, 64))) :]
    if kind == 4:
        return data[:at] + rng.choice(_WORDS) + data[at:]
    if kind == 5:
        new = rng.choice(_PACKED)
        return data[:at] + new + data[at + len(new) :]
    if kind == 6:
        return data[:at] + data[at:end][:256] * rng.choice((2, 3, 20)) + data[end:]
    if kind == 7 and others:
        other = rng.choice(others)
        cut = rng.randint(0, len(other))
        return data[:at] + other[cut:]
    numbers = list(re.finditer(rb"-?\d+", data[: 1 << 16]))
    if kind == 8 and numbers:
        found = rng.choice(numbers)
        return data[: found.start()] + rng.choice(_WORDS) + data[found.end() :]
    words = list(re.finditer(rb"[A-Za-z_]+", data[: 1 << 16]))
    if words:
        a, b = rng.choice(words), rng.choice(words)
        return data[: a.start()] + b.group() + data[a.end() :]
    return data + rng.randbytes(rng.randint(1, 16))
