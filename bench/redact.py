"""Keep machine names, user names and paths out of everything that is written: records are made to be published."""

from __future__ import annotations

import getpass
import os
import re
import socket
from functools import cache

_PATH = re.compile(r"(?<![\w.:/])(?:~|\.\.?)?(?:/[^\s/'\",;()\[\]<>|]+)*/([^\s/'\",;:()\[\]<>|]*)")
_SCHEME_PATH = re.compile(r"\b([a-z][a-z0-9+.-]*):(?!//)(~|\.\.?)?/(?:[^\s/'\",;]+/)*([^\s/'\",;]*)")


@cache
def _names() -> re.Pattern[str] | None:
    """Host and user name as whole words; names too short or too common to tell from prose are left alone."""
    found = {socket.gethostname(), socket.gethostname().split(".")[0]}
    try:
        found.add(getpass.getuser())
    except (OSError, KeyError):  # a container's user without an entry in the user database
        found.add(os.environ.get("LOGNAME", ""))
    # The longest first: of a host's full name and its first label, the full one has to be tried before.
    found = {w for w in found if len(w) >= 4 and w not in ("root", "user", "localhost")}
    words = [re.escape(w) for w in sorted(found, key=len, reverse=True)]
    return re.compile(r"(?<!\w)(?:" + "|".join(words) + r")(?!\w)") if words else None


def redact(text: str) -> str:
    """The text with absolute paths cut to their last part and host and user names replaced by ``(hidden)``.

    >>> redact("cannot open /home/someone/data/a.smtx: truncated")
    'cannot open a.smtx: truncated'
    """
    text = _SCHEME_PATH.sub(lambda m: f"{m[1]}:{m[3]}", text)
    text = _PATH.sub(lambda m: m[1] or "(path)" if m[0] != "/" else "/", text)
    names = _names()
    return names.sub("(hidden)", text) if names else text


def redact_argv(argv: list[str]) -> list[str]:
    """Command-line arguments, each without its folders; ``--option=/a/b`` keeps the option."""
    out = []
    for part in argv:
        head, eq, tail = part.partition("=") if part.startswith("-") else ("", "", part)
        out.append(head + eq + redact(tail))
    return out
