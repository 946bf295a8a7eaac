"""Latency: what a program waits for while no resource is busy."""

from __future__ import annotations

import numpy as np

from sparsity_roofline.model.cost import Floats

VECTOR_BYTES = 16.0
"""Widest load of a thread, and the alignment that bulk copies (TMA) need of every row."""


def narrow_loads(elements: Floats, bytes_aligned: Floats, element_bytes: float) -> Floats:
    """Loads that bring so many elements when each is as wide as the alignment allows; 0 where that is 16 bytes, which
    are asynchronous or bulk copies that cost a step nothing.

    64 x 64 fp16 elements in 2-byte loads: 4,096; in 8-byte loads: 1,024; in 16-byte loads: none of these.
    """
    width = np.maximum(bytes_aligned, element_bytes)
    return np.asarray(np.where(bytes_aligned < VECTOR_BYTES, elements * element_bytes / width, 0.0), dtype=np.float64)
