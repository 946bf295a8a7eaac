"""The refined model against records: tiles read from configurations, fits, held-out shapes, errors, explanations."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from sparsity_roofline.model import hardware
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.expect import expected_case
from sparsity_roofline.model.pattern import Pattern
from sparsity_roofline.model.record import Record
from sparsity_roofline.model.refined import PARTS, Terms, side
from sparsity_roofline.model.table import CaseTable
from sparsity_roofline.model.terms.constants import KernelConstants
from sparsity_roofline.model.terms.tiles import Tiling
from sparsity_roofline.validation.frame import normalise
from sparsity_roofline.validation.refined import __main__ as program
from sparsity_roofline.validation.refined import explain, write
from sparsity_roofline.validation.refined.ablation import ablation_table
from sparsity_roofline.validation.refined.errors import latency_table
from sparsity_roofline.validation.refined.fit import fit_all, one_per_case
from sparsity_roofline.validation.refined.pairs import best_constant, decided, right
from sparsity_roofline.validation.refined.predict import predict, predictable, tiling_of
from sparsity_roofline.validation.refined.split import held_out, held_out_rows

GPU = "H100-SXM5-80GB"
H100 = hardware.datasheet(GPU)
RUN = Path(__file__).resolve().parents[3] / "results" / "h100-sxm" / "model-suite"
TILE = {"BM": 64, "BN": 128, "BK": 64, "warps": 4, "stages": 5}
TRUE = KernelConstants(unit_fraction=0.7, l2_factor=1.3, step_s=3e-7, tile_s=2e-6)
SHAPES = ((384, 384), (3072, 768), (768, 768), (1024, 1024), (4096, 1024), (2048, 2048), (640, 640), (1280, 5120))


def row(kernel: str, M: int, K: int, N: int, sparsity: float, time_ns: float, config: dict[str, Any]) -> dict[str, Any]:
    pattern = {"dense": "dense", "bsr": "block64", "csr": "unstructured", "nm": "2:4"}[kernel.split(".")[0]]
    case = expected_case(M, K, N, Pattern.parse(pattern), sparsity, "fp16")
    more = {k: v for k, v in case.to_dict().items() if k in Record.__dataclass_fields__}
    return {
        **more, "status": "ok", "case": case.key, "density": case.density, "kernel": kernel,
        "kernel_ours": kernel != "dense.cublas", "kernel_unit": "tensor", "kernel_config": json.dumps(config),
        "time_ns": time_ns, "time_ci_low_ns": time_ns, "time_ci_high_ns": time_ns, "device": GPU,
        "ceilings_datasheet": GPU, "timer": "cupti-kineto", "regime_l2": "cold-clean", "regime_clocks": "as-found",
        "sol_paper_datasheet_ns": 1000.0, "sol_unit_datasheet_ns": 1000.0, "sol_bound_datasheet_ns": 900.0,
        "bound_paper_datasheet": "memory", "run_id": "r", "environment": "e", "max_row_nnz": None,
    }  # fmt: skip


def made(truth: KernelConstants = TRUE) -> pd.DataFrame:
    """Records of bsr.triton whose times are the model's own under known constants, and of its dense partners."""
    rows = []
    tiling = Tiling(*(np.full((1, 1), x) for x in (64.0, 128.0, 64.0, 1.0, 3.0)))
    for M, K in SHAPES:
        for N in (128, 512, 2048, 8192):
            dense = CaseTable.of([expected_case(M, K, N, Pattern.parse("dense"), 0.0, "fp16")])
            rows.append(row("dense.cublas", M, K, N, 0.0, side(dense, H100).seconds[0] * 1e9, {}))
            for sparsity in (0.5, 0.75, 0.9):
                t = CaseTable.of([expected_case(M, K, N, Pattern.parse("block64"), sparsity, "fp16")])
                seconds = side(t, H100, "bsr.triton", tiling=tiling, constants=truth).seconds[0]
                rows.append(row("bsr.triton", M, K, N, sparsity, seconds * 1e9, TILE))
    return normalise(pd.DataFrame(rows))


@pytest.fixture(scope="module")
def records() -> pd.DataFrame:
    return made()


