"""The folder for what is costly to make again: calibrations, unpacked archives, compiled kernels."""

from __future__ import annotations

import os
from pathlib import Path

HOME = "SPARSITY_ROOFLINE_HOME"


def cache_home() -> Path:
    """$SPARSITY_ROOFLINE_HOME, else sparsity-roofline under $XDG_CACHE_HOME or ~/.cache. Not created here."""
    if home := os.environ.get(HOME):
        return Path(home).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "sparsity-roofline"
