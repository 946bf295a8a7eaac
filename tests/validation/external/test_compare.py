"""Errors of every model on the same rows, the best constant, and what the plain limit leaves out."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsity_roofline.validation.errors import best_constant
from sparsity_roofline.validation.external import validate_measurements
from sparsity_roofline.validation.external.predictors import constant, groups, plain
from sparsity_roofline.validation.external.read import read
from sparsity_roofline.validation.external.refine import calibrated


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Two shapes on a GPU; hand-worked below."""
    path = tmp_path / "times.csv"
    path.write_text(
        "gpu,dtype,M,K,N,pattern,dense_us,sparse_us\n"
        "h100-pcie,bf16,8192,8192,8192,2:4,2500,1600\n"
        "h100-pcie,bf16,4096,4096,16,2:4,10,12.5\n"
        "h100-pcie,bf16,2048,2048,2048,2:4,40,\n"
    )
    return path


def test_plain_predictions_are_hand_worked(file: Path) -> None:
    found, dense, sparse = plain(read(file))
    # 2 * 8192^3 / 756.5e12 s, and half of it
    assert found.dense_s[0] == pytest.approx(2 * 8192**3 / 756.5e12)
    assert found.speedup[0] == pytest.approx(2)
    # 2 * (4096^2 + 2 * 4096 * 16) B at 2000e9 B/s; 2:4 keeps 9/16 of the weight's bytes
    assert found.dense_s[1] == pytest.approx(2 * (4096**2 + 2 * 4096 * 16) / 2000e9)
    assert found.sparse_s[1] == pytest.approx((4096**2 * 1.125 + 4 * 4096 * 16) / 2000e9)
    assert (dense, sparse) == (["compute", "memory", "compute"], ["compute", "memory", "compute"])


def test_errors_are_hand_worked(file: Path) -> None:
    found = validate_measurements(file, resamples=10)
    lines = found.errors.set_index(["stratum", "value", "quantity", "model"])
    dense = lines.loc[("all", "", "dense", "plain")]
    # three dense times, two of them with a sparse partner
    assert (dense["n"], lines.loc[("all", "", "sparse", "plain")]["n"]) == (3, 2)
    ratio = found.rows["plain dense_s"] / found.rows["dense_s"]
    assert dense["mape"] == pytest.approx(np.abs(ratio - 1).mean())
    assert dense["bias"] == pytest.approx(np.exp(np.log(1 / ratio).mean()))
    # measured speedups 1.5625 and 0.8: of the two, the constant with the lesser mean |c / s - 1| is 0.8
    constant_line = lines.loc[("all", "", "speedup", "constant")]
    assert constant_line["mape"] == pytest.approx((1 - 0.8 / 1.5625) / 2)
    assert (constant_line["clear"], constant_line["right"]) == (2, 0.5)
    # plain says 2 and about 1.77: right about the first, wrong about the second
    assert lines.loc[("all", "", "speedup", "plain")]["right"] == 0.5
    assert lines.loc[("N", ">= 1024", "speedup", "plain")]["mape"] == pytest.approx(2 / 1.5625 - 1)
    assert any("too few to judge" in message for message in found.messages)


def test_a_verdict_needs_rows(tmp_path: Path) -> None:
    path = tmp_path / "times.csv"
    lines = [f"h100,fp16,1024,1024,{64 * i},2:4,{20 + i},{10 + i}" for i in range(1, 15)]
    path.write_text("gpu,dtype,M,K,N,pattern,dense_us,sparse_us\n" + "\n".join(lines) + "\n")
    verdicts = [m for m in validate_measurements(path, resamples=10).messages if "the best constant" in m]
    assert len(verdicts) == 2
    assert all(("beats" in m) != ("does not beat" in m) for m in verdicts)


def test_what_the_limit_leaves_out_is_binned(file: Path) -> None:
    found = validate_measurements(file, resamples=10).missed
    bins = found.set_index(["question", "bin"])
    small = bins.loc[("hot L2: bytes / L2, memory-bound", "0.5 to 1")]
    assert small["n"] == 1
    assert small["f_dense"] == pytest.approx(2 * (4096**2 + 2 * 4096 * 16) / 2000e9 / 10e-6)
    large = bins.loc[("sustained: operations, compute-bound", ">= 1e+12")]
    assert (large["n"], large["measured_speedup"]) == (1, pytest.approx(1.5625))
    # The shape without a sparse time is in no bin: a fraction of one side alone says nothing of the other.
    assert found[found["question"].str.startswith("small")]["n"].sum() == 2


