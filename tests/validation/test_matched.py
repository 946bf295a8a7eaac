"""Matched pairs: which partner is taken, and that the two effects make up the whole error."""

from __future__ import annotations

import numpy as np
import pytest

from sparsity_roofline.model.errors import UserError
from sparsity_roofline.validation.join import join, pair
from sparsity_roofline.validation.matched import EFFECT_COLUMNS, effects, family

from ._records import frame, record

SHAPE = {"M": 4096, "K": 4096, "N": 4096}


def some(*more: dict[str, object]) -> object:
    return frame(
        record("dense", **SHAPE, time_us=250.0),
        record("dense", **SHAPE, time_us=300.0, kernel="dense.triton"),
        record("bsr", **SHAPE, density=0.25, kernel="bsr.triton", time_us=200.0),
        *more,
    )


def test_family_of_a_kernel() -> None:
    assert family("bsr.triton") == "dense.triton"
    assert family("bsr.torch.tuned") == "dense.torch.tuned"


def test_the_same_kernel_at_density_one_comes_first() -> None:
    full = record("bsr", **SHAPE, density=1.0, kernel="bsr.triton", time_us=400.0)
    other = record("bsr", **SHAPE, density=1.0, kernel="bsr.torch", time_us=350.0)
    pairs = join(some(full, other), dense_kernel="matched")
    at = pairs.set_index("density")
    assert at.loc[0.25, "dense_kernel"] == "bsr.triton"
    assert at.loc[0.25, "measured_speedup"] == pytest.approx(400.0 / 200.0)
    assert at.loc[0.25, "predicted_speedup"] == pytest.approx(
        full["sol_paper_datasheet_ns"]
        / record("bsr", **SHAPE, density=0.25, kernel="bsr.triton")["sol_paper_datasheet_ns"]
    )
    # The full one is itself compared with the dense kernel of its family, never with itself.
    assert at.loc[1.0, "dense_kernel"] == "dense.triton"


def test_a_full_weight_of_another_block_is_no_partner() -> None:
    full = record("bsr", **SHAPE, density=1.0, kernel="bsr.triton", block=64, time_us=400.0)
    pairs = join(some(full), dense_kernel="matched")
    assert set(pairs["dense_kernel"]) == {"dense.triton"}


def test_without_a_family_the_reason_is_said() -> None:
    lonely = record("csr", **SHAPE, kernel="csr.cusparse", time_us=900.0)
    joined = pair(some(lonely), dense_kernel="matched")
    assert set(joined.pairs["kernel"]) == {"bsr.triton"}
    why = joined.unpaired.set_index("kernel")["why"]
    assert why["csr.cusparse"].startswith("no dense partner: neither csr.cusparse at density 1 nor dense.cusparse")


def test_effects_make_up_the_error_against_the_vendor() -> None:
    records = some(record("bsr", **{**SHAPE, "M": 8192}, density=0.25, kernel="bsr.triton", time_us=380.0),
                   record("dense", **{**SHAPE, "M": 8192}, time_us=480.0),
                   record("dense", **{**SHAPE, "M": 8192}, time_us=620.0, kernel="dense.triton"))  # fmt: skip
    vendor = join(records)
    table = effects(vendor, join(records, dense_kernel="matched"), ("device", "kernel", "dtype"), resamples=200)
    assert list(table.columns) == ["device", "kernel", "dtype", *EFFECT_COLUMNS]
    row = table.iloc[0]
    assert row["partner"] == "dense.triton"
    assert row["pairs"] == row["shapes"] == 2
    assert row["implementation"] == pytest.approx(np.sqrt((250 / 300) * (480 / 620)))
    assert row["parity_matched"] * row["implementation"] == pytest.approx(row["parity_vendor"])
    assert row["parity_vendor"] == pytest.approx(np.exp(vendor["log_error"].mean()))
    assert row["implementation_low"] <= row["implementation"] <= row["implementation_high"]


def test_matched_is_offered_where_a_name_is_wrong() -> None:
    with pytest.raises(UserError, match="best, matched"):
        join(some(), dense_kernel="dense.nonsense")
