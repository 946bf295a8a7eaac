"""Pruning a dense weight by magnitude: unstructured, r x c blocks or n:m, one layer alone or many layers together.

The paper's recipe (arXiv 2310.00496) ranks globally and fine-tunes between steps; here is the ranking without the
training. The number of kept elements (blocks) is round(density * number), exactly; among equal magnitudes the one that
comes first in row-major order stays, so a mask does not depend on the machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sparsity_roofline.bench.matrices.values import seeded_weight
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.matrix import Matrix
from sparsity_roofline.model.pattern import Pattern

SORTED_AT_ONCE = 1 << 22
"""Elements whose groups are sorted together for n:m: the temporaries take 16 bytes each."""

Norm = Literal["l1", "l2"]
Float = npt.NDArray[np.floating[Any]]
Mask = npt.NDArray[np.bool_]


def prune(
    weight: Float,
    pattern: Pattern | str,
    sparsity: float | None = None,
    *,
    norm: Norm = "l1",
    name: str = "weight",
    **info: Any,
) -> Matrix:
    """Prune one weight (M, K) by magnitude; the result knows the weight it came from (``unpruned``).

    Args:
        pattern: ``unstructured``, ``block16x16``, ``2:4`` or a ``Pattern``.
        sparsity: share to remove, 0 to 1; may be left out for n:m, where it is 1 - n/m.
        norm: what ranks a block: sum of magnitudes (l1) or of squares (l2). Blocks that stick out over the edge are
            ranked by what lies inside.
        info: further attributes of the ``Matrix``.

    Raises:
        UserError: not two-dimensional, NaN or infinity, sparsity out of range, or another sparsity than n:m has.
    """
    pattern = Pattern.parse(pattern) if isinstance(pattern, str) else pattern
    mask = magnitude_mask(weight, pattern, sparsity, norm=norm)
    return _matrix(name, weight, mask, pattern, sparsity, info)


def prune_global(
    weights: Mapping[str, Float],
    pattern: Pattern | str,
    sparsity: float | None = None,
    *,
    norm: Norm = "l1",
) -> dict[str, Matrix]:
    """Prune several weights with one ranking over all of them, so that layers end at different sparsities.

    For n:m every group keeps the same share, so it equals pruning layer by layer. Arguments, result and errors as in
    ``prune``; the keys are the layers' names, and earlier layers win ties.
    """
    pattern = Pattern.parse(pattern) if isinstance(pattern, str) else pattern
    for weight in weights.values():
        _check(weight, pattern, sparsity)
    if pattern.kind in ("nm", "dense") or not weights:
        return {name: prune(weight, pattern, sparsity, name=name) for name, weight in weights.items()}
    assert sparsity is not None
    scores = [_scores(weight, pattern, norm) for weight in weights.values()]
    kept = _largest(np.concatenate([score.ravel() for score in scores]), sparsity)
    result, start = {}, 0
    for (name, weight), score in zip(weights.items(), scores, strict=True):
        part = kept[start : start + score.size].reshape(score.shape)
        start += score.size
        mask = _spread(part, pattern, weight.shape)
        result[name] = _matrix(name, weight, mask, pattern, sparsity, {"layer": name})
    return result


def synthetic(
    shape: tuple[int, int],
    pattern: Pattern | str,
    sparsity: float | None = None,
    seed: int = 0,
    *,
    norm: Norm = "l1",
    name: str | None = None,
    **info: Any,
) -> Matrix:
    """A seeded random weight of shape (M, K), pruned by magnitude and labelled synthetic. Arguments as in ``prune``."""
    name = name or f"synthetic/{shape[0]}x{shape[1]}"
    info.setdefault("synthetic", True)
    return prune(seeded_weight(shape, seed, name), pattern, sparsity, norm=norm, name=name, **info)


def magnitude_mask(weight: Float, pattern: Pattern, sparsity: float | None = None, *, norm: Norm = "l1") -> Mask:
    """The kept entries, bool (M, K). Arguments and errors as in ``prune``."""
    _check(weight, pattern, sparsity)
    if pattern.kind == "dense":
        return np.ones(weight.shape, dtype=np.bool_)
    if pattern.kind == "nm":
        return _nm_mask(weight, pattern.n, pattern.m)
    assert sparsity is not None
    scores = _scores(weight, pattern, norm)
    return _spread(_largest(scores.ravel(), sparsity).reshape(scores.shape), pattern, weight.shape)


def implied_nnz(shape: tuple[int, int], pattern: Pattern, sparsity: float | None) -> int:
    """Stored elements that pruning leaves. Exact but for blocks at the edge of a shape they do not divide."""
    rows, cols = shape
    if pattern.kind == "dense":
        return rows * cols
    if pattern.kind == "nm":
        full, rest = divmod(cols, pattern.m)
        return rows * (full * pattern.n + min(rest, pattern.n))
    r, c = (pattern.r, pattern.c) if pattern.kind == "block" else (1, 1)
    blocks = -(-rows // r) * -(-cols // c)
    kept = _kept(blocks, sparsity or 0.0)
    return round(kept * rows * cols / blocks) if blocks else 0


def nm_sparsity(pattern: Pattern) -> float:
    """1 - n/m."""
    return 1.0 - pattern.n / pattern.m


def _kept(size: int, sparsity: float) -> int:
    return round((1.0 - sparsity) * size)


def _check(weight: Float, pattern: Pattern, sparsity: float | None) -> None:
    if weight.ndim != 2:
        raise UserError(f"pruning needs a matrix (M, K), not an array of shape {weight.shape}: flatten it first")
    if not np.isfinite(weight).all():
        raise UserError("pruning by magnitude needs finite weights, but this one holds NaN or infinity")
    if pattern.kind == "nm":
        if sparsity is not None and abs(sparsity - nm_sparsity(pattern)) > 1e-6:
            raise UserError(f"{pattern} is {nm_sparsity(pattern):.4g} sparse by its nature, not {sparsity:g}")
        return
    if pattern.kind == "dense":
        return
    if sparsity is None:
        raise UserError(f"pruning to {pattern} needs a sparsity, for example 0.9")
    if not 0.0 <= sparsity <= 1.0:
        raise UserError(f"a sparsity lies between 0 and 1, not at {sparsity:g}")


def _matrix(
    name: str, weight: Float, mask: Mask, pattern: Pattern, sparsity: float | None, info: dict[str, Any]
) -> Matrix:
    dense = np.ascontiguousarray(weight, dtype=np.float32)
    target = nm_sparsity(pattern) if pattern.kind == "nm" else sparsity
    info = {"target_sparsity": target, "unpruned": dense, **info}
    return Matrix.from_dense(name, dense, mask, pattern=pattern, **info)


def _scores(weight: Float, pattern: Pattern, norm: Norm) -> Float:
    """What is ranked: magnitudes (M, K), or one norm per block (ceil(M/r), ceil(K/c))."""
    if pattern.kind == "unstructured":
        return np.abs(weight)
    if norm not in ("l1", "l2"):
        raise UserError(f"a block is ranked by l1 or l2, not {norm!r}")
    magnitude = np.abs(weight) if norm == "l1" else np.square(weight)
    if not magnitude.size:
        return np.zeros((-(-weight.shape[0] // pattern.r), -(-weight.shape[1] // pattern.c)))
    by_rows = np.add.reduceat(magnitude, np.arange(0, weight.shape[0], pattern.r), axis=0, dtype=np.float64)
    return np.asarray(np.add.reduceat(by_rows, np.arange(0, weight.shape[1], pattern.c), axis=1))


def _largest(scores: Float, sparsity: float) -> Mask:
    """Mask of the round((1 - sparsity) * size) largest of a flat array; the first of equals stays. Linear time."""
    kept = _kept(scores.size, sparsity)
    if kept >= scores.size:
        return np.ones(scores.size, dtype=np.bool_)
    if kept == 0:
        return np.zeros(scores.size, dtype=np.bool_)
    threshold = np.partition(scores, scores.size - kept)[scores.size - kept]
    mask: Mask = scores > threshold
    equal = np.flatnonzero(scores == threshold)
    mask[equal[: kept - int(np.count_nonzero(mask))]] = True
    return mask


def _spread(kept: Mask, pattern: Pattern, shape: tuple[int, ...]) -> Mask:
    """A mask of blocks as a mask of elements, cut at the edges."""
    if pattern.kind != "block":
        return kept
    full = np.repeat(np.repeat(kept, pattern.r, axis=0), pattern.c, axis=1)
    return np.ascontiguousarray(full[: shape[0], : shape[1]])


def _nm_mask(weight: Float, n: int, m: int) -> Mask:
    """The n largest of every m in a row; a shorter last group keeps min(n, its length)."""
    rows, cols = weight.shape
    groups = -(-cols // m)
    mask = np.zeros((rows, groups * m), dtype=np.bool_)
    step = max(1, SORTED_AT_ONCE // max(groups * m, 1))
    for start in range(0, rows, step):
        part = np.abs(weight[start : start + step])
        padded = np.full((len(part), groups * m), -1.0, dtype=part.dtype)  # below every magnitude: padding never wins
        padded[:, :cols] = part
        # Stable on the negated magnitudes: the first of equals stays.
        order = np.argsort(-padded.reshape(-1, m), axis=1, kind="stable")[:, :n]
        np.put_along_axis(mask[start : start + step].reshape(-1, m), order, True, axis=1)
    return np.ascontiguousarray(mask[:, :cols])
