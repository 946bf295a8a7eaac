"""Ceilings: which peak a unit has, what is refused, and that a file of them reads back the same."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from sparsity_roofline.model import hardware
from sparsity_roofline.model.ceilings import Ceilings
from sparsity_roofline.model.errors import UserError

H100 = hardware.datasheet("h100")
CPU = Ceilings("some CPU", "measured", {"fp32_flops": 1e11, "bf16_flops": 2e11}, 2e10, l2_bytes=3e7)


def test_peaks_by_unit() -> None:
    assert H100.peak("fp16", "tensor") == 989.5e12
    assert H100.peak("fp16", "cuda") == 67e12
    assert H100.peak("int8", "tensor") == 1979e12
    assert H100.peak("fp16", "tensor", sparse=True) == 1979e12
    assert H100.own_unit("fp16") == "tensor"
    assert H100.own_unit("fp32") == "cuda"
    assert CPU.own_unit("bf16") == "cpu"
    assert CPU.peak("bf16", "cpu") == 2e11


@pytest.mark.parametrize(
    ("ceilings", "dtype", "unit", "sparse", "message"),
    [
        (H100, "fp32", "tensor", False, "H100-SXM5-80GB: no datasheet figure for the fp32 peak on tensor"),
        (H100, "fp64", "cuda", False, "fp64 peak"),
        (H100, "fp32", "cuda", True, "2:4 fp32"),
        (hardware.datasheet("t4"), "bf16", "tensor", False, "known are fp16, fp32, int8"),
        (CPU, "fp16", "cpu", False, "no measured figure"),
        (H100, "fp12", "tensor", False, "unknown dtype"),
        (H100, "fp16", "npu", False, "unknown unit"),
    ],
)
def test_a_missing_peak_says_what_is_known(
    ceilings: Ceilings, dtype: str, unit: str, sparse: bool, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        ceilings.peak(dtype, unit, sparse=sparse)  # type: ignore[arg-type]


@pytest.mark.parametrize("ceilings", [H100, CPU, replace(CPU, identity="", details={"seconds": 1.5, "by": ["copy"]})])
def test_json_reads_back(ceilings: Ceilings) -> None:
    again = Ceilings.from_json(ceilings.to_json())
    assert again == ceilings
    assert again.details == ceilings.details
    assert again.identity == ceilings.identity
    assert hash(again) == hash(ceilings)


def test_identity_follows_the_figures_and_nothing_else() -> None:
    assert replace(CPU, identity="").identity == CPU.identity
    assert replace(CPU, identity="", details={"x": 1}).identity == CPU.identity
    assert replace(CPU, identity="", dram_bandwidth=2.1e10).identity != CPU.identity
    assert replace(CPU, identity="", kind="datasheet").identity != CPU.identity
    assert replace(CPU, identity="", peaks={"fp32_flops": 1e11}).identity != CPU.identity
    backwards = Ceilings(
        "some CPU", "measured", dict(reversed(list(CPU.peaks.items()))), 20_000_000_000, l2_bytes=30_000_000
    )
    assert backwards.identity == CPU.identity
    assert len({hardware.datasheet(name).identity for name in hardware.names()}) == len(hardware.names())


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "{", '{"device": "x"}', '"x"', json.dumps({**json.loads(CPU.to_json()), "colour": 1})]
)
def test_a_broken_file_is_one_line(text: str) -> None:
    with pytest.raises(UserError, match="not a ceilings file") as error:
        Ceilings.from_json(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "guessed"},
        {"dram_bandwidth": 0},
        {"dram_bandwidth": math.nan},
        {"dram_bandwidth": "fast"},
        {"peaks": {"fp32_flops": -1.0}},
        {"peaks": {"fp32_flops": math.inf}},
        {"l2_bytes": -1},
    ],
)
def test_impossible_figures_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(UserError, match="ceilings of some CPU"):
        replace(CPU, **change)  # type: ignore[arg-type]


def test_files_from_before_there_were_l2_rates_still_read_and_keep_their_identity() -> None:
    file = Path(__file__).resolve().parents[2] / "results" / "h100-sxm" / "dlmc" / "ceilings.json"
    for kept in json.loads(file.read_text(encoding="utf-8")).values():
        if isinstance(kept, dict):
            assert "l2_shared_bandwidth" not in kept
            read = Ceilings.from_json(json.dumps(kept))
            assert replace(read, identity="").identity == kept["identity"]
            assert replace(read, l2_shared_bandwidth=14e12, identity="").identity != kept["identity"]
