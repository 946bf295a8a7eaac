"""How much of the layers' gain a whole network keeps as its sequences grow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from sparsity_roofline.model.errors import UserError
from sparsity_roofline.validation import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LINES = {"fused": "-", "materialised": "--"}


def gain_over_length(rows: pd.DataFrame, title: str) -> Figure:
    """End-to-end speedup over tokens: a panel per pattern, a colour per network and workload, dashed where attention is
    materialised, dotted the gain of the prunable layers alone.

    Args:
        rows: of ``end_to_end``.
        title: of the figure.

    Raises:
        UserError: no row has a sequence length.
    """
    kept = rows[rows["tokens"].notna()]
    if kept.empty:
        raise UserError("images have no sequence length to plot over: leave --plot out")
    kept = kept.assign(
        who=kept["network"] + ", " + kept["phase"] + ", batch " + kept["batch"].astype(str)
        + kept["elementwise"].map({"fused": "", "separate": ", separate"})
    )  # fmt: skip
    patterns = list(dict.fromkeys(kept["pattern"]))
    colour = style.colours(kept["who"])
    with style.look():
        fig = style.figure(4.2 * len(patterns) + 2.6, 3.8)
        axes = fig.subplots(1, len(patterns), squeeze=False)[0]
        for ax, pattern in zip(axes, patterns, strict=True):
            for (who, how), line in kept[kept["pattern"] == pattern].groupby(["who", "attention"], sort=True):
                line = line.sort_values("tokens")
                x = line["tokens"].to_numpy(float)
                label = f"{who}, {how}" if pattern == patterns[0] else None
                ax.plot(x, line["speedup"], LINES[str(how)], color=colour[str(who)], marker=".", label=label)
                ax.plot(x, line["layer_speedup"], ":", color=colour[str(who)], linewidth=0.9)
            ax.set_xscale("log", base=2)
            ax.axhline(1.0, color="#999999", linewidth=0.8)
            ax.set_title(pattern)
            ax.set_xlabel("tokens")
        axes[0].set_ylabel("predicted speedup of the network")
        fig.legend(loc="outside right center", title="dotted: prunable layers alone")
        fig.suptitle(title, fontsize=10)
    return fig
