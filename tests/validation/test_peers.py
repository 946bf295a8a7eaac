"""Our kernels against the best peer, cell by cell."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sparsity_roofline.model.errors import UserError
from sparsity_roofline.validation import peers


def records() -> pd.DataFrame:
    """Two cells of one shape in two formats; times in ns, dense 100, speed of light 50 dense and 25 sparse."""
    rows = []

    def add(format: str, case: str, kernel: str, time: float | None, ours: bool, sol: float, block: int = 0) -> None:
        rows.append(
            {
                "status": "ok" if time else "unsupported", "kernel": kernel, "kernel_ours": ours, "format": format,
                "case": case, "dtype": "fp16", "M": 64, "K": 128, "N": 16, "layout": "row-major", "time_ns": time,
                "run_id": "r", "block_rows": block, "block_cols": block, "density": 0.25,
                "ceilings_datasheet": "sheet", "sol_paper_datasheet_ns": sol,
            }
        )  # fmt: skip

    add("dense", "d", "dense.cublas", 100.0, False, 50.0)
    add("dense", "d", "dense.triton", 125.0, True, 50.0)
    for case, times in (("b1", (40.0, 80.0, 60.0, 50.0)), ("b2", (90.0, 60.0, 45.0, None))):
        for kernel, ours, time in zip(("bsr.a", "bsr.b", "bsr.peer1", "bsr.peer2"), (1, 1, 0, 0), times, strict=True):
            add("bsr", case, kernel, time, bool(ours), 25.0, block=32)
        add("bsr", case, "bsr.auto", 30.0, False, 25.0, block=32)
    return pd.DataFrame(rows)


def test_each_cell_is_compared_with_its_own_best_peer_and_its_dense_product() -> None:
    table = peers.cells(records())
    at = table.set_index(["case", "kernel"])
    assert at.loc[("b1", "bsr.a"), "against_peer"] == pytest.approx(50 / 40)
    assert at.loc[("b1", "bsr.a"), "peer"] == "bsr.peer2"
    assert at.loc[("b2", "bsr.a"), "against_peer"] == pytest.approx(45 / 90)
    assert at.loc[("b1", "bsr.a"), "against_dense"] == pytest.approx(2.5)
    assert at.loc[("b1", "bsr.a"), "f"] == pytest.approx(25 / 40)
    assert at.loc[("b1", "bsr.a"), "parity"] == pytest.approx((25 / 40) / (50 / 100))
    assert at.loc[("d", "dense.triton"), "against_peer"] == pytest.approx(100 / 125)
    best = table[table["kernel"] == peers.BEST].set_index("case")["time_ns"]
    assert best.to_dict() == {"b1": 40.0, "b2": 60.0, "d": 125.0}


def test_a_summary_is_geometric_and_names_the_worst_cell() -> None:
    rows = peers.summarise(peers.cells(records())).set_index("kernel")
    a = rows.loc["bsr.a"]
    assert a["cells"] == 2
    assert a["best_peer_geomean"] == pytest.approx(np.sqrt(50 / 40 * 45 / 90))
    assert a["best_peer_min"] == pytest.approx(0.5)
    assert a["worst_cell"] == "64 x 128 x 16 s 0.75 by bsr.peer1"
    assert rows.loc["bsr.peer2", "cells"] == 1
    ours = rows.loc[peers.BEST]
    assert (ours["ours"], ours["cells"].sum()) == (True, 2) if ours.ndim == 1 else ours["cells"].tolist() == [2, 1]


def test_auto_is_no_peer_of_its_own() -> None:
    table = peers.cells(records())
    assert "bsr.auto" not in set(table["peer"].dropna())
    assert (table[table["kernel"] == "bsr.auto"]["against_peer"] > 1).all()


def test_records_without_the_dense_product_are_refused() -> None:
    rows = records()
    with pytest.raises(UserError, match=r"no time of dense\.cublas"):
        peers.cells(rows[rows["kernel"] != "dense.cublas"])
