"""NVBench's JSON and the comparison with it, hand-worked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sparsity_roofline.bench.evidence import nvbench
from sparsity_roofline.bench.evidence.agreement import within
from sparsity_roofline.model.errors import UserError


def state(cell: int, skipped: bool = False, **values: str) -> dict[str, Any]:
    tags = {"median": nvbench.MEDIAN, "mean": nvbench.MEAN, "clock": nvbench.CLOCK}
    return {
        "axis_values": [{"name": "cell", "type": "int64", "value": str(cell)}],
        "is_skipped": skipped,
        "summaries": [
            {"tag": tags[name], "data": [{"name": "value", "type": "float64", "value": value}]}
            for name, value in values.items()
        ],
    }


def test_median_before_mean_and_skipped_left_out() -> None:
    states = [state(0, median="5e-06", mean="9e-06", clock="1.98e9"), state(1, mean="2e-05"), state(2, skipped=True)]
    content = {"benchmarks": [{"states": states}]}
    found = nvbench.parse(content, ["one", "two", "three"])
    assert found == {"one": (pytest.approx(5000.0), 1980.0), "two": (pytest.approx(20000.0), None)}


@pytest.mark.parametrize("content", [{}, {"benchmarks": [{"states": [state(0, skipped=True)]}]}])
def test_no_measurement_is_one_line(content: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="measured nothing"):
        nvbench.parse(content, ["one"])


def test_the_constant_is_taken_off_the_span() -> None:
    ours = {"one element": (2000.0, 1500.0), "a": (30_000.0, 25_000.0), "b": (4000.0, 4000.0), "c": (1.0, 1.0)}
    rows = nvbench.compare(ours, {"one element": (5000.0, None), "a": (33_600.0, 1980.0), "b": (8000.0, None)})
    assert [row["kernel"] for row in rows] == ["one element", "a", "b"]
    assert [row["difference_us"] for row in rows] == pytest.approx([0.0, 0.6, 1.0])
    assert rows[1]["difference_share"] == pytest.approx(0.02)
    assert [within(row) for row in rows] == [True, True, False]


def test_without_the_package_it_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(nvbench, "find_spec", lambda name: None)
    assert nvbench.main([str(tmp_path / "x.csv")]) == 6
    assert "pip install" in capsys.readouterr().err
