"""Text that came from a file, made safe to show: names of layers and matrices are whatever a file says they are."""

from __future__ import annotations

LONGEST = 2000
"""Characters shown of one text."""


def printable(text: str) -> str:
    """The text on one line without terminal controls: what does not print is shown as its escape (ANSI sequences,
    line breaks, marks that turn the direction of reading, lone surrogates), and what is very long is cut.

    >>> printable("conv\\x1b[2J1")
    'conv\\\\x1b[2J1'
    """
    if len(text) > LONGEST:
        text = f"{text[:LONGEST]}..."
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
