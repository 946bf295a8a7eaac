"""Layers of real networks as weights to prune."""

from __future__ import annotations

import numpy as np
import pytest

from sparsity_roofline.bench.matrices import open_collection
from sparsity_roofline.model import networks
from sparsity_roofline.model.errors import UserError


@pytest.mark.parametrize("name", networks.names())
def test_every_prunable_shape_of_every_network_is_there_once(name: str) -> None:
    infos = open_collection(f"network:{name}").infos()
    shapes = [(info.rows, info.cols, info.columns_per_image) for info in infos]
    assert len(set(shapes)) == len(shapes)
    wanted = {
        (layer.M, layer.K, layer.columns if layer.per == "image" else None)
        for layer in networks.load(name)
        if layer.prunable and layer.groups == 1
    }
    assert set(shapes) == wanted
    assert all(info.synthetic and info.network == name for info in infos)


def test_names_as_users_type_them_and_several_networks() -> None:
    collection = open_collection("network:DeiT-Small, gpt2")
    assert {info.network for info in collection.infos()} == {"deit_small", "gpt2"}
    info = collection.infos()[0]
    matrix = collection.load(info.name)
    assert matrix.shape == (info.rows, info.cols)
    assert np.array_equal(matrix.dense_operand(), open_collection(collection.uri).load(info.name).dense_operand())


def test_pruned_layers_keep_their_columns() -> None:
    collection = open_collection("network:deit_small", prune=["block32x32"], sparsities=[0.9])
    infos = collection.infos()
    assert all(info.columns_per_image for info in infos)
    assert all(abs(info.nnz / (info.rows * info.cols) - 0.1) < 0.01 for info in infos)


@pytest.mark.parametrize(
    ("text", "words"), [("nonsense", "unknown network"), ("gpt2,gpt2", "stands there twice"), ("", "unknown network")]
)
def test_mistakes_are_named(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        open_collection(f"network:{text}")


def test_an_unknown_layer() -> None:
    with pytest.raises(UserError, match="no layer 'x'"):
        open_collection("network:gpt2").load("x")
