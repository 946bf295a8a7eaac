"""Accuracies: reading them, the front against brute force, the published ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsity_roofline.model.errors import UserError
from sparsity_roofline.validation.accuracy import accuracy_speedup, pareto, published, read_accuracies

SUM = {
    "device": "gpu", "run_id": "r", "network": "net", "method": "magnitude", "pattern": "block64x64", "format": "bsr",
    "dtype": "fp16", "batch": 32.0, "tokens": np.nan, "kernel": "best", "coverage": 1.0,
}  # fmt: skip


def sums(*points: tuple[float, float, float]) -> pd.DataFrame:
    return pd.DataFrame(
        [{**SUM, "level": s, "predicted_speedup": p, "measured_speedup": m, "refined_speedup": m} for s, p, m in points]
    )


def table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.csv"
    path.write_text(text)
    return path


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12))
def test_front_is_what_nothing_dominates(points: list[tuple[int, int]]) -> None:
    x, y = (np.array([p[i] for p in points], dtype=float) for i in (0, 1))
    expected = [
        not any((a >= x[i] and b >= y[i]) and (a > x[i] or b > y[i]) for a, b in points) for i in range(len(points))
    ]
    assert pareto(x, y).tolist() == expected


def test_what_is_no_number_is_on_no_front() -> None:
    assert pareto(np.array([1.0, np.nan, 2.0]), np.array([5.0, 9.0, 4.0])).tolist() == [True, False, True]


def test_a_users_table_joins_by_network_pattern_and_sparsity(tmp_path: Path) -> None:
    path = table(
        tmp_path,
        "# mine\nnetwork,pattern,sparsity,accuracy\nnet,block64x64,0.5,76\nnet,block64x64,0.7,77\n"
        "net,block64x64,0.9,70\nother,2:4,0.5,1\n",
    )
    found = accuracy_speedup(sums((0.5, 1.5, 1.2), (0.7, 2.0, 1.1), (0.9, 5.0, 3.0)), read_accuracies(path))
    assert found["level"].tolist() == [0.5, 0.7, 0.9]
    assert found["accuracy"].tolist() == [76.0, 77.0, 70.0]
    assert found["predicted_front"].tolist() == [False, True, True]
    assert found["measured_front"].tolist() == [True, True, True]


def test_a_method_that_is_named_must_fit(tmp_path: Path) -> None:
    text = "network,method,pattern,sparsity,accuracy\nnet,{},block64x64,0.5,76\n"
    assert len(accuracy_speedup(sums((0.5, 1.0, 1.0)), read_accuracies(table(tmp_path, text.format("magnitude"))))) == 1
    assert accuracy_speedup(sums((0.5, 1.0, 1.0)), read_accuracies(table(tmp_path, text.format("random")))).empty


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not a table"),
        ("network,pattern\na,b\n", "no column sparsity, accuracy"),
        ("network,pattern,sparsity,accuracy\na,b,much,70\n", "row 1: sparsity 'much'"),
        ("network,pattern,sparsity,accuracy\na,b,50,70\n", "sparsity"),
        ("network,pattern,sparsity,accuracy\na,b,0.5,\n", "accuracy"),
        ('network,pattern,sparsity,accuracy\n"a,b,0.5,1\n', "not a table"),
    ],
)
def test_a_fault_is_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        read_accuracies(table(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read .*none\.csv"):
        read_accuracies(tmp_path / "none.csv")


def test_published_figures_keep_clear_of_the_traps() -> None:
    known = published()
    assert not known.duplicated(["network", "method", "pattern", "level"]).any()
    bleu = known[known["network"] == "transformer"]
    assert (bleu["metric"] == "BLEU").all()
    assert bleu["accuracy"].max() < 30  # a figure of ResNet-50 stands in some cells of the source
    assert set(bleu.loc[bleu["method"] == "variational_dropout", "level"]) == {0.6, 0.7}
    top = known[(known["network"] == "rn50") & (known["method"] == "magnitude_pruning")].set_index("level")["accuracy"]
    assert top.to_dict() == {0.5: 76.53, 0.7: 76.38, 0.8: 75.58, 0.9: 73.91, 0.95: 70.59, 0.98: 57.9}
