"""The sentences that a report begins with: does the Sparsity Roofline hold? Figures, not adjectives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from sparsity_roofline.validation.equality import best
from sparsity_roofline.validation.errors import absolute_percentage_errors, bias
from sparsity_roofline.validation.refined.pairs import ape, right
from sparsity_roofline.validation.summary import headline
from sparsity_roofline.validation.tables import number


@dataclass
class Answer:
    """One run's answer: ``figures`` are (value, what it is) pairs, ``sentences`` say what follows from them.

    Runs are not pooled: they differ in suites and in versions of kernels.
    """

    device: str
    run: str
    figures: list[tuple[str, str]]
    sentences: list[str]


def answers(pairs: pd.DataFrame) -> list[Answer]:
    """One answer a device and run, in the order of their names."""
    groups = pairs.groupby(["device", "run"], sort=True)
    return [_answer(str(device), str(run), rows) for (device, run), rows in groups]


def _answer(device: str, run: str, pairs: pd.DataFrame) -> Answer:
    kept = headline(pairs)
    if kept.empty:
        nothing = "Every pair lies below the launch floor: no prediction of the plain limit means anything here."
        return Answer(device, run, [(str(len(pairs)), "pairs")], [nothing])
    e = kept["log_error"].to_numpy(np.float64)
    error = absolute_percentage_errors(e)
    known = kept[kept["refined_speedup"].notna()]
    refined = ape(known["refined_speedup"], known["measured_speedup"]).mean()
    figures = [
        (number(bias(np.log(kept["predicted_speedup"].to_numpy(np.float64)))), "predicted speedup, geometric mean"),
        (number(bias(np.log(kept["measured_speedup"].to_numpy(np.float64)))), "measured speedup"),
        (number(bias(e)), "parity"),
        (_percent(error.mean()), "MAPE, plain"),
        *([(_percent(refined), "MAPE, refined")] if len(known) else []),
        (f"{len(kept)} of {len(pairs)}", "pairs above the launch floor"),
    ]  # fmt: skip
    said = [_as_limit(pairs), _as_prediction(kept, error), *_refined(known), *_by_format(kept)]
    return Answer(device, run, figures, said)


def _as_limit(pairs: pd.DataFrame) -> str:
    beaten = int(pairs["violation"].sum())
    if not beaten:
        return f"As a limit it holds: none of {len(pairs)} pairs beats the pattern-aware bound."
    return f"As a limit it is beaten by {beaten} of {len(pairs)} pairs: each is a fault of a figure until explained."


def _as_prediction(kept: pd.DataFrame, error: np.ndarray) -> str:
    inside = float((error <= 0.10).mean())
    verdict = "it holds for most pairs" if inside >= 0.5 else "it does not hold for most pairs"
    told = right(kept["predicted_speedup"], kept["measured_speedup"])
    return (
        f"As a prediction {verdict}: {_percent(inside)} of the speedups lie within 10 % of the measured ones, "
        f"{_percent(float((error <= 0.25).mean()))} within 25 %; which side is faster is right for "
        f"{_percent(told)} of them."
    )


def _refined(known: pd.DataFrame) -> list[str]:
    if known.empty:
        return []
    unseen = known[known["held_out"].astype(bool)]
    rows = unseen if len(unseen) else known
    words = "on layer shapes that no constant was fitted to" if len(unseen) else "on these pairs"
    error = ape(rows["refined_speedup"], rows["measured_speedup"])
    return [
        f"The refined model, {words} ({len(rows)} pairs), errs by {_percent(float(error.median()))} in the median and "
        f"{_percent(float(error.mean()))} in the mean, and names the faster side for "
        f"{_percent(right(rows['refined_speedup'], rows['measured_speedup']))}."
    ]  # fmt: skip


def _by_format(kept: pd.DataFrame) -> list[str]:
    rows = []
    for (form, dtype), group in best(kept).groupby(["format", "dtype"], sort=True):
        e = group["log_error"].to_numpy(np.float64)
        inside = _percent(float((absolute_percentage_errors(e) <= 0.25).mean()))
        rows.append(f"{form} {dtype} {number(bias(e))} ({inside} within 25 %)")
    return [f"With the fastest kernel of the format in each case, parity is {'; '.join(rows)}."]


def _percent(share: float) -> str:
    return "-" if share != share else f"{number(100 * float(share), 2 if share < 0.095 else 3)} %"