def test_tiles_are_read_from_configurations(records: pd.DataFrame) -> None:
    tiling = tiling_of(records)
    ours = (records["kernel"] == "bsr.triton").to_numpy()
    assert np.isnan(tiling.BM[~ours]).all()
    # 3 buffers of (64 + 128) 64 x 2 B = 73,728 B: 3 fit; registers: 48 + 64 a thread, 65536 / (128 x 112) = 4
    assert {float(a[ours][0, 0]) for a in (tiling.BM, tiling.BN, tiling.BK)} == {64.0, 128.0}
    assert tiling.resident[ours].min() == tiling.resident[ours].max() == 3


def test_a_torch_configuration_names_its_width_as_a_quotient() -> None:
    one = row("bsr.torch", 512, 512, 3136, 0.5, 1e4, {"SPLIT_N": 49, "num_stages": 1, "num_warps": 4})
    tiling = tiling_of(normalise(pd.DataFrame([one])))
    assert (tiling.BM[0, 0], tiling.BN[0, 0], tiling.BK[0, 0]) == (64, 64, 64)


REST = '"BN": 64, "BK": 64, "warps": 4, "stages": 3'
SPOILT = (
    "",
    "{}",
    '{"BM": 64}',
    f'{{"BM": "wide", {REST}}}',
    f'{{"BM": 0, {REST}}}',
    f'{{"BM": 1e308, {REST}}}',
    '{"BM": 64, "BN": 64, "BK": 64, "warps": 0, "stages": 3}',
    "[1]",
    "not JSON",
)


@pytest.mark.parametrize("config", SPOILT)
def test_a_configuration_without_a_tile_leaves_the_kernels_list(config: str) -> None:
    frame = normalise(pd.DataFrame([{**row("bsr.triton", 512, 512, 512, 0.5, 1e4, {}), "kernel_config": config}]))
    assert np.isnan(tiling_of(frame).BM).all()
    assert predict(frame)["refined_ns"].notna().all()


def test_what_cannot_be_predicted_is_left_empty(records: pd.DataFrame) -> None:
    frame = records.head(6).copy()
    frame.loc[0, "ceilings_datasheet"] = ""
    frame.loc[1, "kernel"] = "bsr.unknown"
    frame.loc[2, "status"] = "timeout"
    frame.loc[3, "layout"] = "token-major"
    assert predictable(frame).tolist() == [False] * 4 + [True] * 2
    found = predict(frame)
    assert found["refined_ns"].isna().tolist() == [True] * 4 + [False] * 2
    assert (found["refined_leading"] == "").tolist() == [True] * 4 + [False] * 2


def test_the_split_is_by_shape_and_never_moves() -> None:
    # of crc32: 384x384 -> held out or not is part of what committed constants rest on
    assert [held_out(*s) for s in ((768, 3072), (3072, 768), (14336, 4096), (64, 147))] == [True] * 4
    assert [held_out(*s) for s in ((4096, 4096), (512, 4608), (384, 384), (2048, 2048))] == [False] * 4
    share = np.mean([held_out(m, k) for m in range(1, 60) for k in range(1, 60)])
    assert 0.28 < share < 0.39


def test_a_fit_finds_the_constants_that_made_the_times(records: pd.DataFrame) -> None:
    ours = records[records["kernel"] == "bsr.triton"]
    found = {f.kernel: f for f in fit_all(ours)}["bsr.triton"]
    shapes = {s for s in SHAPES if not held_out(*s)}
    assert found.shapes == len(shapes)
    assert found.cases == 12 * len(shapes)
    assert found.rms < 0.005
    assert found.constants.tile_s == pytest.approx(TRUE.tile_s, rel=0.05)
    assert found.constants.l2_factor == pytest.approx(TRUE.l2_factor, rel=0.05)
    assert found.constants.step_s == pytest.approx(TRUE.step_s, rel=0.1)


def test_a_fit_never_sees_held_out_shapes(records: pd.DataFrame) -> None:
    spoilt = records.copy()
    at = held_out_rows(spoilt)
    assert at.any()
    spoilt.loc[at, "time_ns"] *= 50
    clean, other = fit_all(records), fit_all(spoilt)
    assert [f.constants for f in clean] == [f.constants for f in other]


