"""Matched pairs: one kernel family at density 1 and at density d, the direct test of "equally optimised".

The partner of a sparse record is a record of the same kernel, shape and block on a weight that is wholly stored; where
there is none, the dense kernel of the same family (``dense.triton`` for ``bsr.triton``: same language and author).
Against the vendor's dense kernel the error then splits without remainder:

    ln(measured / predicted) = [ln f_s(d) - ln f_s(1)] + [ln f_s(1) - ln f_vendor]
                                 sparsity effect           implementation effect
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from sparsity_roofline.validation.errors import bias, cluster_bootstrap, shape_clusters
from sparsity_roofline.validation.summary import add_strata, headline

MATCHED = "matched"
"""The name of this way to choose a partner, beside "best" and the names of dense kernels."""

_GRAIN = ("block_rows", "block_cols", "n", "m")

EFFECT_COLUMNS = (
    "partner", "pairs", "shapes", "parity_matched", "parity_matched_low", "parity_matched_high", "implementation",
    "implementation_low", "implementation_high", "parity_vendor",
)  # fmt: skip

HEADINGS = {
    "kernel": "kernel", "dtype": "dtype", "block": "block", "partner": "partner",
    "pairs": "pairs", "shapes": "layer shapes", "parity_matched": "parity with itself (sparsity effect)",
    "parity_matched_low": "95 % from", "parity_matched_high": "to",
    "implementation": "itself at density 1 against the vendor (implementation effect)",
    "implementation_low": "95 % from ", "implementation_high": "to ", "parity_vendor": "parity with the vendor",
    "device": "device", "run": "run",
}  # fmt: skip


def family(kernel: str) -> str:
    """The dense kernel of a sparse kernel's family: ``dense.triton`` for ``bsr.triton``."""
    return f"dense.{kernel.partition('.')[2]}"


def is_full(rows: pd.DataFrame) -> pd.Series[bool]:
    """Records of a sparse format on a weight of which everything is stored."""
    return (rows["format"] != "dense") & (rows["density"] >= 1.0)


def partners(sparse: pd.DataFrame, usable: pd.DataFrame, keys: tuple[str, ...]) -> np.ndarray:
    """Index label of each sparse record's matched partner, -1 where there is none.

    Args:
        sparse: records to find a partner for. usable: all records with a time, dense ones too. keys: what both sides of
            any pair have in common.
    """
    full = _by_key(usable[is_full(usable)], (*keys, "kernel", *_GRAIN))
    dense = _by_key(usable[usable["format"] == "dense"], (*keys, "kernel"))
    short = list(sparse[list(keys)].itertuples(index=False, name=None))
    grain = list(sparse[list(_GRAIN)].itertuples(index=False, name=None))
    out = np.full(len(sparse), -1, dtype=np.int64)
    itself = is_full(sparse).to_numpy()
    for i, (key, kernel, rest) in enumerate(zip(short, sparse["kernel"], grain, strict=True)):
        twin = -1 if itself[i] else full.get((*key, kernel, *rest), -1)
        out[i] = twin if twin >= 0 else dense.get((*key, family(str(kernel))), -1)
    return out


def _by_key(rows: pd.DataFrame, keys: tuple[str, ...]) -> dict[tuple[Any, ...], int]:
    """Key -> index label of the record with the median time."""
    ordered = rows.sort_values("time_ns", kind="stable")
    groups: dict[tuple[Any, ...], list[int]] = {}
    for label, key in zip(ordered.index, ordered[list(keys)].itertuples(index=False, name=None), strict=True):
        groups.setdefault(tuple(key), []).append(int(label))
    return {key: labels[(len(labels) - 1) // 2] for key, labels in groups.items()}


def effects(
    vendor: pd.DataFrame,
    matched: pd.DataFrame,
    by: tuple[str, ...] = ("device", "run_id", "kernel", "dtype", "block"),
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """The error against the vendor, split in two: one row per group and kind of partner, ``EFFECT_COLUMNS``.

    Args:
        vendor, matched: pairs of the same records with either partner (``join.pair``); only sparse records that have
            both, above the launch floor with both, count.
        by: columns that make a group. resamples, seed: of the bootstrap over layer shapes.
    """
    one = headline(add_strata(vendor)).set_index("sparse_record")
    two = headline(matched).set_index("sparse_record")
    both = one.index.intersection(two.index)
    one, two = one.loc[both], two.loc[both]
    table = one[list(by)].assign(
        partner=two["dense_kernel"].where(two["dense_kernel"] != one["kernel"], one["kernel"] + " at density 1"),
        M=one["M"], K=one["K"], total=one["log_error"], sparsity=two["log_error"],
        implementation=np.log(two["f_dense"]) - np.log(one["f_dense"]),
    )  # fmt: skip
    rows = []
    for key, group in table.groupby([*by, "partner"], sort=True, dropna=False):
        clusters = shape_clusters(group)
        limits = {
            name: np.exp(cluster_bootstrap(group[name].to_numpy(np.float64), clusters, resamples=resamples, seed=seed))
            for name in ("sparsity", "implementation")
        }
        rows.append({
            **dict(zip([*by, "partner"], key, strict=True)), "pairs": len(group), "shapes": len(set(clusters)),
            "parity_matched": bias(group["sparsity"].to_numpy(np.float64)),
            "parity_matched_low": float(limits["sparsity"][0]), "parity_matched_high": float(limits["sparsity"][1]),
            "implementation": bias(group["implementation"].to_numpy(np.float64)),
            "implementation_low": float(limits["implementation"][0]),
            "implementation_high": float(limits["implementation"][1]),
            "parity_vendor": bias(group["total"].to_numpy(np.float64)),
        })  # fmt: skip
    return pd.DataFrame(rows, columns=[*by, *EFFECT_COLUMNS])
