"""From a file of measurements to tables, the errors of every model and what the plain limit leaves out."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sparsity_roofline.model.ceilings import Ceilings
from sparsity_roofline.model.cost import cost, preset
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.validation.errors import NAN
from sparsity_roofline.validation.external.compare import (
    GROUP,
    QUANTITIES,
    beaten,
    compare,
    headline,
    measured_of,
    predicted_of,
)
from sparsity_roofline.validation.external.mapping import ColumnMap
from sparsity_roofline.validation.external.misses import misses
from sparsity_roofline.validation.external.predictors import Predicted, constant, groups, plain, tables
from sparsity_roofline.validation.external.read import Measurements, read
from sparsity_roofline.validation.external.refine import VARIANTS, Variant, calibrated, refined
from sparsity_roofline.validation.tables import write_csv, write_markdown

CONSTANT = "constant"
PLAIN = "plain"
REFINED = "refined"
CALIBRATED = "calibrated"

NOTES = (
    "MAPE is the mean of |predicted - measured| / measured; bias the geometric mean of measured / predicted; right the "
    "share of rows with a measured speedup outside 0.95-1.05 whose faster side the model names.",
    "constant: the one speedup per device and dtype with the least MAPE on these very rows, chosen in hindsight: a "
    "model that does not beat it explains nothing of the spread.",
    "plain: the speed of light of both sides. refined: with launch, tiles, waves, L2 and achievable fractions, kernels "
    "as fitted on an H100 SXM, no figure taken from this file. calibrated: the same with its constants fitted to this "
    "file, each row by a fit that saw no row of its weight shape.",
)


@dataclass(frozen=True, eq=False)
class ExternalValidation:
    """What a file of measurements says of the models.

    Attributes:
        rows: every usable row with each model's predictions.
        errors: one line per group, quantity and model (``compare.COLUMNS``).
        summary: the speedup errors side by side, for people.
        ablation: MAPE of the calibrated model without one term at a time, fitted anew; empty without calibration.
        missed: what the plain limit leaves out (``misses.COLUMNS``).
        skipped: rows that were not used, by line of the file and reason.
        messages: what a reader must know.
        written: files.
    """

    rows: pd.DataFrame
    errors: pd.DataFrame
    summary: pd.DataFrame
    ablation: pd.DataFrame
    missed: pd.DataFrame
    skipped: pd.DataFrame
    messages: list[str]
    written: list[Path] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return {
            "counts": {"rows": len(self.rows), "skipped": len(self.skipped)},
            "messages": self.messages,
            "errors": self.errors.to_dict("records"),
            "misses": self.missed.to_dict("records"),
            "ablation": self.ablation.to_dict("records"),
        }


def validate_measurements(
    path: str | Path,
    out: str | Path | None = None,
    *,
    mapping: ColumnMap | str | None = None,
    device: Ceilings | None = None,
    cases: bool = True,
    calibrate: bool = False,
    resamples: int = 2000,
) -> ExternalValidation:
    """Check the models against anyone's latencies. Needs no GPU.

    Args:
        path: a CSV file in the schema of docs/measurements.md.
        out: folder for the tables; nothing is written without it.
        mapping: see ``read``.
        device: ceilings for every row instead of those of its ``gpu``.
        cases: also write ``cases.csv``, which repeats every measured latency.
        calibrate: fit the refined model's constants to the file, each row predicted by a fit that has not seen its
            weight shape (see ``external.refine``); some ten seconds for 600 rows, and again for each term left out.
        resamples: of the bootstrap.

    Raises:
        UserError: see ``read``; a folder that cannot be written.
    """
    measured = read(Path(path), mapping, device)
    rows, models = predict_rows(measured, calibrate)
    errors = compare(rows, models, resamples=resamples)
    missed = misses(rows, models[PLAIN])
    summary = headline(errors, rows)
    messages = [*_messages(measured), *beaten(errors, CONSTANT)]
    left_out = ablation(measured, rows, models[CALIBRATED]) if calibrate else pd.DataFrame()
    found = ExternalValidation(rows, errors, summary, left_out, missed, measured.skipped, messages)
    if out is not None:
        found.written.extend(_write(found, Path(out), Path(path).name, cases))
    return found


def ablation(measured: Measurements, rows: pd.DataFrame, whole: Predicted) -> pd.DataFrame:
    """MAPE (1 = 100 %) of both latencies and the speedup with one term left out at a time, constants fitted anew."""
    truth, out = measured_of(rows), []
    for name, variant in VARIANTS.items():
        said = predicted_of(whole if variant == Variant() else calibrated(measured, variant))
        for key, at in groups(rows, GROUP):
            errors = [np.abs(said[q][at] / truth[q][at] - 1) for q in QUANTITIES]
            known = [e[np.isfinite(e)] for e in errors]
            means = (float(e.mean()) if len(e) else NAN for e in known)
            out.append((*key, name, *means))
    return pd.DataFrame(out, columns=[*GROUP, "terms", *(f"mape {quantity}" for quantity in QUANTITIES)])


def predict_rows(measured: Measurements, calibrate: bool = False) -> tuple[pd.DataFrame, dict[str, Predicted]]:
    """The rows with the plain model's bounds and costs, and every model's predictions by name."""
    rows = measured.rows.copy()
    limit, rows["bound_dense"], rows["bound_sparse"] = plain(measured)
    known = cost(tables(measured).as_dense(), preset("paper"))
    rows["flops_dense"], rows["bytes_dense"] = known.flops, known.bytes
    rows["l2_bytes"] = [measured.ceilings[name].l2_bytes for name in rows["device"]]
    nothing = np.full(len(rows), np.nan)
    models = {CONSTANT: Predicted(nothing, nothing, constant(rows)), PLAIN: limit, REFINED: refined(measured)}
    if calibrate:
        models[CALIBRATED] = calibrated(measured)
    for name, model in models.items():
        for what, figures in (("dense_s", model.dense_s), ("sparse_s", model.sparse_s), ("speedup", model.speedup)):
            if np.isfinite(figures).any():
                rows[f"{name} {what}"] = figures
    return rows, models


def _messages(measured: Measurements) -> list[str]:
    found = []
    if measured.recognised:
        found.append(f"columns recognised: {measured.mapping.name} ({measured.mapping.description})")
    if len(measured.skipped):
        reasons = measured.skipped["why"].value_counts()
        said = "; ".join(f"{count} x {why}" for why, count in list(reasons.items())[:5])
        found.append(f"{len(measured.skipped)} rows not used: {said}")
    return found


def _write(found: ExternalValidation, out: Path, source: str, cases: bool) -> list[Path]:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make {out}: {error.strerror or error}") from error
    notes = "\n".join(f"- {line}" for line in (*NOTES, *found.messages))
    written = [
        write_csv(found.errors, out / "errors.csv"),
        write_csv(found.summary, out / "summary.csv"),
        write_markdown(found.summary, out / "summary.md", f"Speedup: every model on {source}", notes),
        write_csv(found.missed, out / "misses.csv"),
        write_markdown(found.missed, out / "misses.md", f"What the plain limit leaves out on {source}"),
    ]
    if len(found.ablation):
        written.append(write_csv(found.ablation, out / "ablation.csv"))
        title = "The calibrated model without one term at a time"
        written.append(write_markdown(found.ablation, out / "ablation.md", title))
    if len(found.skipped):
        written.append(write_csv(found.skipped, out / "skipped.csv"))
    if cases:
        written.append(write_csv(found.rows, out / "cases.csv"))
    described = {"source": source, "rows": len(found.rows), "skipped": len(found.skipped), "messages": found.messages}
    path = out / "validation.json"
    path.write_text(json.dumps(described, indent=2) + "\n", "utf-8")
    return [*written, path]
