"""Makes the table that ``<format>.auto`` chooses by, and tells how good the choice is on shapes it was not made from.

    python -m sparsity_roofline.validation.auto RUN... [--write TABLE.csv]

Every (matrix, format, dtype, N) of the runs with at least two kernels is a cell. Each cell is then decided by the cells
of other (M, K) alone; what the chosen kernel reached of the fastest one's speed is printed by format and dtype.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd

from sparsity_roofline.bench.store import read_records
from sparsity_roofline.kernels.auto.choose import COLUMNS, Cell, choose, features
from sparsity_roofline.model.case import Case
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.validation.frame import normalise

GOAL = 0.97
_KEY = ["format", "dtype", "M", "K", "N", "density", "block"]
_Key = tuple[int, int, int, float, int]  # from M on


def losses(records: pd.DataFrame) -> pd.DataFrame:
    """One row per (cell, kernel) with ``COLUMNS``; the median where a cell was measured more than once.

    ``density`` is that of the stored elements. Kernels called ``auto`` are left out, and so are cells with one kernel.

    Raises:
        UserError: not records.
    """
    rows = normalise(records)
    rows = rows[(rows["status"] == "ok") & (rows["time_ns"] > 0) & ~rows["kernel"].str.endswith(".auto")]
    rows = rows[(rows["device"].astype(str) != "cpu") & (rows["layout"] == "row-major")].copy()
    stored = [_stored(row) for row in rows.to_dict("records")]
    rows["density"] = [float(f"{share:.4g}") for share in stored]
    rows["block"] = rows["block_rows"].astype(int).clip(lower=1)
    table = rows.groupby([*_KEY, "kernel"], as_index=False)[["time_ns"]].median()
    fastest = table.groupby(_KEY)["time_ns"].transform("min")
    counted = table.groupby(_KEY)["kernel"].transform("size")
    table["slowdown"] = (table["time_ns"] / fastest).round(4)
    return table[counted > 1][list(COLUMNS)].reset_index(drop=True)


def held_out(table: pd.DataFrame) -> pd.DataFrame:
    """The choice for each cell from the cells of other shapes: ``chosen``, ``fastest`` and ``reached`` (1 is perfect).

    Cells whose format and dtype have no other shape are left out.
    """
    out = []
    for (format, dtype), group in table.groupby(["format", "dtype"]):
        cells = {
            cast(_Key, key): dict(zip(g["kernel"], g["slowdown"], strict=True)) for key, g in group.groupby(_KEY[2:])
        }
        known = {
            key: Cell(features(*key), {k: float(np.log(v)) for k, v in slow.items()}, key[:2])
            for key, slow in cells.items()
        }
        for key, slow in cells.items():
            others = [cell for cell in known.values() if cell.shape != key[:2]]
            if not others:
                continue
            M, K, N, density, block = key
            chosen = choose(_case(str(format), str(dtype), M, K, N, density, block), sorted(slow), others)
            fastest = min(slow, key=lambda name: slow[name])
            out.append(
                {"format": format, "dtype": dtype, "M": M, "K": K, "N": N, "density": density, "block": block,
                 "chosen": chosen, "fastest": fastest, "reached": 1.0 / slow[chosen]}
            )  # fmt: skip
    return pd.DataFrame(out, columns=[*_KEY, "chosen", "fastest", "reached"])


def summary(choices: pd.DataFrame) -> pd.DataFrame:
    """By format and dtype: cells, geometric mean and minimum of ``reached``, share of cells at ``GOAL`` or better."""
    rows = []
    for (format, dtype), group in choices.groupby(["format", "dtype"]):
        reached = group["reached"].to_numpy(np.float64)
        rows.append(
            {"format": format, "dtype": dtype, "cells": len(group), "geomean": float(np.exp(np.log(reached).mean())),
             "least": float(reached.min()), f"share at {GOAL:g}": float((reached >= GOAL).mean())}
        )  # fmt: skip
    return pd.DataFrame(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(prog="python -m sparsity_roofline.validation.auto", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument(
        "--write", type=Path, metavar="TABLE.csv", help="where choose.py reads it: kernels/auto/table.csv"
    )
    given = parser.parse_args(arguments)
    try:
        table = losses(pd.concat([read_records(run) for run in given.runs], ignore_index=True))
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    if table.empty:
        sys.stderr.write("error: no cell was measured with two kernels or more: nothing to choose between\n")
        return 2
    sys.stdout.write(summary(held_out(table)).to_string(index=False, float_format=lambda v: f"{v:.3f}") + "\n")
    if given.write:
        table.to_csv(given.write, index=False, lineterminator="\n")
        sys.stdout.write(f"{len(table)} rows into {given.write}\n")
    return 0


def _stored(row: dict[object, object]) -> float:
    size = float(row["M"]) * float(row["K"])  # type: ignore[arg-type]
    if row["format"] == "bsr":
        stored = float(row["stored_blocks"]) * float(row["block_rows"]) * float(row["block_cols"])  # type: ignore[arg-type]
        return stored / size
    return 1.0 if row["format"] == "dense" else float(row["density"])  # type: ignore[arg-type]


def _case(format: str, dtype: str, M: int, K: int, N: int, density: float, block: int) -> Case:
    nnz = round(density * M * K)
    blocks = round(nnz / block**2) if format == "bsr" else 0
    size = block if format == "bsr" else 0
    n, m = (2, 4) if format == "nm" else (0, 0)
    return Case("auto", "auto", M, K, N, "auto", format, dtype, nnz, size, size, n, m, blocks)  # type: ignore[arg-type]


if __name__ == "__main__":
    sys.exit(main())