def test_files_are_written_and_repeat(file: Path, tmp_path: Path) -> None:
    first = validate_measurements(file, tmp_path / "a")
    validate_measurements(file, tmp_path / "b")
    names = sorted(path.name for path in first.written)
    assert names == ["cases.csv", "errors.csv", "misses.csv", "misses.md", "summary.csv", "summary.md",
                     "validation.json"]  # fmt: skip
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    validate_measurements(file, tmp_path / "c", cases=False)
    assert not (tmp_path / "c" / "cases.csv").exists()


speedups = st.lists(st.floats(0.05, 20), min_size=1, max_size=40).map(np.array)


@given(speedups, st.floats(0.05, 20))
def test_no_constant_beats_the_best(measured: np.ndarray, other: float) -> None:
    def error(c: float) -> float:
        return float(np.mean(np.abs(c / measured - 1)))

    best = best_constant(measured)
    assert measured.min() <= best <= measured.max()
    assert error(best) <= error(other) * (1 + 1e-12)


def test_the_constant_is_one_per_device_dtype_and_pattern() -> None:
    rows = pd.DataFrame(
        {"device": ["a", "a", "b", "b"], "dtype": "fp16", "pattern": "2:4", "dense_s": [2.0, 2, 3, np.nan],
         "sparse_s": [1.0, 1, 1, 1]}
    )  # fmt: skip
    assert constant(rows).tolist() == [2, 2, 3, 3]
    assert np.isnan(best_constant(np.array([])))


def slidesparse() -> Path:
    folder = os.environ.get("SPARSITY_ROOFLINE_SHARED_DATA")
    if not folder:
        pytest.skip("set SPARSITY_ROOFLINE_SHARED_DATA to the folder of slidesparse_2to4.csv to run this check")
    path = Path(folder) / "slidesparse_2to4.csv"
    if not path.exists():
        pytest.skip(f"no {path.name} in SPARSITY_ROOFLINE_SHARED_DATA")
    return path


@pytest.mark.slow
def test_calibrated_on_other_shapes_the_refined_model_beats_every_constant() -> None:
    measured = read(slidesparse())
    found, rows = calibrated(measured), measured.rows
    truth, best = (rows["dense_s"] / rows["sparse_s"]).to_numpy(), constant(rows)
    for (_, dtype), at in groups(rows, ["device", "dtype"]):
        error, limit = (float(np.mean(np.abs(p[at] / truth[at] - 1))) for p in (found.speedup, best))
        assert error < 0.8 * limit, dtype
        for predicted, side in ((found.dense_s, "dense_s"), (found.sparse_s, "sparse_s")):
            assert np.mean(np.abs(predicted[at] / rows[side].to_numpy()[at] - 1)) < 0.12


def test_published_figures_are_reproduced() -> None:
    """SlideSparse (arXiv 2603.05232): MAPE of the best constant 14, 20, 29 %, of the plain limit 37, 15, 55 %."""
    found = validate_measurements(slidesparse(), resamples=10)
    assert len(found.rows) == 599
    whole = found.summary[found.summary["stratum"] == "all"].set_index(["device", "dtype"])
    for key, n, by_constant, by_plain in (
        (("A100-PCIe-80GB", "bf16"), 223, 14, 37),
        (("A100-PCIe-80GB", "int8"), 223, 20, 15),
        (("H100-PCIe-80GB", "bf16"), 153, 29, 55),
    ):
        row = whole.loc[key]
        assert row["n"] == n
        assert round(100 * row["mape constant"]) == by_constant
        assert round(100 * row["mape plain"]) == by_plain
    spearman = found.errors.set_index(["device", "dtype", "stratum", "quantity", "model"])["spearman"]
    for device, dtype in whole.index:
        assert spearman.loc[(device, dtype, "all", "dense", "plain")] == pytest.approx(0.997, abs=0.0025)
