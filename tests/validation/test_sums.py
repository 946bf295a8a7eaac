"""Sums over networks, by hand."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from sparsity_roofline.model import networks
from sparsity_roofline.validation.join import join
from sparsity_roofline.validation.sums import BEST, DLMC_TRANSFORMER, SUM_COLUMNS, network_sums

from ._records import frame, record

TRANSFORMER = ((512, 512, 40.0, 30.0), (512, 2048, 100.0, 60.0), (2048, 512, 110.0, 80.0))


def transformer(without: int = 0, **more: Any) -> pd.DataFrame:
    rows = []
    for M, K, dense, sparse in TRANSFORMER[without:]:
        given = {"M": M, "K": K, "N": 2048, "network": "transformer", **more}
        rows += [record("dense", **given, time_us=dense), record("csr", **given, time_us=sparse, kernel="csr.triton")]
    return frame(*rows)


def test_a_shape_counts_as_often_as_the_network_has_it() -> None:
    table = network_sums(join(transformer()))
    row = table[table["kernel"] == "csr.triton"].iloc[0]
    assert row["measured_dense_us"] == pytest.approx(72 * 40 + 12 * 100 + 12 * 110)
    assert row["measured_sparse_us"] == pytest.approx(72 * 30 + 12 * 60 + 12 * 80)
    assert row["measured_speedup"] == pytest.approx(row["measured_dense_us"] / row["measured_sparse_us"])
    assert row["parity"] == pytest.approx(row["measured_speedup"] / row["predicted_speedup"])
    assert (row["layers"], row["layers_of"], row["measured"]) == (96, 97, 3)
    work = {shape: shape[0] * shape[1] * times for shape, times in DLMC_TRANSFORMER.items()}
    assert row["coverage"] == pytest.approx(1 - work[(33288, 512)] / sum(work.values()))
    assert row["tokens"] == 2048


def test_what_was_not_measured_is_in_neither_sum() -> None:
    row = network_sums(join(transformer(without=1))).iloc[0]
    assert row["layers"] == 24
    assert row["measured_dense_us"] == pytest.approx(12 * 100 + 12 * 110)


def test_layers_of_a_shape_count_with_their_mean() -> None:
    again = record(
        "csr", M=512, K=512, N=2048, network="transformer", matrix="other", time_us=50.0, kernel="csr.triton"
    )
    table = network_sums(join(pd.concat([transformer(), frame(again)], ignore_index=True)))
    row = table[table["kernel"] == "csr.triton"].iloc[0]
    assert row["measured_sparse_us"] == pytest.approx(72 * (30 + 50) / 2 + 12 * 60 + 12 * 80)
    assert row["measured"] == 4


def test_best_takes_each_layer_its_fastest_kernel() -> None:
    other = [
        record("csr", M=M, K=K, N=2048, network="transformer", time_us=time, kernel="csr.cusparse")
        for (M, K, _, _), time in zip(TRANSFORMER, (20.0, 90.0, 70.0), strict=True)
    ]
    table = network_sums(join(pd.concat([transformer(), frame(*other)], ignore_index=True))).set_index("kernel")
    assert set(table.index) == {"csr.triton", "csr.cusparse", BEST}
    assert table.loc[BEST, "measured_sparse_us"] == pytest.approx(72 * 20 + 12 * 60 + 12 * 70)


def test_a_convolution_finds_its_layer_by_batch() -> None:
    layer = next(x for x in networks.load("resnet50") if x.prunable and x.per == "image")
    given = {"M": layer.M, "K": layer.K, "network": "rn50", "batch": 2}
    good, wrong = {**given, "N": 2 * layer.columns}, {**given, "N": 3 * layer.columns}
    rows = [record("dense", **good, time_us=9.0), record("csr", **good, time_us=6.0)]
    table = network_sums(join(frame(*rows)))
    same = [x for x in networks.load("resnet50") if (x.M, x.K, x.columns) == (layer.M, layer.K, layer.columns)]
    times = sum(x.count * x.groups for x in same if x.prunable)
    assert table["measured_dense_us"].iloc[0] == pytest.approx(9.0 * times)
    assert 0 < table["coverage"].iloc[0] < 1
    assert network_sums(join(frame(record("dense", **wrong), record("csr", **wrong)))).empty


@pytest.mark.parametrize("network", ["", "no such network", "../../etc/passwd"])
def test_an_unknown_network_has_no_row(network: str) -> None:
    table = network_sums(join(transformer().assign(network=network)))
    assert table.empty
    assert set(SUM_COLUMNS) <= set(table.columns)
