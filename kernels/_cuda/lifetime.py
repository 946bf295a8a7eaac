"""Descriptors that live exactly as long as the plan that owns them."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any


class Resources:
    """Owns library objects and destroys them in reverse order, on ``close`` or when it is collected.

    A plan keeps one of these as an attribute. At interpreter exit nothing is destroyed: the process takes everything
    with it, and the CUDA context may be gone already.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._finalizer = weakref.finalize(self, self._stack.close)
        self._finalizer.atexit = False

    def own(self, created: int, destroy: Callable[[int], Any]) -> int:
        """Take over ``created`` (a library object's address); ``destroy`` is called with it at the end."""
        self._stack.callback(_quietly, destroy, created)
        return created

    @contextmanager
    def building(self) -> Iterator[None]:
        """Destroy what was created so far if the body fails, even while somebody still holds the exception."""
        try:
            yield
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Destroy everything now. Harmless when repeated."""
        self._finalizer()


def _quietly(destroy: Callable[[int], Any], created: int) -> None:
    # A failing destructor has no caller who could act, and older libraries lack some of them.
    with suppress(Exception):
        destroy(created)
