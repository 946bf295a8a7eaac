"""From runs to the report: one HTML file, tables as CSV, Markdown and LaTeX, figures as PNG and SVG."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from sparsity_roofline.model.errors import UserError
from sparsity_roofline.validation import accuracy
from sparsity_roofline.validation.equality import add_levels
from sparsity_roofline.validation.frame import add_ceilings, normalise
from sparsity_roofline.validation.join import pair
from sparsity_roofline.validation.matched import MATCHED
from sparsity_roofline.validation.page import figures as drawn
from sparsity_roofline.validation.page.data import payload
from sparsity_roofline.validation.page.html import Page, render
from sparsity_roofline.validation.page.runs import Run, label_of, number_in_run, read_runs, together
from sparsity_roofline.validation.page.sheets import Sheet, sheets
from sparsity_roofline.validation.page.words import Answer, answers
from sparsity_roofline.validation.page.worst import explanations, in_words, worst
from sparsity_roofline.validation.report import Validation, validate

TITLE = "Does the Sparsity Roofline hold?"


@dataclass
class Report:
    """A report.

    Attributes:
        runs: what it is made of. validation: of all of them together; its pairs have ``run`` and ``optimisation``.
        answers: the summary, run by run. sheets: every table. html: the page.
        written: files written, in order.
    """

    runs: list[Run]
    validation: Validation
    answers: list[Answer]
    sheets: list[Sheet]
    html: str
    written: list[Path] = field(default_factory=list)

    def table(self, name: str) -> pd.DataFrame:
        """A table by name: headline, groups, cells, equality, matched, networks, accuracy, worst, unpaired."""
        return next(sheet.frame for sheet in self.sheets if sheet.name == name)


def report(
    runs: Sequence[str | os.PathLike[str]] | str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    tables: str | os.PathLike[str] | None = None,
    figures: str | os.PathLike[str] | None = None,
    accuracies: str | os.PathLike[str] | None = None,
    title: str = TITLE,
    preset: str = "paper",
    ceilings: str | None = None,
    dense_kernel: str | None = None,
    floor_ns: float | None = None,
    resamples: int = 2000,
    seed: int = 0,
    command: str = "",
) -> Report:
    """Judge one or more runs together. Needs no GPU.

    Args:
        runs: run folders or files of records; several devices stand side by side.
        out: the HTML file. tables: folder for CSV, Markdown and LaTeX. figures: folder for PNG and SVG. None: not
            written.
        accuracies: CSV of network, pattern, sparsity and accuracy; None: those published with the DLMC.
        title: of the page. command: how it was made, shown in it.
        preset, ceilings, dense_kernel, floor_ns, resamples, seed: see ``validate``.

    Raises:
        UserError: no records, the same run twice, an unknown option, no pair at all, or a place that cannot be written.
    """
    import sparsity_roofline

    many = read_runs([runs] if isinstance(runs, str | os.PathLike) else list(runs))
    if out is not None and Path(out).suffix.lower() not in (".html", ".htm"):
        raise UserError(f"--out {out}: write a .html file")
    records = together(many)
    options: dict[str, Any] = {"preset": preset, "ceilings": ceilings, "floor_ns": floor_ns}
    checked = validate(records, dense_kernel=dense_kernel, plots=False, resamples=resamples, seed=seed, **options)
    if checked.pairs.empty:
        raise UserError("nothing to report: " + (" ".join(checked.messages) or "no pair of a sparse and a dense time"))
    rows, labels = add_ceilings(normalise(records), ceilings), label_of(many)
    pairs = checked.pairs.assign(run=checked.pairs["run_id"].map(labels).fillna(""))
    checked.pairs = number_in_run(add_levels(pairs, rows), many)
    matched = pair(records, dense_kernel=MATCHED, **options).pairs
    known = accuracy.published() if accuracies is None else accuracy.read_accuracies(accuracies)
    worst_pairs = worst(checked.pairs)
    found = explanations(worst_pairs, rows)
    said = [in_words(row, one) for row, one in zip(worst_pairs.to_dict("records"), found, strict=True)]
    made = sheets(
        checked.pairs, matched, worst_pairs.assign(why=said), checked.unpaired, known, resamples=resamples, seed=seed
    )
    by_name = {sheet.name: sheet.frame for sheet in made}
    told = answers(checked.pairs)
    page = Page(
        title=title, answers=told, messages=checked.messages, conditions=_conditions(checked), sheets=made,
        worst=list(zip(worst_pairs.to_dict("records"), found, said, strict=True)), runs=many,
        data=payload(checked.pairs, rows, by_name["networks"], by_name["accuracy"], by_name["equality"]),
        command=command, version=sparsity_roofline.__version__, options=checked.options,
    )  # fmt: skip
    result = Report(many, checked, told, made, render(page))
    try:
        if out is not None:
            result.written.append(_write(Path(out), result.html))
        if tables is not None:
            folder = _folder(tables)
            result.written += [path for sheet in made for path in sheet.write(folder)]
        if figures is not None:
            result.written += drawn.write(checked.pairs, rows, by_name, _folder(figures))
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        place = error.filename or out or tables or figures
        raise UserError(f"cannot write to {place}: {error.strerror or error}", 4 if full else 2) from error
    return result


def _folder(path: str | os.PathLike[str]) -> Path:
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _conditions(checked: Validation) -> str:
    """One line: under what conditions the figures hold."""
    names = {"dense_kernel": "dense partner", "timer": "timer", "regime_l2": "L2", "regime_clocks": "clocks"}
    seen = [f"{word} {', '.join(sorted({str(v) for v in checked.pairs[name]}))}" for name, word in names.items()]
    kinds = ", ".join(sorted({str(v) for v in checked.pairs["ceilings"]}))
    return f"Preset {checked.options['preset']}, {kinds} ceilings; {'; '.join(seen)}."
