from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sparsity_roofline.bench.matrices import open_collection
from sparsity_roofline.bench.matrices.builtin import shapes
from sparsity_roofline.bench.matrices.collection import Collection
from sparsity_roofline.bench.matrices.values import seeded_weight
from sparsity_roofline.model.errors import UserError


def test_builtin_is_synthetic_everywhere_and_listed() -> None:
    collection = open_collection("builtin")
    infos = collection.infos()
    assert isinstance(collection, Collection)
    assert all(info.synthetic and info.present for info in infos)
    assert {info.network for info in infos} == {"resnet50", "transformer"}
    assert {str(info.pattern) for info in infos} >= {"unstructured", "block32x32", "2:4"}
    assert len({info.name for info in infos}) == len(infos)


def test_builtin_layers_are_those_of_resnet50() -> None:
    """The 21 shapes of DLMC, with N of one image; those of the transformer without its embedding."""
    layers = {(i.rows, i.cols): i.columns_per_image for i in shapes() if i.network == "resnet50"}
    assert len(layers) == 21
    assert (layers[64, 147], layers[512, 4608], layers[1000, 2048]) == (12544, 49, 1)
    others = {(i.rows, i.cols): i.columns_per_image for i in shapes() if i.network != "resnet50"}
    assert others == {(512, 512): None, (2048, 512): None, (512, 2048): None}


def test_builtin_matrices_are_what_the_listing_says() -> None:
    collection = open_collection("builtin")
    for info in collection.infos()[::37]:
        matrix = collection.load(info.name)
        assert matrix.name == info.name
        assert matrix.shape == (info.rows, info.cols)
        assert matrix.synthetic
        assert not matrix.seeded_values
        assert matrix.pattern == info.pattern
        assert matrix.target_sparsity == info.target_sparsity
        assert matrix.unpruned is not None
        assert np.array_equal(matrix.to_dense()[matrix.to_dense() != 0], matrix.unpruned[matrix.to_dense() != 0])
        if info.rows % 64 == 0 and info.cols % 64 == 0:
            assert matrix.nnz == info.nnz
    with pytest.raises(UserError, match="no matrix 'x'"):
        collection.load("x")


def test_another_process_builds_the_same_from_the_uri() -> None:
    collection = open_collection("builtin", prune=["block8x8"], sparsities=[0.9], seed=11)
    name = "transformer/ffn_conv1@block8x8@0.9"
    code = (
        "from sparsity_roofline.bench.matrices import open_collection as o;"
        f"m = o({collection.uri!r}).load({name!r}); print(m.digest, m.values.tobytes().hex()[:64])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout.split()
    matrix = collection.load(name)
    assert printed == [matrix.digest, matrix.values.tobytes().hex()[:64]]


def test_layers_of_patterns_are_seeded_and_labelled(dlmc_folder: Path) -> None:
    collection = open_collection(f"dlmc:{dlmc_folder}", prune=["block2x2", "2:4"], seed=1)
    infos = {info.name: info for info in collection.infos()}
    ffn = "transformer/body_encoder_layer_0_ffn_conv1"
    assert set(infos) == {
        "rn50/initial_conv@block2x2@0.5",
        "rn50/initial_conv@block2x2@0.9",
        "rn50/final_dense@block2x2@0.9",  # at 0.5 the copy does not have it
        f"{ffn}@block2x2@0.9",
        f"{ffn}@block2x2@0.98",  # one layer, although two methods name it differently
        "rn50/initial_conv@2:4@0.5",
        "rn50/final_dense@2:4@0.5",
        f"{ffn}@2:4@0.5",
    }
    assert all(info.synthetic and info.present for info in infos.values())
    assert infos["rn50/initial_conv@2:4@0.5"].columns_per_image == 12544
    matrix = collection.load("rn50/initial_conv@2:4@0.5")
    assert matrix.synthetic
    assert np.array_equal(matrix.dense_operand(), seeded_weight((8, 12), 1, "rn50/initial_conv"))
    assert infos["rn50/initial_conv@2:4@0.5"].nnz == matrix.nnz == 48


def test_given_sparsities_replace_those_of_the_collection(dlmc_folder: Path) -> None:
    collection = open_collection(str(dlmc_folder), prune=["unstructured", "2:4"], sparsities=[0.75, 0.96875])
    assert {info.target_sparsity for info in collection.infos()} == {0.75, 0.96875, 0.5}
    again = open_collection(collection.uri)
    assert again.uri == collection.uri
    assert again.infos() == collection.infos()
    assert "rn50/initial_conv@unstructured@0.96875" in {info.name for info in again.infos()}


def test_refuses() -> None:
    with pytest.raises(UserError, match="unknown pattern"):
        open_collection("builtin", prune=["blocky"])
    with pytest.raises(UserError, match="between 0 and 1"):
        open_collection("builtin", prune=["unstructured"], sparsities=[90])
    with pytest.raises(UserError, match="no such file or directory"):
        open_collection("nowhere")
    with pytest.raises(UserError, match="not the address of a pruned collection"):
        open_collection("builtin#prune=2:4;sparsities=a;seed=0")


def test_sparsities_without_patterns_are_refused(dlmc_folder: Path) -> None:
    with pytest.raises(UserError, match="name the patterns too"):
        open_collection(str(dlmc_folder), sparsities=[0.5])


def test_a_target_that_keeps_nothing_is_left_out() -> None:
    """64 x 147 in blocks of 64 is one by three: at sparsity .9 not one block stays, at .5 two (of three, rounded)."""
    names = {info.name for info in open_collection("builtin", prune=["block64"], sparsities=[0.5, 0.9]).infos()}
    assert "resnet50/initial_conv@block64x64@0.5" in names
    assert "resnet50/initial_conv@block64x64@0.9" not in names
