"""The tables of a report, each with its title, headings and the sentence that says how it is made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from sparsity_roofline.validation import accuracy, equality, matched, sums, tables
from sparsity_roofline.validation.latex import write_latex
from sparsity_roofline.validation.page.worst import HEADINGS as WORST
from sparsity_roofline.validation.summary import crossed

_FIGURES = {
    "pairs": "pairs", "shapes": "layer shapes", "predicted_speedup": "predicted speedup",
    "refined_speedup": "refined prediction", "measured_speedup": "measured speedup",
    "f_dense": "fraction of SoL dense", "f_sparse": "fraction of SoL sparse", "parity": "parity",
    "parity_low": "95 % from", "parity_high": "to", "loa_low": "limits of agreement from", "loa_high": "to ",
    "median_ape": "median APE (1 = 100 %)", "mape": "MAPE (1 = 100 %)", "mape_low": "95 % from ", "mape_high": "to  ",
    "refined_mape": "refined MAPE", "refined_median_ape": "refined median APE", "plain_right": "faster side right",
    "refined_right": "refined right", "faster_both": "sparse faster: predicted and measured",
    "faster_only_predicted": "only predicted", "faster_only_measured": "only measured", "faster_neither": "neither",
}  # fmt: skip

_OF = {"format": "format", "block": "block", "kernel": "kernel", "dtype": "dtype"}
_FROM = {"device": "device", "run": "run"}
_END = {"violations": "beat the bound", "above_one": "f > 1", "below_floor": "below floor"}

HEADLINE = (*_FROM, "format", "kernel", "dtype")
GROUP = (*_FROM, *_OF)
CELL = (*GROUP, "level", "bounds")


@dataclass
class Sheet:
    """One table.

    Attributes:
        name: of its files and its place in the page. title: for people. notes: how it is made.
        frame: every column. headings: the columns for people. open: shown unfolded in the page.
    """

    name: str
    title: str
    notes: str
    frame: pd.DataFrame
    headings: dict[str, str]
    open: bool = False

    def write(self, folder: Path) -> list[Path]:
        """CSV, Markdown and LaTeX."""
        return [
            tables.write_csv(self.frame, folder / f"{self.name}.csv"),
            tables.write_markdown(self.frame, folder / f"{self.name}.md", self.title, self.notes, self.headings),
            write_latex(self.frame, folder / f"{self.name}.tex", f"{self.title}. {self.notes}", self.name,
                        self.headings),
        ]  # fmt: skip


def headline_sheet(pairs: pd.DataFrame, resamples: int, seed: int) -> Sheet:
    """The table that the page begins with."""
    columns = ("pairs", "predicted_speedup", "refined_speedup", "measured_speedup", "f_dense", "f_sparse", "parity",
               "parity_low", "parity_high", "mape", "refined_mape", "plain_right", "refined_right", "faster_both",
               "faster_only_predicted", "faster_only_measured", "faster_neither")  # fmt: skip
    by = {name: _OF[name] for name in ("kernel", "dtype")}
    return Sheet(
        "headline", "Predicted and measured, by kernel and dtype",
        "Geometric means over the pairs whose speed of light is above the launch floor; 95 % intervals by bootstrap "
        "over layer shapes; faster side right: share of pairs, ties within 5 % aside.",
        crossed(pairs, HEADLINE, resamples=resamples, seed=seed), {**by, **{k: _FIGURES[k] for k in columns}, **_FROM},
        True,
    )  # fmt: skip


def sheets(
    pairs: pd.DataFrame,
    matched_pairs: pd.DataFrame,
    worst: pd.DataFrame,
    unpaired: pd.DataFrame,
    accuracies: pd.DataFrame,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> list[Sheet]:
    """Every table of a report, in reading order. ``pairs`` have ``run`` and ``optimisation``."""
    rest = {**_FIGURES, "spearman": "Spearman", "kendall": "Kendall"}
    even = {"break_even_predicted": "break-even sparsity predicted", "break_even_measured": "measured ",
            "break_even_layers": "over layers"}  # fmt: skip
    runs = dict(zip(pairs["run_id"], pairs["run"], strict=True))
    summed = sums.network_sums(pairs)
    summed["run"] = summed["run_id"].map(runs)
    effects = matched.effects(pairs, matched_pairs, ("device", "run", "kernel", "dtype", "block"),
                              resamples=resamples, seed=seed)  # fmt: skip
    return [
        headline_sheet(pairs, resamples, seed),
        Sheet(
            "groups", "By format, block, kernel and dtype, with break-even sparsities",
            "As the table above. Break-even: median over the layers on which the speedup crosses 1 within the "
            "sparsities measured, by interpolation; empty where it crosses on none.",
            crossed(pairs, GROUP, resamples=resamples, seed=seed), {**_OF, **rest, **even, **_END, **_FROM},
        ),
        Sheet(
            "cells", "By format, block, kernel, dtype, sparsity and bound (dense > sparse)",
            "As above, one sparsity and one pair of bounds a row; a group that lies below the launch floor keeps its "
            "row.",
            crossed(pairs, CELL, resamples=min(resamples, 500), seed=seed),
            {**_OF, "level": "sparsity", "bounds": "bound", **_FIGURES, **_END, **_FROM},
        ),
        Sheet(
            "equality", "How equal is equally optimised?",
            "Parity is the error: a prediction is within 10 % exactly where parity lies in 0.909 to 1.111. Levels: "
            "untuned, the kernel says so; default, its own choice by rule; tuned, searched for the case; best, the "
            "fastest kernel of the format in each case. Thresholds: the least parity p (up to 1 / p), and the least "
            "fraction of SoL that both sides must reach, for a mean error below 10 %; empty where no ten pairs reach "
            "it.",
            equality.equality(pairs, ("device", "run", "format"), resamples=min(resamples, 500), seed=seed),
            equality.HEADINGS, True,
        ),
        Sheet(
            "matched", "Matched pairs: the error split into sparsity and implementation",
            "Partner: the same kernel at density 1 where it was measured, else the dense kernel of its family. "
            "Parity with the vendor's kernel is the product of the two effects.",
            effects, matched.HEADINGS,
        ),
        Sheet(
            "networks", "Networks: the sum of the prunable layers",
            "Latencies summed over the layers of the network's table by shape; best: the fastest kernel of the "
            "format on each layer. A shape measured on some layers stands for all of them; layers without a record "
            "are in neither sum. Attention products, norms and other operators are not in it.",
            summed, sums.HEADINGS,
        ),
        Sheet(
            "accuracy", "Accuracy against speedup",
            "Speedups of the table above; accuracies as published with the Deep Learning Matrix Collection, or as "
            "given. Front: no other point of the network, pattern and dtype is faster and as accurate.",
            accuracy.accuracy_speedup(summed, accuracies), accuracy.HEADINGS,
        ),
        Sheet(
            "worst", "The worst cases and why",
            "Of each device, run, kernel and dtype the two pairs whose prediction is furthest off; in words what "
            "explain says of them.",
            worst[[name for name in WORST if name in worst]], {k: v for k, v in WORST.items() if k in worst},
        ),
        Sheet(
            "unpaired", "Records without a pair", "What was refused, failed or has no partner, with the reason.",
            tables.unpaired_table(unpaired), {k: k for k in ("kernel", "status", "records", "example", "why")},
        ),
    ]  # fmt: skip
