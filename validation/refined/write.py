"""From run folders to the tables of the refined model: latency and speedup errors, ablation, worst cases, constants."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd

from sparsity_roofline.bench.store import read_records
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.terms.constants import ANY, KernelConstants, to_rows
from sparsity_roofline.validation import tables
from sparsity_roofline.validation.frame import normalise
from sparsity_roofline.validation.join import pair
from sparsity_roofline.validation.refined.ablation import ablation_table
from sparsity_roofline.validation.refined.errors import (
    LATENCY_HEADINGS,
    SPEEDUP_HEADINGS,
    latency_table,
    speedup_table,
)
from sparsity_roofline.validation.refined.fit import Fitted, fit_all, one_per_case
from sparsity_roofline.validation.refined.pairs import add_refined, ape
from sparsity_roofline.validation.refined.predict import predict, predictable
from sparsity_roofline.validation.refined.split import held_out_rows

WORST = 40


@dataclass
class Refinement:
    """The refined model on some runs.

    Attributes:
        records: with a time and a prediction, one per case, kernel and device.
        pairs: sparse ones beside their dense partners.
        latency, speedup, ablation: the tables.
        fitted: constants made from the runs; empty if the committed ones were used.
        devices: device figures made from the runs' calibrations, rows of ``constants.csv``.
        written: files.
    """

    records: pd.DataFrame
    pairs: pd.DataFrame
    latency: pd.DataFrame
    speedup: pd.DataFrame
    ablation: pd.DataFrame
    fitted: list[Fitted] = field(default_factory=list)
    devices: list[dict[str, Any]] = field(default_factory=list)
    written: list[Path] = field(default_factory=list)


def read(runs: Sequence[str | os.PathLike[str]]) -> pd.DataFrame:
    """Normalised records of several runs.

    Raises:
        UserError: no records in one of them, or none that the model can predict in all.
    """
    records = normalise(pd.concat([read_records(run) for run in runs], ignore_index=True))
    if not predictable(records).any():
        raise UserError("no record of a described kernel on a GPU of the table: the refined model has nothing to say")
    return records


def refine(records: pd.DataFrame, *, fit: bool = False, ablate: bool = True) -> Refinement:
    """Judge the refined model on normalised records.

    Args:
        records: of any runs.
        fit: fit the constants to the records' shapes that are not held out, instead of taking the committed ones.
        ablate: make the table of terms, which takes thirty predictions of every record.
    """
    fitted = fit_all(records) if fit else []
    constants: Mapping[tuple[str, str], KernelConstants] = {(f.kernel, f.dtype): f.constants for f in fitted}
    rows = one_per_case(records[predictable(records)])
    rows = pd.concat([rows, predict(rows, constants=constants)], axis=1)
    rows["held_out"] = held_out_rows(rows)
    pairs = add_refined(pair(records).pairs, records, constants=constants)
    return Refinement(
        records=rows,
        pairs=pairs,
        latency=latency_table(rows),
        speedup=speedup_table(pairs),
        ablation=ablation_table(rows, constants) if ablate else pd.DataFrame(),
        fitted=fitted,
    )


def write(result: Refinement, out: Path, runs: Sequence[str]) -> list[Path]:
    """Write the tables as CSV and Markdown, and new constants if there are any.

    Raises:
        UserError: the folder cannot be written.
    """
    notes = f"Runs: {', '.join(runs)}. A third of the layer shapes is held out of every fit, by M x K."
    listing: list[tuple[str, pd.DataFrame, str, dict[str, str] | None]] = [
        ("latency", result.latency, "Latency: plain speed of light and refined model", LATENCY_HEADINGS),
        ("speedup", result.speedup, "Speedup over cuBLAS: plain, refined, best constant", SPEEDUP_HEADINGS),
        ("terms", result.ablation, "What each term contributes: MAPE of latency in percent", None),
        ("worst", worst(result.records), "The largest errors of the refined model", None),
    ]
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, table, title, headings in listing:
            result.written.append(tables.write_csv(table, out / f"{name}.csv"))
            result.written.append(tables.write_markdown(table, out / f"{name}.md", title, notes, headings))
        if result.fitted:
            source = ", ".join(runs)
            result.written.append(write_constants(result.fitted, out / "constants.csv", source, result.devices))
    except OSError as error:
        raise UserError(f"cannot write to {out}: {error.strerror or error}") from error
    return result.written


def worst(records: pd.DataFrame) -> pd.DataFrame:
    """The records with the largest errors of the refined model, at most three of a kernel and dtype."""
    rows = records.assign(error=ape(records["refined_ns"], records["time_ns"]))
    rows = rows.sort_values("error", ascending=False).groupby(["kernel", "dtype"], sort=False).head(3).head(WORST)
    shown = rows[["kernel", "dtype", "M", "K", "N", "pattern", "density", "held_out", "refined_leading"]].copy()
    shown["measured_us"] = rows["time_ns"] / 1e3
    shown["refined_us"] = rows["refined_ns"] / 1e3
    shown["plain_us"] = rows["sol_paper_datasheet_ns"] / 1e3
    return shown.reset_index(drop=True)


def device_rows(ceilings: Path, source: str) -> list[dict[str, Any]]:
    """Rows of ``constants.csv`` from a run's ``ceilings.json``; none if its calibration did not measure L2.

    Fractions are measured over printed, at most 1: a device may run above the clock its peaks are printed for.
    """
    if not ceilings.is_file():
        return []
    both = json.loads(ceilings.read_text(encoding="utf-8"))
    measured, printed = both.get("measured"), both.get("datasheet")
    if not measured or not printed or not measured.get("l2_shared_bandwidth"):
        return []
    made = {"dram_fraction": ("1", measured["dram_bandwidth"] / printed["dram_bandwidth"])}
    for quantity, rate in sorted(measured["peaks"].items()):
        if quantity in printed["peaks"]:
            made[f"{quantity}_fraction"] = ("1", rate / printed["peaks"][quantity])
    made = {name: (unit, min(value, 1.0)) for name, (unit, value) in made.items()}
    for name in ("l2_bandwidth", "l2_shared_bandwidth", "l2_write_bandwidth"):
        if measured.get(name):
            made[name] = ("B/s", measured[name])
    if measured.get("l2_held_bytes"):
        made["l2_held_share"] = ("1", min(measured["l2_held_bytes"] / printed["l2_bytes"], 1.0))
    if measured.get("launch_floor_s"):
        made["launch_floor_s"] = ("s", measured["launch_floor_s"])
    return [
        {"gpu": printed["device"], "kernel": "-", "dtype": ANY, "constant": name, "unit": unit,
         "value": f"{value:.4g}", "source": f"calibration of {source}"}
        for name, (unit, value) in made.items()
    ]  # fmt: skip


def write_constants(fitted: Sequence[Fitted], path: Path, source: str, devices: Sequence[dict[str, Any]] = ()) -> Path:
    """The committed table of constants with the rows of fitted kernels and of calibrated devices replaced."""
    text = files("sparsity_roofline.model").joinpath("terms/constants.csv").read_text(encoding="utf-8")
    rows: list[dict[str, Any]] = list(csv.DictReader(text.splitlines()))
    new = {(f.gpu, f.kernel, f.dtype) for f in fitted}
    calibrated = {(row["gpu"], row["kernel"], row["constant"]) for row in devices}
    rows = [
        row
        for row in rows
        if (row["gpu"], row["kernel"], row["dtype"]) not in new
        and (row["gpu"], row["kernel"], row["constant"]) not in calibrated
    ]
    rows = sorted([*rows, *devices], key=lambda row: (row["kernel"] != "-", row["gpu"]))
    for one in fitted:
        what = f"fit to {one.cases} cases of {one.shapes} shapes, rms of log time {one.rms:.2f}: {source}"
        rows += [r for r in to_rows(one.gpu, one.kernel, one.dtype, one.constants, what) if r["constant"] in one.free]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(
            file, ["gpu", "kernel", "dtype", "constant", "unit", "value", "source"], lineterminator="\n"
        )
        writer.writeheader()
        writer.writerows(rows)
    return path
