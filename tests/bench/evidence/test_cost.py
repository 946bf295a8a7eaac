"""The split of a run's wall time, hand-worked and of a real run."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from sparsity_roofline.bench.evidence import cost
from sparsity_roofline.model.errors import UserError


def test_parts_add_up() -> None:
    walls = [
        {"load": 1e9, "timing": 3e9, "total": 5e9},
        {"load": 0, "timing": 1e9, "clock settling": 2e9, "total": 3e9},
    ]
    records = pd.DataFrame({"wall_ns": [*map(json.dumps, walls), ""]})
    meta = {"seconds": 20.0, "wall_s": {"start-up": 6.0, "records": 1.0, "tables": 0.5}}
    parts = {part.name: part for part in cost.split(records, meta)}
    assert parts[cost.PHASES["load"]].seconds == 1.0
    assert parts[cost.PHASES["timing"]].mean_ms == 2000.0
    assert parts[cost.PHASES["clock settling"]].most_ms == 2000.0
    assert parts[cost.BOOKKEEPING].seconds == pytest.approx(1.0)
    assert parts[cost.OUTSIDE["start-up"]].share == pytest.approx(0.3)
    assert parts[cost.BETWEEN].seconds == pytest.approx(20 - 8 - 7.5)
    *rest, whole = cost.split(records, meta)
    assert sum(part.seconds for part in rest) == pytest.approx(whole.seconds) == pytest.approx(20.0)


def test_older_records_are_refused() -> None:
    with pytest.raises(UserError, match="older version"):
        cost.split(pd.DataFrame({"wall_ns": ["", ""]}), {})


def test_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from sparsity_roofline.bench.plan import make_plan
    from sparsity_roofline.bench.run import run
    from sparsity_roofline.bench.suites.load import parse_suite
    from sparsity_roofline.kernels.registry import load_kernels

    monkeypatch.setenv("SPARSITY_ROOFLINE_HOME", str(tmp_path / "home"))
    suite = parse_suite(
        'dtypes = ["fp32"]\n[timing]\nminimum = 5\nmaximum = 5\nseconds = 0.05\n[[entries]]\n'
        'networks = ["transformer"]\nlayers = ["self_attention_q"]\npatterns = ["unstructured"]\n'
        'target_sparsity = [0.9]\ncolumns = [8]\nkernels = ["csr.torch"]\ndense = ["dense.torch"]\n',
        "tiny",
    )
    run(make_plan(suite, kernels=load_kernels(), device="cpu"), tmp_path / "run", calibrate=False)
    assert cost.main([str(tmp_path / "run"), str(tmp_path / "cost.csv")]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == cost.HEADING
    assert said[-1].startswith("all, 2 records")
    table = pd.read_csv(tmp_path / "cost.csv").set_index("name")
    assert table["share"].iloc[:-1].sum() == pytest.approx(1.0, abs=1e-3)
    assert (table["seconds"] >= 0).all()
    assert table.loc[cost.PHASES["timing"], "seconds"] > 0
    assert table.loc[cost.OUTSIDE["start-up"], "seconds"] > 0
