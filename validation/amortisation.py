"""After how many calls a sparse format pays, and what a call costs on the host.

A format is prepared once per pattern (converted, compressed, planned) and used many times. With setup S and time T of
each side, n calls cost S + n T, so sparse pays from

    reuses = max(0, ceil((S_sparse - S_dense) / (T_dense - T_sparse)))

calls on: the smallest n at which S_sparse + n T_sparse <= S_dense + n T_dense. Conventions:

- 0: sparse is no dearer to set up and faster to run: it pays from the first call;
- 1: the first call already earns back the dearer setup;
- infinite ("never"): sparse is not faster, whatever its setup costs;
- not a number: a record has no setup times, or none that can be read, whatever the gain.

The step "first launch" (compilation, lazy loading) is kept apart: it is paid once per process, not per pattern.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd

from sparsity_roofline.model.reuse import reuses
from sparsity_roofline.validation.errors import FloatArray

ONCE_PER_PROCESS = "first launch"
"""The step that is no part of a pattern's setup."""

WITHIN = (100, 1_000, 10_000)
"""Numbers of calls for which the table says how many pairs have paid by then."""

COLUMNS = (
    "setup_us", "setup_dense_us", "first_launch_us", "gain_us", "reuses", "reuses_dynamic", "reuses_eager", "host_us",
    "host_dense_us", "host_bound",
)  # fmt: skip
"""What ``add_amortisation`` adds to the pairs."""

TABLE_COLUMNS = (
    "kernel", "dtype", "pairs", "unknown", "setup_us", "setup_dense_us", "setup_by_step", "first_launch_us",
    "first_launch_max_us", "gain_us", "reuses", "reuses_paying", "reuses_dynamic", "reuses_eager", "never",
    *(f"within_{n}" for n in WITHIN), "unclear", "time_us", "host_us", "host_dense_us", "host_bound",
)  # fmt: skip
"""Columns of ``amortisation_table``; one more, ``step_<name>_us``, per step that occurs."""

HEADINGS = {
    "kernel": "kernel",
    "dtype": "dtype",
    "pairs": "pairs",
    "unknown": "setup unknown",
    "setup_us": "setup us",
    "setup_by_step": "by step",
    "setup_dense_us": "dense setup us",
    "first_launch_us": "first launch us",
    "first_launch_max_us": "largest",
    "gain_us": "gain us/call",
    "reuses": "reuses to pay",
    "reuses_paying": "of those that pay",
    "reuses_dynamic": "dense in place",
    "reuses_eager": "eager calls",
    "never": "share never",
    **{f"within_{n}": f"within {n:,}" for n in WITHIN},
    "unclear": "gain unclear",
    "time_us": "device us/call",
    "host_us": "host us/call",
    "host_dense_us": "dense host us/call",
    "host_bound": "share host-bound",
}
"""Columns of the table for people, with their headings."""

NOTES = (
    "Medians over pairs, those below the launch floor too: nothing here is predicted. Setup leaves out the first "
    "launch, which a process pays once.",
    "Reuses: calls per pattern after which sparse pays, against a dense weight that is set up as well; dense in place: "
    "against one that is there already, as with patterns that change; eager calls: each call as slow as the slower of "
    "host and device.",
)
"""Lines above the table for people."""


def parse_setup(text: str) -> dict[str, float] | None:
    """Step -> ns of one record's ``setup_ns``; None where it is empty or holds anything but times."""
    try:
        steps = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return None
    if not isinstance(steps, dict) or not steps:
        return None
    values = list(steps.values())
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        return None
    try:
        numbers = {str(name): float(value) for name, value in steps.items()}
    except OverflowError:
        return None
    return numbers if all(math.isfinite(v) and v >= 0 for v in numbers.values()) else None


def setup_steps(pairs: pd.DataFrame, side: str = "sparse") -> pd.DataFrame:
    """Time of each setup step in ns: a row per pair, a column per step, the first launch last.

    A step that a record does not name is NaN; so is every step of a record without setup times.
    """
    parsed = [parse_setup(text) or {} for text in pairs[f"setup_{side}_ns"]]
    names = sorted({name for steps in parsed for name in steps} - {ONCE_PER_PROCESS})
    columns = {name: [steps.get(name, np.nan) for steps in parsed] for name in [*names, ONCE_PER_PROCESS]}
    return pd.DataFrame(columns, index=pairs.index, dtype=np.float64)


def add_amortisation(pairs: pd.DataFrame) -> pd.DataFrame:
    """Add ``COLUMNS`` (docs/validate.md says what each means) from both sides' times, setups and host times."""
    setup, dense = _total(pairs, "sparse"), _total(pairs, "dense")
    time, host, span = (
        {side: pairs[name.format(side)].to_numpy(np.float64) for side in ("sparse", "dense")}
        for name in ("time_{}_ns", "host_call_{}_ns", "span_{}_ns")
    )
    gain = time["dense"] - time["sparse"]
    eager = {side: np.maximum(host[side], span[side]) for side in host}
    columns = {
        "setup_us": setup / 1e3,
        "setup_dense_us": dense / 1e3,
        "first_launch_us": setup_steps(pairs)[ONCE_PER_PROCESS].to_numpy(np.float64) / 1e3,
        "gain_us": gain / 1e3,
        "reuses": reuses(setup - dense, gain),
        "reuses_dynamic": reuses(setup, gain),
        "reuses_eager": reuses(setup - dense, eager["dense"] - eager["sparse"]),
        "host_us": host["sparse"] / 1e3,
        "host_dense_us": host["dense"] / 1e3,
        "host_bound": host["sparse"] > time["sparse"],
    }
    return pd.concat([pairs, pd.DataFrame(columns, index=pairs.index)[list(COLUMNS)]], axis=1)


