"""L2 as a second ceiling: two rates, told apart by whether neighbouring multiprocessors ask for the same lines.

Measured on an H100: 7.5 to 8.7 TB/s when every multiprocessor reads lines of its own, 14 to 15 TB/s when two neighbours
ask for the same lines at the same time; more sharers add nothing. So a request pair is served at the shared rate with
the probability that the neighbour wants the same rows of X, which for random block columns is the density.
"""

from __future__ import annotations

import numpy as np

from sparsity_roofline.model.cost import Floats

PORT_BYTES_PER_CYCLE = 64.0
"""L2 to one multiprocessor, bytes per cycle: what DeepGEMM's Hopper heuristic takes. The shared rate of a device that
nobody measured; on an H100 132 x 64 B x 1.755 GHz = 14.8 TB/s, measured 14 to 15."""
UNSHARED_SHARE = 0.57
"""Unshared over shared rate where nobody measured it: 8.2 / 14.3 on an H100."""
WRITE_SHARE = 0.29
"""Rate of writes over the shared read rate where nobody measured it: 4.1 / 14.3 on an H100."""


def rate(unshared: Floats | float, shared: Floats | float, density: Floats) -> Floats:
    """Bytes per second at a density: each request is at the shared rate with probability d, else at the unshared one.

    Times add, not rates: 1 / (d / shared + (1 - d) / unshared). 7.7 and 14.5 TB/s at d = 1/4: 8.7 TB/s.
    """
    d = np.clip(density, 0.0, 1.0)
    return 1.0 / (d / shared + (1.0 - d) / unshared)


def feed_flops(
    BM: Floats | float, BN: Floats | float, element_bytes: Floats | float, bandwidth: Floats | float
) -> Floats:
    """Operations per second that L2 can feed to BM x BN tiles: 2 BM BN / ((BM + BN) b) x bandwidth.

    fp16, BN = 256, 7.6 TB/s: 115, 216, 389 and 648 TFLOP/s for 16, 32, 64 and 128 rows.
    """
    return np.asarray(2.0 * BM * BN / ((BM + BN) * element_bytes) * bandwidth, dtype=np.float64)
