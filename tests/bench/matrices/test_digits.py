from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsity_roofline.bench.matrices import digits
from sparsity_roofline.bench.matrices.digits import BadNumber, parse_integers


def parse(text: str, count: int, limit: int = 10**18) -> list[int]:
    return parse_integers(np.frombuffer(text.encode(), dtype=np.uint8), count, limit).tolist()


@given(
    st.lists(st.integers(0, 10**18 - 1), max_size=60),
    st.lists(st.sampled_from([" ", "  ", "\t", " \r"]), min_size=61, max_size=61),
    st.integers(1, 40),
    st.booleans(),
)
def test_reads_what_int_reads(numbers: list[int], gaps: list[str], chunk: int, trailing: bool) -> None:
    text = "".join(f"{gap}{number}" for gap, number in zip(gaps, numbers, strict=False)) + (" " if trailing else "")
    whole = digits.CHUNK
    digits.CHUNK = chunk  # every place of a cut is met
    try:
        assert parse(text, len(numbers)) == [int(word) for word in text.split()] == numbers
    finally:
        digits.CHUNK = whole


def test_numbers_beyond_int32_and_leading_zeros() -> None:
    assert parse("2147483648 007 999999999 1000000000", 4) == [2147483648, 7, 999999999, 1000000000]


@pytest.mark.parametrize("text", ["", " ", "\t  "])
def test_nothing(text: str) -> None:
    assert parse(text, 0) == []


@pytest.mark.parametrize(
    ("text", "count", "reason"),
    [
        ("1 2", 3, "2 numbers where 3 belong"),
        ("1 2 3 4", 3, "4 numbers where 3 belong"),
        ("", 1, "0 numbers where 1 belong"),
        ("1 -2 3", 3, "negative number -2"),
        ("1 x3 4", 3, "'x3' is not a number"),
        ("1 2.5 4", 3, "'2.5' is not a number"),
        ("1 1e9 4", 3, "'1e9' is not a number"),
        ("+1", 1, "'+1' is not a number"),
        ("1,2", 2, "'1,2' is not a number"),
        ("1\x002", 1, "not a number"),
        ("1 \xe9 2", 3, "not a number"),
        ("1 11 3", 3, "11 is larger than 10"),
        ("1 9999999999999999999999 3", 3, "more than 18 digits"),
    ],
)
def test_refuses(text: str, count: int, reason: str) -> None:
    with pytest.raises(BadNumber, match=re.escape(reason)):
        parse_integers(np.frombuffer(text.encode("latin-1"), dtype=np.uint8), count, 10)


def test_a_number_as_long_as_several_chunks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits, "CHUNK", 8)
    with pytest.raises(BadNumber, match="digits is too large"):
        parse("1 " + "7" * 100, 2)


@given(st.binary(max_size=40))
def test_never_fails_otherwise(data: bytes) -> None:
    try:
        found = parse_integers(np.frombuffer(data, dtype=np.uint8), len(data.split()), 10**18).tolist()
    except BadNumber:
        words = data.split()
        assert not all(word.isdigit() and len(word) < 19 for word in words) or any(c in data for c in b"\n\x0b\x0c")
    else:
        assert found == [int(word) for word in data.split()]
