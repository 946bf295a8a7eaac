"""One case, term by term: from the plain limit to the refined prediction, dense and sparse, beside a measurement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pandas as pd

from sparsity_roofline.model import hardware
from sparsity_roofline.model.case import Case
from sparsity_roofline.model.ceilings import Ceilings
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.refined import PARTS, Refined, waterfall
from sparsity_roofline.model.table import CaseTable
from sparsity_roofline.validation.join import pair
from sparsity_roofline.validation.refined.predict import predictable, table_of, tiling_of

MEANING = {
    "plain": "max(operations / peak, bytes / bandwidth), data sheet",
    "ceilings": "what the device was measured to reach",
    "unit": "the peak of the unit the kernel runs on",
    "traffic": "used rows of X only; Y less what L2 holds back",
    "fraction": "share of that peak the kernel's inner loop reaches",
    "tile": "whole tiles and whole steps along K",
    "wave": "whole waves of tiles over the multiprocessors",
    "balance": "the longest row of tiles against the mean",
    "l2": "L2 as a second ceiling, reads of tiles and stores of Y",
    "steps": "latency of programs and of their steps along K",
    "setup": "launch floor, and a further launch where K is split",
    "overlap": "stores and steps overlap imperfectly with the rest",
}
"""What each step of ``Explanation.rows`` adds, in words."""


@dataclass
class Explanation:
    """How a prediction comes about.

    Attributes:
        case: in words. device, kernel, dense_kernel: of the prediction.
        rows: per step: ``term``, ``meaning``, ``dense_us``, ``sparse_us``, ``speedup``.
        parts: seconds in microseconds by part and side, of the full model.
        tiles: BM, BN and split taken, by side.
        calibrated: the constants were fitted on this device and dtype.
        measured: ``dense_us``, ``sparse_us``, ``speedup`` of the record; empty without one.
    """

    case: str
    device: str
    kernel: str
    dense_kernel: str
    rows: list[dict[str, Any]]
    parts: dict[str, dict[str, float]]
    tiles: dict[str, dict[str, int]]
    calibrated: bool
    measured: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def explain_case(
    case: Case, ceilings: Ceilings, kernel: str | None = None, dense_kernel: str = "dense.cublas"
) -> Explanation:
    """Explain the prediction of a case under one kernel.

    Raises:
        UserError: see ``model.refined.refined``.
    """
    steps = waterfall(CaseTable.of([case]), ceilings, kernel, dense_kernel=dense_kernel)
    return _explanation(f"{case.matrix}, N = {case.N}, {case.dtype}", steps, ceilings, dense_kernel)


def explain_record(records: pd.DataFrame, chosen: pd.Series[Any]) -> Explanation:
    """Explain one record of normalised ``records``, beside what was measured; its dense partner is that of the join.

    Raises:
        UserError: a record without a time, of a kernel that is not described, or on a device that is not in the table.
    """
    row = records.loc[[chosen.name]]
    if not bool(predictable(row).iloc[0]):
        raise UserError(
            f"{chosen['kernel']} on {chosen['matrix']}: the refined model takes records with a time, of a kernel that "
            "is described, on a GPU of `hardware list`"
        )
    ceilings = hardware.datasheet(str(chosen["ceilings_datasheet"]))
    longest = row["max_row_nnz"].to_numpy(np.float64)
    steps = waterfall(table_of(row), ceilings, str(chosen["kernel"]), tiling=tiling_of(row), max_row_nnz=longest)
    words = f"{chosen['matrix']}, {chosen['M']}x{chosen['K']}x{chosen['N']}, {chosen['dtype']}"
    out = _explanation(words, steps, ceilings, "dense.cublas")
    out.measured = {"sparse_us": float(chosen["time_ns"]) / 1e3}
    pairs = pair(records).pairs
    mine = pairs[pairs["sparse_record"] == chosen.name]
    if len(mine):
        out.measured["dense_us"] = float(mine["time_dense_ns"].iloc[0]) / 1e3
        out.measured["speedup"] = float(mine["measured_speedup"].iloc[0])
    if chosen["format"] == "dense":
        out.measured = {"dense_us": out.measured["sparse_us"]}
    return out


def choose(records: pd.DataFrame, match: str, kernel: str | None, columns: Sequence[int]) -> pd.Series[Any]:
    """The one record whose matrix name fits a glob, with this kernel and N where they are given.

    Raises:
        UserError: none fits, or more than one; the message lists what would tell them apart.
    """
    fits = [fnmatchcase(str(name), match) for name in records["matrix"]]
    found = records[pd.Series(fits, index=records.index) & (records["status"] == "ok")]
    if kernel is not None:
        found = found[found["kernel"] == kernel]
    if columns:
        found = found[found["N"].isin(list(columns))]
    if found.empty:
        raise UserError(f"no record with a time fits matrix {match!r}" + (f" and kernel {kernel}" if kernel else ""))
    keys = ["matrix", "N", "dtype", "kernel"]
    different = found.drop_duplicates(keys)
    if len(different) > 1:
        shown = "; ".join(f"{m} N={n} {d} {k}" for m, n, d, k in different[keys].head(6).itertuples(index=False))
        raise UserError(f"{len(different)} records fit: {shown}; narrow it with --match, --columns, --dtype, --kernel")
    return found.iloc[0]


def _explanation(words: str, steps: list[tuple[str, Refined]], ceilings: Ceilings, dense_kernel: str) -> Explanation:
    final = steps[-1][1]
    sides = {"dense": final.dense, "sparse": final.sparse}
    return Explanation(
        case=words,
        device=f"{ceilings.device}, {ceilings.kind} ceilings",
        kernel=str(final.sparse.kernel[0]),
        dense_kernel=dense_kernel,
        rows=[
            {
                "term": name,
                "meaning": MEANING[name],
                "dense_us": float(one.refined_dense_s[0]) * 1e6,
                "sparse_us": float(one.refined_s[0]) * 1e6,
                "speedup": float(one.speedup[0]),
            }
            for name, one in steps
        ],
        parts={part: {name: float(one.parts[part][0]) * 1e6 for name, one in sides.items()} for part in PARTS},
        tiles={
            name: {"BM": int(one.BM[0]), "BN": int(one.BN[0]), "split": int(one.split[0])}
            for name, one in sides.items()
        },
        calibrated=bool(final.sparse.calibrated[0] and final.dense.calibrated[0]),
    )
