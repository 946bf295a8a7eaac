"""Latency: what a program waits for while no resource is busy."""

from __future__ import annotations

import numpy as np

from sparsity_roofline.model.cost import Floats

VECTOR_BYTES = 16.0
"""Widest load of a thread, and the alignment that bulk copies (TMA) need of every row."""


def alignment_factor(bytes_aligned: Floats, misaligned: float) -> Floats:
    """Factor on a step's time where rows start at multiples of fewer than 16 bytes: misaligned^(log2(16 / bytes) / 3).

    A narrower load moves fewer bytes per instruction and rules bulk copies out. 16 bytes: 1; 2 bytes (fp16 rows of an
    odd length): the whole factor; 8 bytes: its cube root.
    """
    return np.asarray(misaligned ** (np.log2(VECTOR_BYTES / bytes_aligned) / 3.0), dtype=np.float64)
