"""From records to an answer on disk: tables, plots and a JSON of what was asked and found."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.record import CEILINGS, PRESETS
from sparsity_roofline.validation import amortisation, clockplot, errors, tables
from sparsity_roofline.validation.decisions import break_even
from sparsity_roofline.validation.frame import add_ceilings, check_preset, normalise
from sparsity_roofline.validation.join import pair
from sparsity_roofline.validation.refined.errors import SPEEDUP_HEADINGS, speedup_table
from sparsity_roofline.validation.refined.pairs import add_refined
from sparsity_roofline.validation.summary import SUMMARY_COLUMNS, by_kernel, headline, summarise

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VALIDATION_VERSION = 1
"""Of validation.json; changes when the meaning of a key does."""

_SOL_COLUMNS = [f"sol_{preset}_{kind}_ns" for preset in PRESETS for kind in CEILINGS]


@dataclass
class Validation:
    """The outcome of a validation.

    Attributes:
        pairs: one row per sparse record beside its dense partner (docs/validate.md names the columns).
        unpaired: the other records, each with the reason.
        summary: one row per stratum (``summary.SUMMARY_COLUMNS``).
        kernels: the same columns, one row per kernel and dtype.
        violations: the pairs that beat the pattern-aware bound.
        refined: errors of the refined model beside the plain one's; no row where it says nothing (a CPU).
        messages: what a reader must know first, a line each; empty of praise, never empty of problems.
        options: what was asked.
        written: files written, in order.
    """

    pairs: pd.DataFrame
    unpaired: pd.DataFrame
    summary: pd.DataFrame
    kernels: pd.DataFrame
    violations: pd.DataFrame
    refined: pd.DataFrame
    messages: list[str] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    written: list[Path] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """What validation.json holds: plain types, null for what is not defined."""
        decided = headline(self.pairs)
        three = errors.three_errors(decided, resamples=self.options["resamples"], seed=self.options["seed"])
        return {
            "validation_version": VALIDATION_VERSION,
            "options": self.options,
            "counts": {
                "records": self.options["records"],
                "pairs": len(self.pairs),
                "below_floor": int(self.pairs["below_floor"].sum()),
                "above_one": int(self.pairs["above_one"].sum()),
                "violations": len(self.violations),
                "unpaired": len(self.unpaired),
                "status": {str(k): int(v) for k, v in self.unpaired["status"].value_counts(sort=True).items()},
            },
            "errors": {name: _plain(a.to_dict()) for name, a in three.items()},
            "kernels": [_plain(row) for row in self.kernels.to_dict("records")],
            "refined": [_plain(row) for row in self.refined.to_dict("records")],
            "summary": [_plain(row) for row in self.summary.to_dict("records")],
            "messages": self.messages,
        }


def validate(
    source: str | os.PathLike[str] | pd.DataFrame,
    out: str | os.PathLike[str] | None = None,
    *,
    preset: str = "paper",
    ceilings: str | None = None,
    dense_kernel: str | None = None,
    floor_ns: float | None = None,
    plots: bool = True,
    resamples: int = 2000,
    seed: int = 0,
) -> Validation:
    """Join, judge and, with ``out``, write ``tables/``, ``plots/`` and ``validation.json`` there.

    Args:
        source: a run folder, its records.parquet or records.jsonl, or the records themselves.
        out: folder to write to (the run folder itself is a good place); None writes nothing.
        preset: cost preset that predicts: ``paper``, ``unit`` or ``bound``.
        ceilings: ``datasheet``, ``measured``, or None: the data sheet for a GPU of the table, else measured.
        dense_kernel: the dense kernel to compare with; None: the vendor's; ``best``: the fastest of each shape.
        floor_ns: launch floor below which a pair stays out of the averages; None: 5 us on a GPU, none on a CPU.
        plots: draw them (needs matplotlib and a second or two).
        resamples, seed: of the bootstrap.

    Raises:
        UserError: no records there, an unknown option, or a folder that cannot be written.
    """
    check_preset(preset)
    records = source if isinstance(source, pd.DataFrame) else _read(source)
    rows = add_ceilings(normalise(records), ceilings)
    joined = pair(records, preset=preset, ceilings=ceilings, dense_kernel=dense_kernel, floor_ns=floor_ns)
    pairs = add_refined(joined.pairs, rows)
    result = Validation(
        pairs=pairs,
        unpaired=joined.unpaired,
        summary=summarise(joined.pairs, resamples=resamples, seed=seed),
        kernels=by_kernel(joined.pairs, resamples=resamples, seed=seed),
        violations=errors.violations(pairs),
        refined=speedup_table(pairs),
        messages=[*_torn(records), *_messages(rows, joined.pairs, joined.unpaired)],
        options={
            "preset": preset, "ceilings": ceilings or "by device", "dense_kernel": dense_kernel or "vendor",
            "floor_ns": floor_ns, "resamples": resamples, "seed": seed, "records": len(records),
        },
    )  # fmt: skip
    if out is not None:
        try:
            _write(result, rows, Path(out), preset, plots)
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise UserError(f"cannot write to {out}: {error.strerror or error}", 4 if full else 2) from error
    return result


def _read(source: str | os.PathLike[str]) -> pd.DataFrame:
    from sparsity_roofline.bench.store import read_records

    return read_records(source)


def _torn(records: pd.DataFrame) -> list[str]:
    if not records.attrs.get("torn"):
        return []
    return ["The last line of records.jsonl is torn (the run was killed while writing it): that case is left out."]


def _messages(rows: pd.DataFrame, pairs: pd.DataFrame, unpaired: pd.DataFrame) -> list[str]:
    """Lines a reader needs before any figure: what is missing, what was left out, what cannot be true."""
    said = []
    ok = rows["status"] == "ok"
    if rows.empty:
        said.append("No records at all: the run has not finished a case.")
    elif not ok.any():
        counts = rows["status"].value_counts()
        said.append("No record has a time: " + ", ".join(f"{n} {status}" for status, n in counts.items()) + ".")
    elif pairs.empty and not rows.loc[ok, _SOL_COLUMNS].notna().any(axis=None):
        said.append(
            "No ceilings in the records: run `sparsity-roofline hardware calibrate` on this machine and measure again."
        )
    elif pairs.empty and not rows.loc[ok, [f"sol_{preset}_ns" for preset in PRESETS]].notna().any(axis=None):
        kinds = " and ".join(sorted(rows.loc[ok, "ceilings"].unique()))
        said.append(f"No record has a speed of light under {kinds} ceilings: leave --ceilings out.")
    elif pairs.empty and (rows.loc[ok, "format"] == "dense").all():
        said.append("Only dense records have a time: there is no sparse kernel to compare with them.")
    elif pairs.empty:
        said.append("No sparse record found its dense partner: measure the dense kernel in the same run.")
    lonely = unpaired[unpaired["why"].str.startswith("no dense partner")]
    for why, count in lonely["why"].value_counts().head(5).items():
        said.append(f"{count} sparse record{'s' if count > 1 else ''}: {why}.")
    below = int(pairs["below_floor"].sum())
    if below:
        rest = "none is left" if below == len(pairs) else f"{len(pairs) - below} are left"
        said.append(f"{below} of {len(pairs)} pairs lie below the launch floor and stay out of averages; {rest}.")
    beaten = int(pairs["violation"].sum())
    if beaten:
        said.append(f"{beaten} of {len(pairs)} pairs beat the bound that nothing can beat: explain them first.")
        if (pairs.loc[pairs["violation"], "ceilings"] == "measured").any():
            said.append(
                "The measured ceilings are too low, as when they were calibrated on a busy machine: "
                "run `sparsity-roofline hardware calibrate` on a quiet one, then measure again."
            )
    above = int((pairs["above_one"] & ~pairs["violation"]).sum())
    if above:
        said.append(
            f"{above} of {len(pairs)} pairs have a fraction above 1 with an honest cause; see the notes column."
        )
    if told := amortisation.message(pairs):
        said.append(told)
    if told := clockplot.message(rows):
        said.append(told)
    if pairs["synthetic"].any():
        said.append(f"{int(pairs['synthetic'].sum())} of {len(pairs)} pairs use synthetic weights.")
    return said


def _write(result: Validation, rows: pd.DataFrame, out: Path, preset: str, plots: bool) -> None:
    folder = out / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    notes = "\n".join(f"- {line}" for line in [*result.messages, _conditions(result)])
    cases, missing = tables.case_table(result.pairs), tables.unpaired_table(result.unpaired)
    listing: list[tuple[str, pd.DataFrame, str, dict[str, str] | None]] = [
        ("cases", cases, "Predicted and measured, case by case", tables.CASE_COLUMNS),
        ("kernels", result.kernels, "Summary by kernel and dtype", tables.SUMMARY_HEADINGS),
        ("summary", result.summary, "Summary by stratum", tables.SUMMARY_HEADINGS),
        ("unpaired", missing, "Records without a pair", None),
        ("break-even", break_even(result.pairs), "Sparsity from which sparse is faster", None),
        ("violations", tables.case_table(result.violations), "Pairs that beat the bound", tables.CASE_COLUMNS),
        ("refined", result.refined, "The refined model beside the plain one", SPEEDUP_HEADINGS),
    ]
    for name, table, title, headings in listing:
        result.written.append(tables.write_csv(table, folder / f"{name}.csv"))
        result.written.append(tables.write_markdown(table, folder / f"{name}.md", title, notes, headings))
    result.written += amortisation.write(result.pairs, folder, notes)
    if plots:
        result.written += _plots(result, rows, out / "plots", preset)
    target = out / "validation.json"
    text = json.dumps(result.to_json(), indent=2, sort_keys=False, allow_nan=False)
    target.write_text(text + "\n", encoding="utf-8")
    result.written.append(target)


def _plots(result: Validation, rows: pd.DataFrame, folder: Path, preset: str) -> list[Path]:
    from sparsity_roofline.validation import plots, style

    drawn: dict[str, Callable[[], Figure]] = {
        "parity": lambda: plots.parity_plot(result.pairs),
        "parity-by-bound": lambda: plots.parity_plot(result.pairs, colour_by="bounds"),
        "roofline": lambda: plots.roofline_plot(rows, preset=preset),
        "fraction": lambda: plots.fraction_plot(result.pairs),
    }
    if clockplot.has_clocks(rows):
        drawn["clocks"] = lambda: clockplot.clock_plot(rows)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, draw in drawn.items():
        made = draw()
        written += [style.save(made, folder / f"{name}.{suffix}") for suffix in ("png", "svg")]
    return written


def _conditions(result: Validation) -> str:
    """One line that says under what conditions the figures hold."""
    pairs, options = result.pairs, result.options
    if pairs.empty:
        return f"preset {options['preset']}, ceilings {options['ceilings']}, no pair."
    names = ("device", "dense_kernel", "timer", "regime_l2", "regime_clocks", "ceilings")
    seen = {name: ", ".join(sorted({str(v) for v in pairs[name]})) for name in names}
    return (
        f"{seen['device']}; dense partner {seen['dense_kernel']}; preset {options['preset']}, {seen['ceilings']} "
        f"ceilings; timer {seen['timer']}, L2 {seen['regime_l2']}, clocks {seen['regime_clocks']}."
    )


def _plain(row: dict[Any, Any]) -> dict[str, Any]:
    """Numbers as Python has them, what is not a finite number as null."""
    out: dict[str, Any] = {}
    for key, value in row.items():
        value = value.item() if isinstance(value, np.generic) else value
        out[str(key)] = None if isinstance(value, float) and not np.isfinite(value) else value
    return out


__all__ = ["SUMMARY_COLUMNS", "Validation", "validate"]