def test_repeated_cases_count_once_as_their_median(records: pd.DataFrame) -> None:
    three = pd.concat([records.assign(time_ns=records["time_ns"] * f) for f in (0.5, 1.0, 4.0)], ignore_index=True)
    once = one_per_case(three)
    assert len(once) == len(records)
    np.testing.assert_allclose(once["time_ns"], records["time_ns"])


def test_the_best_constant_beats_every_other_number() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        measured = pd.Series(rng.lognormal(0, 0.8, int(rng.integers(1, 30))))
        best = best_constant(measured)
        errors = [np.mean(np.abs(c / measured - 1)) for c in np.append(measured, rng.lognormal(0, 1, 50))]
        assert np.mean(np.abs(best / measured - 1)) <= min(errors) + 1e-12


def test_ties_are_not_judged() -> None:
    measured = pd.Series([0.5, 0.97, 1.04, 1.2, 2.0])
    assert decided(measured).tolist() == [True, False, False, True, True]
    assert right(pd.Series([0.9, 2.0, 0.1, 0.8, 1.1]), measured) == pytest.approx(2 / 3)
    assert np.isnan(right(pd.Series([1.0]), pd.Series([1.0])))


def test_tables_say_what_the_errors_are(records: pd.DataFrame) -> None:
    rows = one_per_case(records).assign(held_out=held_out_rows(records))
    rows["refined_ns"] = rows["time_ns"] * np.where(rows["held_out"], 1.2, 0.9)
    table = latency_table(rows).set_index(["group", "dtype", "split"])
    assert table.loc[("our sparse kernels", "all", "fitted"), "refined"] == pytest.approx(10)
    assert table.loc[("cuBLAS", "all", "held out"), "refined"] == pytest.approx(20)
    assert table.loc[("cuBLAS", "all", "held out"), "bias"] == pytest.approx(1 / 1.2)
    assert table.loc[("bsr.triton", "fp16", "fitted"), "cases"] == 12 * sum(not held_out(*s) for s in SHAPES)
    plain = (1 - 1000.0 / rows[rows["kernel"] == "dense.cublas"]["time_ns"]).abs()
    held = rows[rows["kernel"] == "dense.cublas"]["held_out"]
    assert table.loc[("cuBLAS", "all", "held out"), "plain"] == pytest.approx(100 * plain[held].mean())


def test_the_whole_way_on_made_records(records: pd.DataFrame, tmp_path: Path) -> None:
    result = write.refine(records, fit=True)
    speed = result.speedup.set_index(["group", "split"])
    assert speed.loc[("our sparse kernels", "held out"), "refined"] < 8
    assert speed.loc[("our sparse kernels", "held out"), "refined_right"] > 90
    written = write.write(result, tmp_path, ["made"])
    both = {f"{name}.{end}" for name in ("latency", "speedup", "terms", "worst") for end in ("csv", "md")}
    assert {p.name for p in written} == both | {"constants.csv"}
    kept = pd.read_csv(tmp_path / "constants.csv")
    mine = kept[(kept["kernel"] == "bsr.triton") & (kept["dtype"] == "fp16") & (kept["gpu"] == GPU)]
    fitted = {f.kernel: f for f in result.fitted}["bsr.triton"]
    assert set(mine["constant"]) == set(fitted.free)
    assert float(mine.set_index("constant")["value"]["tile_s"]) == pytest.approx(fitted.constants.tile_s, rel=1e-3)
    assert len(kept[kept["kernel"] == "csr.triton"]), "constants of kernels that were not fitted stay"


def test_terms_left_out_are_worse_where_they_matter(records: pd.DataFrame) -> None:
    ours = records[records["kernel"] == "bsr.triton"]
    table = ablation_table(ours, {("bsr.triton", "fp16"): TRUE}).set_index(["term", "way"])["our bsr"]
    full = table[("overlap", "and all above")]
    assert full < 10
    assert table[("plain model", "none")] > 3 * full
    assert table[("steps", "left out")] > 2 * full
    assert table[("setup", "left out")] > full


def test_no_record_to_predict_is_said(tmp_path: Path) -> None:
    file = tmp_path / "records.parquet"
    made().assign(ceilings_datasheet="").to_parquet(file)
    with pytest.raises(UserError, match="nothing to say"):
        write.read([file])


