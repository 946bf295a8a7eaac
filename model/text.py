"""Text that came from a file, made safe to show: names of layers and matrices are whatever a file says they are."""

from __future__ import annotations

LONGEST = 2000
"""Characters of a message that a terminal is given."""


def printable(text: str, most: int | None = None) -> str:
    """The text on one line without terminal controls: what does not print is shown as its escape (ANSI sequences,
    line breaks, marks that turn the direction of reading, lone surrogates), and cut after ``most`` characters.

    >>> printable("conv\\x1b[2J1")
    'conv\\\\x1b[2J1'
    """
    if most is not None and len(text) > most:
        text = f"{text[:most]}..."
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def encodable(text: str) -> bool:
    """Can it be written as UTF-8? Names of files and of pickled tensors may hold halves of characters, which cannot."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
