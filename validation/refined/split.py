"""Which layer shapes a fit may see. The split is by (M, K): all N, sparsities and dtypes of a shape are on one side."""

from __future__ import annotations

import zlib

import numpy as np
import pandas as pd

PARTS = 3


def held_out(M: int, K: int) -> bool:
    """True for a shape that no fit sees: one third of all shapes, by a checksum of ``MxK``, on every device and run."""
    return zlib.crc32(f"{M}x{K}".encode()) % PARTS == 0


def held_out_rows(frame: pd.DataFrame) -> np.ndarray:
    """``held_out`` of every row."""
    answers = {key: held_out(*key) for key in set(zip(frame["M"].tolist(), frame["K"].tolist(), strict=True))}
    return np.asarray([answers[key] for key in zip(frame["M"].tolist(), frame["K"].tolist(), strict=True)], dtype=bool)
