"""Sparsity patterns: which entries of a weight may be non-zero. A property of the mask, not of its storage."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from sparsity_roofline.model.errors import UserError

Kind = Literal["dense", "unstructured", "block", "nm"]

_BLOCK = re.compile(r"block(\d+)(?:x(\d+))?\Z")
_NM = re.compile(r"(\d+):(\d+)\Z")


@dataclass(frozen=True)
class Pattern:
    """A sparsity pattern.

    Attributes:
        kind: ``dense``, ``unstructured``, ``block`` (whole r x c blocks are kept or dropped) or ``nm`` (at most n kept
            in every m consecutive entries of a row).
        r, c: block rows and columns; 0 unless ``kind`` is ``block``.
        n, m: kept and group size; 0 unless ``kind`` is ``nm``.
    """

    kind: Kind
    r: int = 0
    c: int = 0
    n: int = 0
    m: int = 0

    def __post_init__(self) -> None:
        if self.kind == "block" and (self.r < 1 or self.c < 1):
            raise UserError(f"a block pattern needs at least one row and column, not {self.r} x {self.c}")
        if self.kind == "nm" and not 0 < self.n <= self.m:
            raise UserError(f"an n:m pattern needs 0 < n <= m, not {self.n}:{self.m}")

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Read ``dense``, ``unstructured``, ``block16``, ``block16x32`` or ``2:4``.

        Raises:
            UserError: for anything else.
        """
        text = text.strip()
        if text == "dense":
            return cls("dense")
        if text == "unstructured":
            return cls("unstructured")
        if match := _BLOCK.match(text):
            r = int(match[1])
            return cls("block", r=r, c=int(match[2] or r))
        if match := _NM.match(text):
            return cls("nm", n=int(match[1]), m=int(match[2]))
        raise UserError(f"unknown pattern {text!r}: write dense, unstructured, block16, block16x32 or 2:4")

    def __str__(self) -> str:
        if self.kind == "block":
            return f"block{self.r}x{self.c}"
        if self.kind == "nm":
            return f"{self.n}:{self.m}"
        return self.kind


DENSE = Pattern("dense")
UNSTRUCTURED = Pattern("unstructured")
