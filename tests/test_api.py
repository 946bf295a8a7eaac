"""The public names, and the tour of them."""

from __future__ import annotations

import inspect
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import sparsity_roofline as sr

ROOT = Path(__file__).resolve().parents[1]


def test_every_public_name_is_there_and_documented() -> None:
    for name in sr.__all__:
        value = getattr(sr, name)
        assert name.startswith("__") or value.__doc__, f"{name} has no docstring"
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = sr.nonsense


def test_importing_the_package_is_cheap() -> None:
    code = "import sys, sparsity_roofline; print([m for m in ('torch', 'pandas', 'matplotlib') if m in sys.modules])"
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env).stdout
    assert out.strip() == "[]"


def test_predict_a_hand_worked_shape() -> None:
    """4096 x 4096 x 2048 fp16 on an H100 SXM: 68.7 GFLOP at 989.5 TFLOP/s; half of it at sparsity .5."""
    table = sr.predict("4096x4096x2048", pattern=["block64", "2:4"], sparsity=0.5, device="H100-SXM5-80GB")
    dense_us = 2 * 4096 * 4096 * 2048 / 989.5e12 * 1e6
    assert table["sol_dense_us"].tolist() == pytest.approx([dense_us, dense_us])
    assert table["speedup"].tolist() == pytest.approx([2.0, 2.0])
    assert table["bound"].tolist() == ["compute", "compute"]
    assert table.attrs == {"device": "H100-SXM5-80GB", "ceilings": "datasheet", "preset": "paper"}


def test_predict_a_matrix_uses_its_own_counts() -> None:
    weight = np.zeros((64, 64), dtype=np.float32)
    weight[:16, :16] = 1.0
    matrix = sr.Matrix.from_dense("corner", weight, pattern=sr.Pattern.parse("block16"))
    bound = sr.predict(matrix, N=8, dtype="fp16", preset="bound")
    # One block of 16 x 16 fp16, at most 4 bits that say which of 16 it is, the 16 rows of X it needs; Y stays in L2.
    assert 0 <= bound["bytes"].item() - (16 * 16 * 2 + 16 * 8 * 2) <= 4 / 8
    assert bound["nnz"].item() == 256


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (({"what": "4096"}), "MxKxN"),
        (({"what": "8x8x8", "device": "gpu-of-2040"}), "gpu-of-2040"),
        (({"what": "8x8x8", "dtype": "fp3"}), "fp3"),
        (({"what": "8x8x8", "pattern": "stripes"}), "stripes"),
        (({"what": sr.Matrix.from_dense("w", np.ones((2, 2), dtype=np.float32))}), "N is needed"),
        (({"what": [3]}), "cannot predict a int"),
    ],
)
def test_predict_refuses_in_one_line(arguments: dict[str, object], match: str) -> None:
    with pytest.raises(sr.UserError, match=match) as caught:
        sr.predict(**arguments)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_a_network_keeps_what_is_not_pruned_dense() -> None:
    from sparsity_roofline.api import network_cases, totals

    cases, times = network_cases("deit_base", batch=2, pattern="unstructured", sparsity=0.9)
    assert {case.format for case in cases} == {"csr", "dense"}
    frame = sr.predict(cases, device="a100-sxm4-80gb")
    sums = totals(frame, times)
    assert sums["sol_dense_us"] > frame["sol_dense_us"].sum()
    dense = frame[frame["format"] == "dense"]
    assert dense["speedup"].tolist() == pytest.approx([1.0] * len(dense))


def test_validate_passes_every_option_on() -> None:
    """The floor moves pairs out of the averages; the options that were asked for are in the result."""
    from sparsity_roofline.validation.report import validate

    assert inspect.signature(sr.validate).parameters.keys() == inspect.signature(validate).parameters.keys()
    source = ROOT / "results" / "h100-sxm" / "dlmc" / "records.parquet"
    records = sr.read_records(source)
    some = records[records["M"] == records["M"].max()]
    result = sr.validate(some, floor_ns=1e12, resamples=10, seed=3)
    assert result.pairs["below_floor"].all()
    with pytest.raises(sr.UserError, match=r"choose one of dense\.cublas"):
        sr.validate(some, dense_kernel="dense.abacus")
    assert (result.options["floor_ns"], result.options["resamples"], result.options["seed"]) == (1e12, 10, 3)


@pytest.mark.slow
def test_the_tour_runs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SPARSITY_ROOFLINE_HOME", str(tmp_path))
    runpy.run_path(str(ROOT / "examples" / "api_tour.py"))
    out = capsys.readouterr().out
    assert "my-layer" in out
    assert "csr.scipy" in out
    assert "report/plots/parity.png" in out
