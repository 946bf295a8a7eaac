"""Layers that are nothing but shapes."""

from __future__ import annotations

import numpy as np
import pytest

from sparsity_roofline.bench.matrices import open_collection
from sparsity_roofline.model.errors import UserError


def test_one_dense_layer_for_each_shape() -> None:
    collection = open_collection("shapes:32x64, 48x16")
    assert [(i.name, i.rows, i.cols, i.nnz) for i in collection.infos()] == [
        ("32x64", 32, 64, 2048),
        ("48x16", 48, 16, 768),
    ]
    matrix = collection.load("48x16")
    assert matrix.shape == (48, 16)
    assert np.array_equal(matrix.dense_operand(), collection.load("48x16").dense_operand())


def test_patterns_of_one_shape_prune_the_same_weight_and_reopen_from_their_address() -> None:
    collection = open_collection("shapes:64x64", prune=["unstructured", "block16x16", "2:4"], sparsities=[0.75], seed=3)
    infos = list(collection.infos())
    assert [i.name for i in infos] == ["64x64@unstructured@0.75", "64x64@block16x16@0.75", "64x64@2:4@0.5"]
    assert all(i.synthetic for i in infos)
    again = open_collection(collection.uri)
    weights = [collection.load(i.name).unpruned for i in infos]
    assert all(np.array_equal(weights[0], w) for w in weights)
    assert again.load(infos[1].name).digest == collection.load(infos[1].name).digest
    other = open_collection("shapes:64x64", prune=["unstructured"], sparsities=[0.75], seed=4)
    assert not np.array_equal(other.load("64x64@unstructured@0.75").unpruned, weights[0])


@pytest.mark.parametrize("text", ["", "64", "64x", "0x4", "4x4,", "4 x 4", "-1x3", "4x4x4"])
def test_what_is_no_shape_is_named(text: str) -> None:
    with pytest.raises(UserError, match="is not a shape: write M x K"):
        open_collection(f"shapes:{text}")


def test_a_shape_named_twice_and_an_unknown_layer() -> None:
    with pytest.raises(UserError, match="4x4 stands there twice"):
        open_collection("shapes:4x4,4x4")
    with pytest.raises(UserError, match="no layer '8x8'"):
        open_collection("shapes:4x4").load("8x8")


def test_uniform_weights_leave_block_rows_of_like_length_and_trained_like_ones_do_not() -> None:
    spread = {}
    for scheme in ("shapes", "uniform"):
        matrix = open_collection(f"{scheme}:1024x1024", prune=["block32x32"], sparsities=[0.75]).load(
            "1024x1024@block32x32@0.75"
        )
        rows, _ = matrix.blocks(32, 32)
        counts = np.bincount(rows, minlength=32)
        spread[scheme] = counts.std() / counts.mean()
    binomial = np.sqrt(0.75 / (0.25 * 32))
    assert spread["uniform"] < 1.4 * binomial
    assert spread["shapes"] > 1.5 * spread["uniform"]
    assert open_collection("uniform:8x8").label == "uniform"
