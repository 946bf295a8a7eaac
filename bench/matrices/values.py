"""Seeded random numbers: the same for a seed and a name in every process and on every platform."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

SMALLEST_VALUE = 2.0**-7
"""Least magnitude of an invented stored value: far above what fp16 (2^-24), bf16 or fp8 e4m3 (2^-9) round to zero."""

SMALLEST_WEIGHT = 2.0**-13
"""Least magnitude of a seeded layer weight: a normal number in fp16, so no weight becomes zero or subnormal there."""


def generator(seed: int, *names: object) -> np.random.Generator:
    """A generator of its own for every (seed, names): SHA-256 of the text seeds a PCG64."""
    text = "\x1f".join([str(int(seed)), *map(str, names)])
    digest = hashlib.sha256(text.encode()).digest()
    return np.random.default_rng(np.random.SeedSequence(int.from_bytes(digest, "little")))


def seeded_values(nnz: int, seed: int, name: str) -> npt.NDArray[np.float32]:
    """Values for a pattern that has none: float32 (nnz,), standard normal with magnitudes raised to at least 2^-7."""
    values = generator(seed, "values", name).standard_normal(nnz, dtype=np.float32)
    return _away_from_zero(values, SMALLEST_VALUE)


def seeded_weight(shape: tuple[int, int], seed: int, name: str) -> npt.NDArray[np.float32]:
    """A dense float32 (M, K) weight that looks like a trained layer; no entry is zero.

    Normal entries of standard deviation sqrt(2 / K) (He et al., arXiv 1502.01852), each row scaled by a log-normal
    factor of sigma 0.3, because the rows of trained layers differ in norm and magnitude pruning follows that.
    """
    rows, cols = shape
    random = generator(seed, "weight", name)
    scale = np.exp(0.3 * random.standard_normal((rows, 1), dtype=np.float32))
    weight = random.standard_normal((rows, cols), dtype=np.float32)
    weight *= scale * np.float32((2.0 / max(cols, 1)) ** 0.5)
    return _away_from_zero(weight, SMALLEST_WEIGHT)


def uniform_weight(shape: tuple[int, int], seed: int, name: str) -> npt.NDArray[np.float32]:
    """A dense float32 (M, K) weight of independent normals of standard deviation sqrt(2 / K); no entry is zero."""
    weight = generator(seed, "uniform", name).standard_normal(shape, dtype=np.float32)
    weight *= np.float32((2.0 / max(shape[1], 1)) ** 0.5)
    return _away_from_zero(weight, SMALLEST_WEIGHT)


def _away_from_zero(values: npt.NDArray[np.float32], least: float) -> npt.NDArray[np.float32]:
    """Raise magnitudes below ``least`` to it and keep the sign, in place."""
    small = np.abs(values) < least
    values[small] = np.copysign(np.float32(least), values[small])
    return values
