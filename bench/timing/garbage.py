"""Keeping Python's garbage collector out of what is timed or captured."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Off inside, as it was afterwards: a collection takes time from a sample, and during a graph's capture it may free
    device memory or unload a module, which breaks the capture."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