@pytest.fixture(scope="module")
def run() -> pd.DataFrame:
    return write.read([RUN])


def test_the_committed_runs_are_predicted_within_the_goals() -> None:
    result = write.refine(write.read([RUN, RUN.parent / "dlmc"]), ablate=False)
    latency = result.latency.set_index(["group", "split"])
    assert latency.loc[("cuBLAS", "held out"), "refined"] < 10
    assert latency.loc[("our sparse kernels", "held out"), "refined"] < 15
    speedup = result.speedup.set_index(["group", "split"]).loc[("our sparse kernels", "held out")]
    assert speedup["refined"] < 15
    assert speedup["refined_right"] > 95
    assert speedup["refined"] < speedup["constant"] < speedup["plain"]
    assert (result.records["refined_ns"] >= result.records["sol_bound_datasheet_ns"] * (1 - 1e-9)).all()


def test_an_explanation_ends_beside_the_measurement(run: pd.DataFrame) -> None:
    chosen = explain.choose(run, "3072x768*", "bsr.triton", [512])
    found = explain.explain_record(run, chosen)
    assert [r["term"] for r in found.rows] == ["plain", *Terms.names()]
    assert found.rows[0]["sparse_us"] == pytest.approx(chosen["sol_paper_datasheet_ns"] / 1e3)
    assert found.rows[-1]["sparse_us"] == pytest.approx(predict(run).loc[chosen.name, "refined_ns"] / 1e3)
    assert found.measured["sparse_us"] == chosen["time_ns"] / 1e3
    assert found.measured["speedup"] == pytest.approx(found.measured["dense_us"] / found.measured["sparse_us"])
    assert set(found.parts) == set(PARTS)
    assert found.tiles["sparse"] == {"BM": 64, "BN": 128, "split": 1}
    assert set(explain.MEANING) == {"plain", *Terms.names()}


def test_an_ambiguous_or_absent_record_is_refused(run: pd.DataFrame) -> None:
    with pytest.raises(UserError, match=r"records fit: .*narrow it"):
        explain.choose(run, "3072x768*", "bsr.triton", [])
    with pytest.raises(UserError, match="no record with a time"):
        explain.choose(run, "nothing", None, [])


def test_the_program_prints_and_writes(tmp_path: Path) -> None:
    said = CliRunner().invoke(program.main, [str(RUN), "--out", str(tmp_path)], catch_exceptions=False)
    assert said.exit_code == 0
    assert "| cuBLAS | all | held out |" in said.output
    assert (tmp_path / "terms.md").is_file()
    assert program.label(RUN) == "results/h100-sxm/model-suite"
    assert program.label(tmp_path / "mine") == "mine"


def test_explain_on_the_command_line() -> None:
    from sparsity_roofline.commands.explain import command

    shape = ["--shape", "4096x4096x2048", "--pattern", "block64", "--sparsity", "0.75"]
    said = CliRunner().invoke(command, [*shape, "--json"], catch_exceptions=False)
    found = json.loads(said.output)
    assert found["rows"][0]["speedup"] == pytest.approx(4.0, rel=1e-3)
    assert found["rows"][-1]["speedup"] < 2.0, "L2 keeps block 64 from its promise on an H100"
    assert found["measured"] == {}
    text = CliRunner().invoke(command, shape, catch_exceptions=False).output
    assert "overlap" in text
    assert "compute" in text
    beside = CliRunner().invoke(
        command, [str(RUN), "--match", "3072x768*", "--columns", "512", "--kernel", "bsr.triton", "--dtype", "fp16"],
        catch_exceptions=False,
    )  # fmt: skip
    assert "measured" in beside.output
    for wrong in ([], [str(RUN), "--shape", "1x1x1"]):
        assert isinstance(CliRunner().invoke(command, wrong).exception, UserError)


def test_constants_change_a_prediction(records: pd.DataFrame) -> None:
    ours = records[records["kernel"] == "bsr.triton"].head(3)
    slow = replace(TRUE, tile_s=20e-6)
    quick, late = (predict(ours, constants={("bsr.triton", "fp16"): c})["refined_ns"] for c in (TRUE, slow))
    assert (late > quick).all()
