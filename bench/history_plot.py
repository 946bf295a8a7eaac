"""Time over commits as a figure: one panel a kernel, its most changed cases, change points marked."""

from __future__ import annotations

from pathlib import Path

from sparsity_roofline.bench.history import Series

CASES = 6
"""Lines a panel."""
PANELS = 8
LABELS = 24
"""Commits named on the axis."""


def plot(series: list[Series], folder: Path, name: str = "history") -> list[Path]:
    """Write ``<name>.png`` and ``<name>.svg``; the files.

    Time is drawn over each series' own first point, so that short and long cases share an axis. A dashed line stands at
    the first commit of a new level.
    """
    from matplotlib.figure import Figure

    panels: dict[str, list[Series]] = {}
    for one in series:  # those with the largest slowdown come first
        panels.setdefault(one.kernel, []).append(one)
    kernels = list(panels)[:PANELS]
    figure = Figure(figsize=(9, 2.6 * len(kernels) + 0.8), layout="constrained")
    axes = figure.subplots(len(kernels), 1, squeeze=False)[:, 0]
    first = {commit: date for one in series for commit, date in zip(one.commits, one.dates, strict=True)}
    commits = sorted(first, key=first.__getitem__)
    place = {commit: number for number, commit in enumerate(commits)}
    for axis, kernel in zip(axes, kernels, strict=True):
        for one in panels[kernel][:CASES]:
            line = axis.plot([place[c] for c in one.commits], one.us / one.us[0], marker=".", label=one.name)[0]
            for step in one.steps:
                axis.axvline(place[step.commit], color=line.get_color(), linestyle="--", linewidth=0.8)
        axis.axhline(1.0, color="0.7", linewidth=0.6)
        left = len(panels[kernel]) - CASES
        axis.set_title(kernel + (f" ({left} more cases)" if left > 0 else ""), loc="left", fontsize=9)
        axis.set_ylabel("time / first", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.legend(fontsize=6, loc="best")
        every = max(1, -(-len(commits) // LABELS))
        axis.set_xticks(range(0, len(commits), every), [c[:8] for c in commits[::every]], rotation=60, ha="right")
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{name}.png", folder / f"{name}.svg"]
    for file in files:
        figure.savefig(file, dpi=120, metadata={"Date": None} if file.suffix == ".svg" else None)
    return files
