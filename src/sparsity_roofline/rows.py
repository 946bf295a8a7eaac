"""Rows of a prediction that the case table does not make: declared patterns, and what converting a weight costs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from sparsity_roofline.model import roofline
from sparsity_roofline.model.ceilings import Ceilings
from sparsity_roofline.model.cost import CostOptions
from sparsity_roofline.model.declared import Declared
from sparsity_roofline.model.dtype import DTYPES
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.reuse import conversion_s, reuses
from sparsity_roofline.model.table import CaseTable


def declared_rows(
    shapes: Sequence[tuple[int, int, int]],
    patterns: Sequence[Declared],
    sparsities: Sequence[float],
    dtypes: Sequence[str],
    ceilings: Ceilings,
    options: CostOptions,
) -> pd.DataFrame:
    """Every shape, declared pattern, sparsity and dtype, in the columns of ``api.predict``.

    Raises:
        UserError: a sparsity that a pattern cannot have, or a peak the device does not have.
    """
    rows = []
    for M, K, N in shapes:
        for pattern in patterns:
            for density in [pattern.density] if pattern.density else [1.0 - float(s) for s in sparsities]:
                if not 0 < density <= pattern.max_density:
                    raise UserError(
                        f"pattern {pattern.name} keeps more than 0 and at most {pattern.max_density:g} of a weight: "
                        f"sparsity {1 - density:g} is not possible"
                    )
                for dtype in dtypes:
                    rows.append(_row((M, K, N), pattern, density, dtype, ceilings, options))
    return pd.DataFrame(rows)


def _row(
    shape: tuple[int, int, int],
    pattern: Declared,
    density: float,
    dtype: str,
    ceilings: Ceilings,
    options: CostOptions,
) -> dict[str, object]:
    M, K, N = shape
    table = CaseTable.from_columns(M=M, K=K, N=N, format="dense", dtype=dtype)
    plain = roofline.predict(table, ceilings, options=options)
    found = pattern.cost(M, K, N, density, dtype, options, ceilings.l2_bytes)
    limit = roofline.sol(found, pattern.rate(dtype, ceilings), ceilings.dram_bandwidth)
    kept = round(density * M * K)
    return {
        "collection": "shapes", "network": None, "layer": None, "matrix": f"{M}x{K}@{pattern.name}@{1 - density:g}",
        "M": M, "K": K, "N": N, "batch": None, "pattern": pattern.name, "target_sparsity": 1.0 - density,
        "format": "declared", "dtype": dtype, "nnz": kept, "density": density, "stored_elements": kept,
        "used_columns": K, "synthetic": True,
        "sol_dense_us": float(plain.sol_dense_s[0]) * 1e6, "sol_us": float(limit.latency_s[0]) * 1e6,
        "bound_dense": str(plain.bound_dense[0]), "bound": str(limit.bound[0]),
        "speedup": float(plain.sol_dense_s[0] / limit.latency_s[0]),
        "flops_dense": float(plain.flops_dense[0]), "flops": float(found.flops[0]),
        "bytes_dense": float(plain.bytes_dense[0]), "bytes": float(found.bytes[0]),
        "stored_bytes": float(found.weight_bytes[0]),
    }  # fmt: skip


def add_reuses(frame: pd.DataFrame, ceilings: Ceilings, options: CostOptions) -> None:
    """Add ``convert_us`` and ``reuses`` (``model.reuse``): one pass over the dense weight, the stored form written."""
    if frame.empty:
        frame["convert_us"], frame["reuses"] = [], []
        return
    own = np.array([DTYPES[name].element_bytes for name in frame["dtype"]], dtype=np.float64)
    each = own if options.weight_bytes is None else np.full_like(own, options.weight_bytes)
    weight = each * frame["M"].to_numpy(np.float64) * frame["K"].to_numpy(np.float64)
    convert = conversion_s(weight, frame["stored_bytes"].to_numpy(np.float64), ceilings.dram_bandwidth) * 1e6
    gain = (frame["sol_dense_us"] - frame["sol_us"]).to_numpy(np.float64)
    frame["convert_us"] = np.where(frame["format"] == "dense", np.nan, convert)
    frame["reuses"] = reuses(frame["convert_us"].to_numpy(np.float64), gain)
