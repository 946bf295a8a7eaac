"""Joining: hand-worked figures, the identity, and that unlike is never compared with unlike."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsity_roofline.model.errors import UserError
from sparsity_roofline.validation.join import UNPAIRED_COLUMNS, join, pair
from sparsity_roofline.validation.summary import summarise
from sparsity_roofline.validation.tables import case_table

from ._records import frame, record


def test_hand_worked_pair() -> None:
    # 1024 x 1024 x 1024 fp16: dense 2^31 FLOP at 100 TFLOP/s = 21.475 us, 6 MiB at 1 TB/s = 6.291 us: compute-bound.
    # csr at d = 1/16: 2^27 FLOP = 1.342 us; (2 + 4) * 65536 + 4 * 1025 + 4 MiB = 4 591 620 B = 4.592 us: memory-bound.
    shape = {"M": 1024, "K": 1024, "N": 1024}
    pairs = join(
        frame(
            record("dense", **shape, time_us=30.0),
            record("csr", **shape, density=1 / 16, time_us=20.0, width=0.05),
        )
    )
    assert len(pairs) == 1
    row = pairs.iloc[0]
    assert row["sol_dense_ns"] == pytest.approx(21474.83648)
    assert row["sol_sparse_ns"] == pytest.approx(4591.62)
    assert (row["bound_dense"], row["bound_sparse"]) == ("compute", "memory")
    assert row["predicted_speedup"] == pytest.approx(4.67696, rel=1e-5)
    assert row["measured_speedup"] == pytest.approx(1.5)
    assert row["f_dense"] == pytest.approx(0.715828, rel=1e-5)
    assert row["f_sparse"] == pytest.approx(0.229581, rel=1e-5)
    assert row["parity"] == pytest.approx(1.5 / 4.67696, rel=1e-5)
    assert row["log_error"] == pytest.approx(math.log(1.5 / 4.67696), rel=1e-5)
    # On CUDA cores (10 TFLOP/s) the csr kernel is compute-bound: 13.42 us.
    assert row["f_sparse_unit"] == pytest.approx(0.67109, rel=1e-4)
    # Nothing of X is unused and the 2 MiB output fits in L2: 2.0 MiB of Y need not move; compute on CUDA cores decides.
    assert row["f_sparse_bound"] == pytest.approx(0.67109, rel=1e-4)
    assert row["f_dense_bound"] == pytest.approx(0.715828, rel=1e-5)
    assert row["sparsity"] == pytest.approx(1 - 1 / 16)
    assert (row["preset"], row["ceilings"], row["dense_kernel"]) == ("paper", "datasheet", "dense.cublas")
    assert row["faster"] == "sparse"


def test_fraction_at_the_clock_held_stands_beside_the_data_sheets() -> None:
    held = {"dense": 17_179.869184, "csr": 4591.62}  # 25 % above the printed clock: compute-bound faster, memory not
    shape = {"M": 1024, "K": 1024, "N": 1024}
    dense = record("dense", **shape, time_us=30.0, sol_paper_held_ns=held["dense"])
    csr = record("csr", **shape, density=1 / 16, time_us=20.0, sol_paper_held_ns=held["csr"])
    row = join(frame(dense, csr)).iloc[0]
    assert row["f_dense_held"] == pytest.approx(0.572662, rel=1e-5)
    assert row["f_dense"] == pytest.approx(0.715828, rel=1e-5)
    assert row["f_sparse_held"] == pytest.approx(row["f_sparse"])
    without = join(frame(record("dense", **shape), csr)).iloc[0]
    assert math.isnan(without["f_dense_held"])
    table = case_table(join(frame(dense, csr)))
    assert table.columns.tolist().index("f_dense_held") < table.columns.tolist().index("parity")
    assert summarise(join(frame(record("dense", **shape), csr)), resamples=10)["f_dense_held"].isna().all()


def test_interval_of_the_speedup_adds_log_widths_in_quadrature() -> None:
    pairs = join(frame(record("dense", time_us=200.0, width=0.03), record("csr", time_us=100.0, width=0.04)))
    row = pairs.iloc[0]
    down = math.hypot(math.log(1 / 0.97), math.log(1.04))
    up = math.hypot(math.log(1.03), math.log(1 / 0.96))
    assert row["measured_speedup_low"] == pytest.approx(2 * math.exp(-down))
    assert row["measured_speedup_high"] == pytest.approx(2 * math.exp(up))


@pytest.mark.parametrize(("sparse_us", "verdict"), [(90.0, "sparse"), (100.5, "unclear"), (110.0, "dense")])
def test_faster_needs_an_interval_beyond_one(sparse_us: float, verdict: str) -> None:
    pairs = join(frame(record("dense", time_us=100.0), record("csr", time_us=sparse_us)))
    assert pairs["faster"].tolist() == [verdict]


@settings(max_examples=30, deadline=None)
@given(
    M=st.integers(1, 9000),
    K=st.integers(1, 9000),
    N=st.integers(1, 40000),
    density=st.floats(0.0, 1.0),
    dense_us=st.floats(0.5, 1e6),
    sparse_us=st.floats(0.5, 1e6),
    dtype=st.sampled_from(["fp16", "bf16", "fp32"]),
    format=st.sampled_from(["csr", "bsr", "nm"]),
    preset=st.sampled_from(["paper", "unit", "bound"]),
    ceilings=st.sampled_from([None, "datasheet", "measured"]),
)
def test_the_prediction_error_is_the_parity(
    M: int, K: int, N: int, density: float, dense_us: float, sparse_us: float, dtype: str, format: str, preset: str,
    ceilings: str | None,
) -> None:  # fmt: skip
    shape = {"M": M, "K": K, "N": N, "dtype": dtype}
    records = frame(
        record("dense", **shape, time_us=dense_us), record(format, **shape, density=density, time_us=sparse_us)
    )
    pairs = join(records, preset=preset, ceilings=ceilings)
    assert len(pairs) == 1
    row = pairs.iloc[0]
    kind = ceilings or "datasheet"
    fractions = [r[f"sol_{preset}_{kind}_ns"] / r["time_ns"] for r in records.to_dict("records")]
    gap = math.log(fractions[1]) - math.log(fractions[0])
    assert math.log(row["measured_speedup"] / row["predicted_speedup"]) == pytest.approx(gap, abs=1e-9)
    assert row["log_error"] == pytest.approx(gap, abs=1e-9)
    assert math.log(row["parity"]) == pytest.approx(gap, abs=1e-9)


@pytest.mark.parametrize(
    ("field", "other", "words"),
    [
        ("timer", "events", "timer events instead of cupti-kineto"),
        ("regime_l2", "hot", "L2 state hot instead of cold-clean"),
        ("regime_clocks", "fixed", "clocks fixed instead of as-found"),
        ("device", "H200-SXM-141GB", "device H200-SXM-141GB instead of H100-SXM5-80GB"),
        ("environment", "env-2", "environment env-2 instead of env-1"),
        ("run_id", "run-2", "run run-2 instead of run-1"),
        ("threads", 8, "threads 8 instead of none"),
        ("ceilings_datasheet", "H100-PCIe-80GB", "ceilings H100-PCIe-80GB instead of H100-SXM5-80GB"),
    ],
)
def test_unlike_conditions_are_never_paired(field: str, other: object, words: str) -> None:
    dense = record("dense") | {field: other}
    joined = pair(frame(dense, record("csr")))
    assert joined.pairs.empty
    assert set(joined.unpaired["format"]) == {"dense", "csr"}
    why = joined.unpaired.set_index("format").loc["csr", "why"]
    assert why == f"no dense partner: dense.cublas was measured under other conditions ({words})"


def test_each_regime_finds_its_own_partner() -> None:
    rows = [
        record(format, time_us=us, regime_l2=l2)
        for l2, dense_us, sparse_us in (("cold-clean", 100.0, 50.0), ("hot", 60.0, 40.0))
        for format, us in (("dense", dense_us), ("csr", sparse_us))
    ]
    pairs = join(frame(*rows)).set_index("regime_l2")
    assert pairs["measured_speedup"].to_dict() == pytest.approx({"cold-clean": 2.0, "hot": 1.5})


@pytest.mark.parametrize(
    "other", [{"N": 2049}, {"M": 513}, {"K": 4609}, {"dtype": "bf16"}, {"layout": "token-major"}, {"kernel": "dense.x"}]
)
def test_another_shape_type_layout_or_kernel_is_no_partner(other: dict[str, object]) -> None:
    joined = pair(frame(record("dense", **other), record("csr")))
    assert joined.pairs.empty
    whys = dict(zip(joined.unpaired["format"], joined.unpaired["why"], strict=True))
    assert whys["csr"] == "no dense partner: no dense.cublas time for this shape, dtype and layout"
    assert whys["dense"] == "dense, partner of no sparse record"


def test_a_cpu_is_judged_by_its_measured_ceilings_against_dense_torch() -> None:
    cpu = {"unit": "cpu", "dtype": "fp32"}
    pairs = join(
        frame(
            record("dense", **cpu, time_us=2e4),
            record("csr", **cpu, time_us=1e4, kernel="csr.scipy"),
            record("dense", **cpu, time_us=1.0, kernel="dense.cublas"),
        )
    )
    assert pairs[["ceilings", "ceilings_id", "dense_kernel"]].to_numpy().tolist() == [
        ["measured", "calibration-1", "dense.torch"]
    ]
    # Peak 0.8 TFLOP/s measured: 2 * 512 * 4608 * 2048 FLOP take 12.08 ms.
    assert pairs["sol_dense_ns"].iloc[0] == pytest.approx(2 * 512 * 4608 * 2048 / 0.8e12 * 1e9)
    assert not pairs["below_floor"].any()


def test_a_gpu_outside_the_table_uses_measured_ceilings() -> None:
    pairs = join(frame(record("dense", datasheet=False), record("csr", datasheet=False)))
    assert pairs["ceilings"].tolist() == ["measured"]
    joined = pair(frame(record("dense", datasheet=False), record("csr", datasheet=False)), ceilings="datasheet")
    assert joined.pairs.empty
    assert set(joined.unpaired["why"]) == {"no speed of light (paper, datasheet ceilings) in the record"}


def test_ceilings_cancel_from_parity_but_not_from_fractions() -> None:
    records = frame(record("dense"), record("csr"))
    sheet, measured = (join(records, ceilings=kind).iloc[0] for kind in ("datasheet", "measured"))
    assert measured["f_sparse"] == pytest.approx(sheet["f_sparse"] / 0.8)
    assert measured["parity"] == pytest.approx(sheet["parity"])


def test_choice_of_the_dense_partner() -> None:
    rows = [
        record("dense", time_us=100.0, matrix="a"),
        record("dense", time_us=140.0, matrix="b"),
        record("dense", time_us=120.0, matrix="c"),
        record("dense", time_us=70.0, matrix="d", kernel="dense.triton"),
        record("csr", time_us=50.0, matrix="b"),
        record("csr", time_us=50.0, matrix="elsewhere"),
    ]
    of = {"b": "same matrix", "elsewhere": "median"}
    pairs = join(frame(*rows))
    assert {of[m]: t for m, t in zip(pairs["matrix"], pairs["time_dense_ns"], strict=True)} == {
        "same matrix": 140e3,
        "median": 120e3,
    }
    assert set(join(frame(*rows), dense_kernel="best")["time_dense_ns"]) == {70e3}
    assert set(join(frame(*rows), dense_kernel="dense.triton")["time_dense_ns"]) == {70e3}


def test_best_takes_the_fastest_kernel_not_the_luckiest_sample_of_one() -> None:
    rows = [record("dense", time_us=us, matrix=f"m{us}") for us in (10.0, 100.0, 110.0)]
    rows += [record("dense", time_us=90.0, kernel="dense.triton"), record("csr")]
    pairs = join(frame(*rows), dense_kernel="best")
    assert pairs["dense_kernel"].tolist() == ["dense.triton"]


def test_the_order_of_records_does_not_matter() -> None:
    rows = [record("dense"), *(record("csr", density=d, time_us=100 * d) for d in (0.5, 0.1, 0.02))]
    one, other = join(frame(*rows)), join(frame(*rows[::-1]))
    columns = [c for c in one.columns if c not in ("dense_record", "sparse_record")]
    pd.testing.assert_frame_equal(
        one.sort_values("case")[columns].reset_index(drop=True),
        other.sort_values("case")[columns].reset_index(drop=True),
    )


def test_what_has_no_time_is_listed_with_its_reason() -> None:
    rows = [
        record("dense"),
        record("csr"),
        record("nm", status="unsupported", reason="K must be a multiple of 32"),
        record("bsr", status="incorrect", reason="rms 0.3 > 0.01"),
        record("dense", dtype="bf16", status="timeout", reason="60 s"),
    ]
    joined = pair(frame(*rows))
    assert len(joined.pairs) == 1
    assert list(joined.unpaired.columns) == list(UNPAIRED_COLUMNS)
    assert joined.unpaired["why"].tolist() == [
        "unsupported: K must be a multiple of 32",
        "incorrect: rms 0.3 > 0.01",
        "timeout: 60 s",
    ]


def test_every_record_is_a_pair_a_partner_or_unpaired() -> None:
    rows = [record("dense"), record("csr"), record("csr", N=5), record("bsr", status="error"), record("dense", N=7)]
    pairs, unpaired = pair(frame(*rows))
    assert len(pairs) + len(set(pairs["dense_record"])) + len(unpaired) == len(rows)


def test_an_ok_record_without_time_or_sol_is_not_guessed() -> None:
    broken = record("csr", time_us=None)
    dark = record("bsr") | {"sol_paper_datasheet_ns": None}
    joined = pair(frame(record("dense"), broken, dark))
    assert joined.pairs.empty
    assert joined.unpaired["why"].tolist()[1:] == [
        "no time in the record",
        "no speed of light (paper, datasheet ceilings) in the record",
    ]


def test_records_without_the_later_columns_still_join() -> None:
    narrow = frame(record("dense"), record("csr")).drop(columns=["environment", "threads", "layer", "synthetic"])
    assert len(join(narrow)) == 1


def test_empty_records_give_empty_frames_with_columns() -> None:
    full = pair(frame(record("dense"), record("csr")))
    empty = pair(frame(record("dense")).iloc[:0])
    assert list(empty.pairs.columns) == list(full.pairs.columns)
    assert list(empty.unpaired.columns) == list(UNPAIRED_COLUMNS)
    assert len(empty.pairs) == len(empty.unpaired) == 0


def test_the_records_are_left_as_they_were() -> None:
    records = frame(record("dense"), record("csr"))
    before = records.copy(deep=True)
    pair(records)
    pd.testing.assert_frame_equal(records, before)


def test_a_broken_identity_is_not_reported_as_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    from sparsity_roofline.validation import flags

    def spoil(pairs: pd.DataFrame, preset: str, floor_ns: float | None) -> pd.DataFrame:
        return pairs.assign(parity=pairs["parity"] * 1.001)

    monkeypatch.setattr(flags, "add_flags", spoil)
    with pytest.raises(ValueError, match="parity identity"):
        join(frame(record("dense"), record("csr")))


@pytest.mark.parametrize(
    ("records", "options", "words"),
    [
        (pd.DataFrame({"a": [1]}), {}, "not a table of records: no column status"),
        (frame(record("dense")).assign(status="splendid"), {}, "unknown status 'splendid'"),
        (frame(record("dense")), {"preset": "papre"}, "unknown preset 'papre'"),
        (frame(record("dense")), {"ceilings": "guessed"}, "unknown ceilings 'guessed'"),
    ],
)
def test_user_errors_say_what_to_do(records: pd.DataFrame, options: dict[str, str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        join(records, **options)  # type: ignore[arg-type]
