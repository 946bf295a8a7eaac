"""Whole networks from Python and for the command line: one row per network, workload and pattern."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from sparsity_roofline.model import networks
from sparsity_roofline.model.assumed import find
from sparsity_roofline.model.ceilings import Ceilings
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.networks.whole import KEPT_DENSE, Whole, Workload, whole
from sparsity_roofline.model.pattern import Pattern

COLUMNS = (
    "network", "phase", "batch", "tokens", "attention", "elementwise", "pattern", "sparsity", "dtype", "device",
    "dense_us", "sparse_us", "layer_speedup", "speedup", "cap", "share_prunable", "share_kept_dense", "share_attention",
    "share_depthwise", "share_elementwise", "launches",
)  # fmt: skip
"""Columns of ``end_to_end``."""


def _many(value: Any) -> list[Any]:
    return [value] if isinstance(value, (str, int, float)) or not isinstance(value, Iterable) else list(value)


def end_to_end(
    network: str | Sequence[str],
    *,
    device: str | Ceilings = "h100",
    pattern: str | Sequence[str] = "2:4",
    sparsity: float | Sequence[float] = 0.9,
    dtype: str = "fp16",
    batch: int | Sequence[int] = 1,
    tokens: int | Sequence[int] = 2048,
    phase: str | Sequence[str] = "prefill",
    attention: str | Sequence[str] = "fused",
    elementwise: str | Sequence[str] = "fused",
    all_logits: bool = False,
    keep_dense: Sequence[str] = KEPT_DENSE,
    floor_us: float = 0.0,
) -> pd.DataFrame:
    """Predicted speedup of whole networks when only their prunable layers are sparse. Needs no GPU.

    Args:
        network: names of tables, in any spelling (``llama-3-8b``); images ignore ``tokens`` and ``phase``.
        device: a GPU of ``hardware list``, a TOML file, or ceilings.
        pattern, sparsity: of the prunable layers; every combination. n:m has a sparsity of its own.
        dtype: of all arithmetic.
        batch: images or sequences.
        tokens: sequence length; in decode what is in the cache.
        phase: ``prefill`` or ``decode``.
        attention: ``fused`` or ``materialised`` (scores written to memory and read back).
        elementwise: norms, activations, sums and gates ``fused`` into products, or ``separate`` kernels.
        all_logits: in a prefill, the output head runs for every token instead of the last one.
        keep_dense: globs of layers that stay dense.
        floor_us: launch floor, once a launch on both sides.

    Returns:
        One row per combination (``COLUMNS``): times in microseconds, the speedup of the prunable layers alone
        (``layer_speedup``), of the network (``speedup``), what it cannot pass (``cap``), and shares of the dense time.

    Raises:
        UserError: an unknown network, pattern, phase, dtype or device.
    """
    ceilings = find(device) if isinstance(device, str) else device
    rows = []
    for name in map(networks.find, _many(network)):
        images = networks.load(name)[0].per == "image"
        for work in _workloads(images, batch, tokens, phase, attention, elementwise, all_logits):
            for text in _many(pattern):
                parsed = Pattern.parse(text)
                own = parsed.kind in ("nm", "dense")
                for level in [1 - parsed.n / parsed.m if parsed.m else 0.0] if own else _many(sparsity):
                    found = whole(
                        name, work, parsed, float(level), dtype, ceilings, kept_dense=keep_dense, floor_s=floor_us / 1e6
                    )
                    labels = (
                        name, work.phase, work.batch, None if images else work.tokens, work.fusion,
                        "separate" if work.separate else "fused", str(parsed),
                    )  # fmt: skip
                    rows.append((*labels, float(level), dtype, ceilings.device, *_figures(found)))
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    frame["tokens"] = frame["tokens"].astype("Int64")
    return frame


def _workloads(
    images: bool, batch: Any, tokens: Any, phase: Any, attention: Any, elementwise: Any, all_logits: bool
) -> list[Workload]:
    for how in _many(elementwise):
        if how not in ("fused", "separate"):
            raise UserError(f"elementwise {how!r}: choose fused or separate")
    phases, lengths = (["image"], [1]) if images else (_many(phase), _many(tokens))
    return [
        Workload(p, int(size), int(length), fusion, how == "separate", all_logits)  # type: ignore[arg-type]
        for p in phases
        for size in _many(batch)
        for length in lengths
        for fusion in _many(attention)
        for how in _many(elementwise)
    ]


def _figures(found: Whole) -> tuple[float, ...]:
    shares = (found.share(name) for name in ("prunable", "kept dense", "attention", "depthwise", "elementwise"))
    launches = sum(part.launches for part in found.parts)
    return (
        found.dense_s * 1e6, found.sparse_s * 1e6, found.layer_speedup, found.speedup, found.cap, *shares, launches,
    )  # fmt: skip