def amortisation_table(pairs: pd.DataFrame) -> pd.DataFrame:
    """One row per kernel and dtype: medians, and shares of the pairs whose setup is known.

    ``reuses`` and its kin are medians in which "never" counts as infinite, so that infinite means: more than half
    never pay; ``reuses_paying`` is the median of those that do. Shares are of 1; ``unclear`` is the share of pairs
    whose interval of the measured speedup contains 1, so that the gain may be noise. ``host_bound`` is a share of the
    pairs with a host time.
    """
    steps = setup_steps(pairs)
    rows = []
    for (kernel, dtype), group in pairs.groupby(["kernel", "dtype"], sort=True):
        rows.append({"kernel": kernel, "dtype": dtype, **_row(group, steps.loc[group.index])})
    extra = [_step_column(name) for name in steps.columns if name != ONCE_PER_PROCESS]
    return pd.DataFrame(rows, columns=[*TABLE_COLUMNS, *extra])


def for_people(table: pd.DataFrame) -> pd.DataFrame:
    """The table with "never" in place of infinity, whole numbers of calls and whole microseconds of setup."""
    out = table.copy()
    for name in ("setup_us", "setup_dense_us", "first_launch_us", "first_launch_max_us"):
        out[name] = pd.Series(["" if math.isnan(v) else f"{v:,.0f}" for v in table[name]], table.index, dtype=object)
    for name in ("reuses", "reuses_paying", "reuses_dynamic", "reuses_eager"):
        out[name] = pd.Series([calls(v) for v in table[name]], index=table.index, dtype=object)
    return out


def calls(value: float) -> str:
    """A number of calls in words: "never", "" where not known, else a whole number."""
    if math.isnan(value):
        return ""
    return "never" if math.isinf(value) else f"{math.ceil(value):,}"


def message(pairs: pd.DataFrame) -> str:
    """One line on pairs whose host work exceeds the kernel's time, "" if there are none."""
    bound = pairs[pairs["host_bound"]]
    if bound.empty:
        return ""
    ratio = (bound["host_us"] * 1e3 / bound["time_sparse_ns"]).to_numpy(np.float64)
    worst = bound.iloc[int(ratio.argmax())]
    return (
        f"{len(bound)} of {len(pairs)} pairs are host-bound: a call from Python costs the host more than the kernel "
        f"takes, at worst {worst['host_us']:.0f} us beside {worst['time_sparse_ns'] / 1e3:.1f} us "
        f"({worst['kernel']}); the times are the device's, as in a CUDA graph. See tables/amortisation."
    )


def write(pairs: pd.DataFrame, folder: Path, notes: str = "") -> list[Path]:
    """Write ``amortisation.csv`` and ``.md`` to ``folder``; ``notes`` are Markdown lines to put above the table."""
    from sparsity_roofline.validation import tables  # which takes its columns from here

    table = amortisation_table(pairs)
    lines = "\n".join([*(f"- {line}" for line in NOTES), notes])
    title = "After how many calls a sparse format pays"
    return [
        tables.write_csv(table, folder / "amortisation.csv"),
        tables.write_markdown(for_people(table), folder / "amortisation.md", title, lines, HEADINGS),
    ]


def _row(group: pd.DataFrame, steps: pd.DataFrame) -> dict[str, object]:
    known = group[group["reuses"].notna()]
    paying = known[np.isfinite(known["reuses"])]
    names = [name for name in steps.columns if name != ONCE_PER_PROCESS]
    medians = {name: _median(steps[name]) for name in names}
    named = {name: value / 1e3 for name, value in medians.items() if not math.isnan(value)}
    hosts = group["host_us"].notna()
    return {
        "pairs": len(group),
        "unknown": len(group) - len(known),
        **{name: _median(group[name]) for name in ("setup_us", "setup_dense_us", "first_launch_us", "gain_us")},
        "setup_by_step": ", ".join(f"{name} {value:.0f}" for name, value in named.items()),
        "first_launch_max_us": float(group["first_launch_us"].max()),
        **{name: _median(group[name]) for name in ("reuses", "reuses_dynamic", "reuses_eager")},
        "reuses_paying": _median(paying["reuses"]),
        "never": _share(np.isinf(known["reuses"])),
        **{f"within_{n}": _share(known["reuses"] <= n) for n in WITHIN},
        "unclear": _share(group["faster"] == "unclear"),
        "time_us": _median(group["time_sparse_ns"]) / 1e3,
        "host_us": _median(group["host_us"]),
        "host_dense_us": _median(group["host_dense_us"]),
        "host_bound": _share(group.loc[hosts, "host_bound"]),
        **{_step_column(name): named.get(name, math.nan) for name in names},
    }


def _total(pairs: pd.DataFrame, side: str) -> FloatArray:
    """Setup per pattern in ns, without the first launch; NaN where the record does not tell."""
    parsed = [parse_setup(text) for text in pairs[f"setup_{side}_ns"]]
    sums = [math.nan if p is None else math.fsum(v for k, v in p.items() if k != ONCE_PER_PROCESS) for p in parsed]
    return np.array(sums, dtype=np.float64)


def _step_column(name: str) -> str:
    return f"step_{name}_us"


def _median(values: pd.Series[float]) -> float:
    """Median of what is known, NaN for nothing; infinite values rank as the largest."""
    known = values.dropna().to_numpy(np.float64)
    return float(np.median(known)) if len(known) else math.nan


def _share(true: pd.Series[bool]) -> float:
    return float(true.mean()) if len(true) else math.nan
