"""Fast and strict reading of whitespace-separated non-negative integers from bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

CHUNK = 1 << 19
"""Bytes parsed at a time: the temporaries (about ten bytes per byte) stay in a CPU's cache."""

MAX_DIGITS = 18
"""Digits of one number: every 18-digit number fits int64."""


class BadNumber(ValueError):
    """What is wrong with the text; the caller knows the file and line."""


def parse_integers(data: npt.NDArray[np.uint8], count: int, limit: int) -> npt.NDArray[np.int64]:
    """Exactly ``count`` integers of 0 .. ``limit`` from ASCII text.

    ``data`` is a uint8 view of the text. Numbers are separated by spaces, tabs or carriage returns; nothing else may
    occur. The result takes 8 * count bytes, so the caller must have checked ``count`` against the size of the text.

    Raises:
        BadNumber: a character that is not a digit, a sign, a number too large, too few or too many numbers.
    """
    out = np.empty(count, dtype=np.int64)
    filled = start = 0
    while start < len(data):
        stop = _cut(data, start)
        numbers = _parse_chunk(data[start:stop], limit)
        if filled + len(numbers) > count:
            total = filled + len(numbers) + sum(_count(data[i : i + CHUNK]) for i in range(stop, len(data), CHUNK))
            raise BadNumber(f"{total} numbers where {count} belong")
        out[filled : filled + len(numbers)] = numbers
        filled += len(numbers)
        start = stop
    if filled != count:
        raise BadNumber(f"{filled} numbers where {count} belong")
    return out


def _cut(data: npt.NDArray[np.uint8], start: int) -> int:
    """End of a chunk that begins at ``start``: never inside a number."""
    stop = min(start + CHUNK, len(data))
    # Looking further is of no use: by then the chunk holds a number that is too large, and its own check says so.
    last = min(stop + MAX_DIGITS + 1, len(data))
    while stop < last and data[stop] > 32 and data[stop - 1] > 32:
        stop += 1
    return stop


def _count(chunk: npt.NDArray[np.uint8]) -> int:
    """Numbers in a chunk, to say how many there are in all (a number cut by the chunk's edge counts twice at worst)."""
    digit = chunk > 32
    return int(np.count_nonzero(digit[1:] & ~digit[:-1])) + int(len(digit) > 0 and digit[0])


def _parse_chunk(chunk: npt.NDArray[np.uint8], limit: int) -> npt.NDArray[np.int64]:
    """Numbers of one chunk: the digit p places before a number's end counts 10^p."""
    # A separator on both sides, and room to look MAX_DIGITS back from the first number.
    text = np.full(len(chunk) + MAX_DIGITS + 2, 32, dtype=np.uint8)
    text[MAX_DIGITS + 1 : -1] = chunk
    text -= 48  # wraps: every other character becomes 10 or more
    breaks = np.flatnonzero(text > 9)
    found = text[breaks]
    # space, tab, carriage return after subtracting 48 modulo 256
    if not ((found == 240) | (found == 217) | (found == 221)).all():
        raise BadNumber(_describe(text))
    lengths = np.diff(breaks) - 1
    ends = breaks[1:] - 1
    real = lengths > 0
    if not real.all():
        lengths, ends = lengths[real], ends[real]
    if not len(ends):
        return np.zeros(0, dtype=np.int64)
    longest = int(lengths.max())
    if longest > MAX_DIGITS:
        raise BadNumber(f"a number of more than {MAX_DIGITS} digits is too large")
    numbers: npt.NDArray[Any] = text[ends].astype(np.int32 if longest < 10 else np.int64)
    for place in range(1, longest):
        digit = text[ends - place].astype(numbers.dtype)
        digit[lengths <= place] = 0
        digit *= 10**place
        numbers += digit
    if int(numbers.max()) > limit:
        raise BadNumber(f"{int(numbers.max())} is larger than {limit}")
    return numbers.astype(np.int64)


def _describe(text: npt.NDArray[np.uint8]) -> str:
    """The first word that is not a number, in words."""
    allowed = (text <= 9) | (text == 240) | (text == 217) | (text == 221)
    at = int(np.flatnonzero(~allowed)[0])
    word = bytes(text[max(0, at - 12) : at + 20] + np.uint8(48))
    left = max(word.rfind(c, 0, min(12, at)) for c in (b" ", b"\t", b"\r")) + 1
    word = word[left:].split()[0] if word[left:].split() else b""
    shown = word.decode("ascii", "backslashreplace")
    if word.startswith(b"-") and word[1:].isdigit():
        return f"negative number {shown}"
    return f"{shown!r} is not a number"
