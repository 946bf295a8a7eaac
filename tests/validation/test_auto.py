"""The table behind ``auto`` and how its choice is judged on shapes that are left out."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from sparsity_roofline.kernels.auto.choose import read
from sparsity_roofline.validation import auto


def records() -> pd.DataFrame:
    """Two kernels on four shapes: ``csr.small`` wins at N = 16, ``csr.large`` at N = 4096, by a factor of two."""
    rows = []
    for M in (256, 512, 1024, 2048):
        for N in (16, 32, 4096, 8192):
            for kernel, fast in (("csr.small", N < 100), ("csr.large", N > 100), ("csr.auto", True)):
                rows.append(
                    {"status": "ok", "format": "csr", "dtype": "fp16", "M": M, "K": 512, "N": N, "density": 0.25,
                     "kernel": kernel, "time_ns": 100.0 if fast else 200.0, "device": "cuda", "layout": "row-major",
                     "case": f"{M}x{N}"}
                )  # fmt: skip
    rows.append({**rows[0], "kernel": "csr.broken", "status": "error", "time_ns": None})
    return pd.DataFrame(rows)


def test_losses_are_relative_to_the_fastest_and_auto_takes_no_part() -> None:
    table = auto.losses(records())
    assert set(table["kernel"]) == {"csr.small", "csr.large"}
    assert len(table) == 4 * 4 * 2
    small = table[(table["kernel"] == "csr.small") & (table["N"] == 4096)]
    assert (small["slowdown"] == 2.0).all()


def test_held_out_shapes_are_decided_by_the_others() -> None:
    choices = auto.held_out(auto.losses(records()))
    assert len(choices) == 16
    assert (choices["reached"] == 1.0).all()
    assert (choices["chosen"] == choices["fastest"]).all()
    (row,) = auto.summary(choices).to_dict("records")
    assert (row["cells"], row["geomean"], row["least"], row["share at 0.97"]) == (16, 1.0, 1.0, 1.0)


def test_one_shape_alone_cannot_be_judged() -> None:
    only = auto.losses(records().query("M == 256"))
    assert auto.held_out(only).empty


def test_a_written_table_is_read_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records().to_parquet(tmp_path / "records.parquet")
    assert auto.main([str(tmp_path / "records.parquet"), "--write", str(tmp_path / "table.csv")]) == 0
    assert "32 rows into" in capsys.readouterr().out
    cells = read((tmp_path / "table.csv").read_text().splitlines())["csr", "fp16"]
    assert len(cells) == 16
    assert all(set(cell.loss) == {"csr.small", "csr.large"} for cell in cells)


def test_nothing_to_choose_between_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records().query("kernel == 'csr.small'").to_parquet(tmp_path / "records.parquet")
    assert auto.main([str(tmp_path / "records.parquet")]) == 2
    assert "no cell was measured with two kernels" in capsys.readouterr().err
