"""Refined latency of every record: its case, its kernel, and the tile its configuration names."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from sparsity_roofline.model import hardware
from sparsity_roofline.model.dtype import DTYPES
from sparsity_roofline.model.refined import PARTS, Side, Terms, side
from sparsity_roofline.model.table import TABLE_FORMATS, CaseTable
from sparsity_roofline.model.terms.constants import KernelConstants
from sparsity_roofline.model.terms.kernel import kernels
from sparsity_roofline.model.terms.tiles import Tiling, accumulators_held, resident

COUNTS = ("M", "K", "N", "nnz", "stored_blocks", "block_rows", "block_cols", "n", "m", "used_columns")
BUFFERS = {5: 3, 7: 4}
"""Triton's pipeline of a load that waits for another one (a block's column, then its rows of X) keeps fewer buffers
than it has stages: by number of stages."""
MOST = 1e6
"""No tile, step or number of programs is larger."""
FRAME_REGISTERS = 48
"""Registers of a thread beside its share of the accumulator: addresses, masks, fragments."""


def table_of(records: pd.DataFrame) -> CaseTable:
    """The cases of normalised records."""
    columns: dict[str, Any] = {name: records[name].to_numpy(np.int64) for name in COUNTS}
    return CaseTable.from_columns(
        **columns, format=records["format"].to_numpy(str), dtype=records["dtype"].to_numpy(str)
    )


def tiling_of(records: pd.DataFrame) -> Tiling:
    """The tile of each record's configuration, arrays of shape (rows, 1); NaN where it names none."""
    wanted = ("kernel", "kernel_config", "dtype", "M", "N", "block_rows", "block_cols")
    rows = [_tile(*values) for values in zip(*(records[name] for name in wanted), strict=True)]
    columns = np.asarray(rows, dtype=np.float64).reshape(len(records), 5).T[:, :, None]
    return Tiling(*columns)


def _tile(kernel: str, config: str, dtype: str, M: int, N: int, r: int, c: int) -> tuple[float, ...]:
    """(BM, BN, BK, split, resident)."""
    unknown = (np.nan,) * 5
    known = kernels().get(kernel)
    if known is None or not config or known.tile is None:
        return unknown
    try:
        chosen: Mapping[str, Any] = {**json.loads(config), "M": M, "N": N, "block_rows": r, "block_cols": c}
        BM, BN, BK = (_figure(known.tile[name], chosen) for name in ("BM", "BN", "BK"))
        split = _figure(known.tile.get("split", 1), chosen)
        programs = _resident(known.tile, chosen, DTYPES[dtype].element_bytes, BM, BN, BK) or known.resident
        found = BM, BN, BK, split, float(programs or accumulators_held(BM, BN))
    except (KeyError, TypeError, ValueError, ZeroDivisionError, OverflowError):
        return unknown  # of another version of the kernel, or spoilt: the kernel's list stands in
    return found if all(0 < figure < MOST for figure in found) else unknown


def _figure(rule: str | float, chosen: Mapping[str, Any]) -> float:
    """A number, a key of the configuration, or a product or quotient of two (``N/SPLIT_N``, ``64*strips``)."""
    if not isinstance(rule, str):
        return float(rule)
    for sign in "*/":
        left, found, right = rule.partition(sign)
        if found:
            a, b = _figure(left, chosen), _figure(right, chosen)
            return a * b if sign == "*" else a / b
    return float(rule) if rule.isdigit() else float(chosen[rule])


def _resident(tile: Mapping[str, Any], chosen: Mapping[str, Any], size: int, BM: float, BN: float, BK: float) -> int:
    """Programs on a multiprocessor, from the buffers and warps that the configuration names; 0 where it names none."""
    if "resident" in tile:
        return int(_figure(tile["resident"], chosen))
    if "warps" not in tile or "stages" not in tile:
        return 0
    warps, stages = int(_figure(tile["warps"], chosen)), int(_figure(tile["stages"], chosen))
    buffers = BUFFERS.get(stages, stages) if tile.get("indirect") else stages
    return resident(max(buffers, 1) * (BM + BN) * BK * size, warps, FRAME_REGISTERS + BM * BN / (32 * warps))


def predict(
    records: pd.DataFrame,
    terms: Terms | None = None,
    constants: Mapping[tuple[str, str], KernelConstants] | None = None,
) -> pd.DataFrame:
    """Refined latency of every record with a time, a GPU of the table and a kernel that is described.

    Args:
        records: normalised.
        terms: which refinements; all by default.
        constants: figures by (kernel, dtype) in place of the kernels' own.

    Returns:
        The records' index; ``refined_ns``, its parts ``refined_<part>_ns`` and ``refined_leading``: not a number and
        "" where there is no prediction.
    """
    names = ["refined_ns", *(f"refined_{part}_ns" for part in PARTS)]
    out = pd.DataFrame(np.nan, index=records.index, columns=names)
    out["refined_leading"] = ""
    for rows, one in _sides(records, terms, constants or {}):
        out.loc[rows, "refined_ns"] = one.seconds * 1e9
        for part in PARTS:
            out.loc[rows, f"refined_{part}_ns"] = one.parts[part] * 1e9
        out.loc[rows, "refined_leading"] = one.leading
    return out


def predictable(records: pd.DataFrame) -> pd.Series[bool]:
    """Records that the refined model can say something of: whole ones, of a kernel and a GPU that it knows."""
    whole = (records["format"] != "nm") | ((records["n"] > 0) & (records["n"] <= records["m"]))
    whole &= (records["format"] != "bsr") | ((records["block_rows"] > 0) & (records["block_cols"] > 0))
    return (
        whole
        & (records["status"] == "ok")
        & records["ceilings_datasheet"].isin(hardware.names())
        & records["kernel"].isin(list(kernels()))
        & records["format"].isin(TABLE_FORMATS)
        & (records["layout"] == "row-major")
    )


def _sides(
    records: pd.DataFrame, terms: Terms | None, constants: Mapping[tuple[str, str], KernelConstants]
) -> Iterator[tuple[pd.Index[Any], Side]]:
    known = records[predictable(records)]
    for (gpu, kernel, dtype), rows in known.groupby(["ceilings_datasheet", "kernel", "dtype"], sort=True):
        yield (
            rows.index,
            side(
                table_of(rows),
                hardware.datasheet(str(gpu)),
                str(kernel),
                terms=terms,
                tiling=tiling_of(rows),
                max_row_nnz=rows["max_row_nnz"].to_numpy(np.float64),
                constants=constants.get((str(kernel), str(dtype))),
            ),
        )
