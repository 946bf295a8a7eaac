"""The table of what was counted beside what was charged."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from sparsity_roofline.bench.evidence import profiles
from sparsity_roofline.bench.matrices import open_collection
from sparsity_roofline.kernels.registry import load_kernels
from sparsity_roofline.model.expect import expected_case
from sparsity_roofline.model.pattern import Pattern


def found(**facts: float | None) -> dict[str, object]:
    """A profile of 1024 x 512 x 256, block 32, a quarter kept: 2 MB charged, 67.1 million operations."""
    case = expected_case(1024, 512, 256, Pattern.parse("block32"), 0.75, "fp16")
    return {
        "target": {"kernel": "bsr.x"},
        "case": case.to_dict(),
        "time_ns": 10_000.0,
        "fraction": 0.5,
        "facts": {"dram_read": 1.5e6, "dram_write": 0.5e6, "l2_to_sm": 8e6, "operations": 1.342e8, **facts},
        "limits": {"bytes": 1e6, "flops": 67108864.0},
        "findings": [{"term": "bandwidth", "speedup": 3.0}],
        "counted": True,
    }


def test_bytes_and_operations_stand_beside_what_is_charged() -> None:
    row = profiles.row(found())
    assert row["dram_mb"] == pytest.approx(2.0)
    assert row["dram_over_bound"] == pytest.approx(2.0)
    paper = 2 * 131072 + 4 * 128 + 4 * 33 + 2 * (512 + 1024) * 256
    assert row["charged_paper_mb"] == pytest.approx(paper / 1e6)
    assert row["operations_g"] / row["charged_operations_g"] == pytest.approx(2.0, rel=1e-3)
    assert (row["first_finding"], row["speedup_if_mended"]) == ("bandwidth", 3.0)
    assert set(row) == set(profiles.COLUMNS)


def test_what_was_not_counted_is_empty(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text(
        json.dumps(found(dram_read=None, dram_write=None, l2_to_sm=None, operations=None) | {"findings": []})
    )
    assert profiles.main([str(tmp_path), "--table"]) == 0
    (row,) = csv.DictReader((tmp_path / "profiles.csv").read_text().splitlines())
    assert row["dram_mb"] == row["l2_mb"] == row["operations_g"] == row["first_finding"] == ""


def test_an_empty_folder_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert profiles.main([str(tmp_path), "--table"]) == 2
    assert "holds no profile" in capsys.readouterr().err


def test_every_target_names_a_matrix_and_a_kernel_that_are_there() -> None:
    kernels = load_kernels()
    for target in profiles.TARGETS:
        collection = open_collection(target.uri, prune=target.prune, sparsities=target.sparsities)
        assert target.matrix in [info.name for info in collection.infos()]
        assert target.kernel in kernels
