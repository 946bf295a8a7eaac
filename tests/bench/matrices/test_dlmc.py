from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sparsity_roofline.bench.matrices import open_collection
from sparsity_roofline.bench.matrices.dlmc import layer_name
from sparsity_roofline.model.errors import UserError

from .conftest import ABSENT, MATRICES, masks, pack

INITIAL = "rn50/magnitude_pruning/0.5/initial_conv"
FFN = "transformer/magnitude_pruning/0.9/body_encoder_layer_0_ffn_conv1_fully_connected"


@pytest.mark.parametrize("suffix", ["", ".tar", ".tar.gz", ".tar.xz", ".tar.bz2"])
@pytest.mark.parametrize("scheme", ["", "dlmc:"])
def test_the_same_from_a_folder_and_every_archive(dlmc_folder: Path, tmp_path: Path, suffix: str, scheme: str) -> None:
    path = pack(dlmc_folder, tmp_path / f"dlmc{suffix}") if suffix else dlmc_folder
    collection = open_collection(f"{scheme}{path}")
    infos = {info.name: info for info in collection.infos()}
    assert collection.label == "dlmc"
    assert list(infos) == sorted([*MATRICES, ABSENT])
    assert [name for name, info in infos.items() if not info.present] == [ABSENT]
    for name, mask in masks().items():
        matrix, info = collection.load(name), infos[name]
        assert np.array_equal(matrix.to_dense() != 0, mask)
        assert (*matrix.shape, matrix.nnz) == (info.rows, info.cols, info.nnz) == (*mask.shape, mask.sum())
        assert matrix.seeded_values
        assert not matrix.synthetic
        for field in ("network", "layer", "method", "target_sparsity", "columns_per_image"):
            assert getattr(matrix, field) == getattr(info, field)
    assert infos[INITIAL].columns_per_image == 12544
    assert (infos[INITIAL].network, infos[INITIAL].method) == ("rn50", "magnitude_pruning")
    assert infos[INITIAL].target_sparsity == 0.5
    assert infos[FFN].layer == "body_encoder_layer_0_ffn_conv1"
    assert infos[FFN].columns_per_image is None


def test_the_folder_above_and_a_copy_without_side_files(dlmc_folder: Path) -> None:
    assert len(open_collection(str(dlmc_folder.parent)).infos()) == 6
    with_csv = {info.name: info for info in open_collection(str(dlmc_folder)).infos()}
    (dlmc_folder / "dlmc.csv").unlink()
    without = {info.name: info for info in open_collection(str(dlmc_folder)).infos()}
    assert without == {name: info for name, info in with_csv.items() if info.present}
    (dlmc_folder / "rn50_batchsizes.txt").unlink()
    assert all(info.columns_per_image is None for info in open_collection(str(dlmc_folder)).infos())


def test_a_file_that_the_listing_lacks_is_listed_too(dlmc_folder: Path) -> None:
    extra = dlmc_folder / "rn50/random_pruning/0.98/final_dense.smtx"
    extra.parent.mkdir(parents=True)
    extra.write_text("2, 3, 1\n0 1 1 \n2 \n")
    collection = open_collection(str(dlmc_folder))
    info = next(i for i in collection.infos() if i.name == "rn50/random_pruning/0.98/final_dense")
    assert (info.rows, info.cols, info.nnz, info.columns_per_image) == (2, 3, 1, 1)


def test_values_depend_on_seed_and_name_only(dlmc_folder: Path, tmp_path: Path) -> None:
    archive = pack(dlmc_folder, tmp_path / "a.tar.gz")
    first = open_collection(str(dlmc_folder), seed=3).load(INITIAL).values
    assert np.array_equal(first, open_collection(str(archive), seed=3).load(INITIAL).values)
    assert not np.array_equal(first, open_collection(str(dlmc_folder)).load(INITIAL).values)


def test_unknown_absent_and_contradicting(dlmc_folder: Path) -> None:
    collection = open_collection(str(dlmc_folder))
    with pytest.raises(UserError, match="no matrix 'nothing'"):
        collection.load("nothing")
    with pytest.raises(UserError, match=r"listed in dlmc\.csv, but"):
        collection.load(ABSENT)
    (dlmc_folder / f"{INITIAL}.smtx").write_text("2, 3, 1\n0 1 1 \n2 \n")
    with pytest.raises(UserError, match=r"initial_conv\.smtx: 2 x 3 with 1 elements, but dlmc.csv says 8 x 12"):
        collection.load(INITIAL)
    (dlmc_folder / f"{INITIAL}.smtx").unlink()
    with pytest.raises(UserError, match="cannot be read"):
        collection.load(INITIAL)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("x,1,dlmc/rn50/a.smtx,n,1,1,1,0,0,0,0,0", "dlmc.csv:8: .*network/method/sparsity/layer"),
        ("x,1,dlmc/rn50/../0.5/a.smtx,n,1,1,1,0,0,0,0,0", "dlmc.csv:8: .*network/method/sparsity/layer"),
        ("x,1,dlmc/rn50/m/0.5/a.smtx,n,-1,1,1,0,0,0,0,0", "dlmc.csv:8: '-1' is not a whole number"),
        ("x,1,dlmc/rn50/m/0.5/a.smtx,n,1,1,1.5,0,0,0,0,0", "dlmc.csv:8: '1.5' is not a whole number"),
        ("x,1,dlmc/rn50/m/0.5/a.smtx,n,1,1,inf,0,0,0,0,0", "dlmc.csv:8: 'inf' is not a whole number"),
        ("x,1,dlmc/rn50/m/0.5/a.smtx,n,1", "dlmc.csv:8: None is not a whole number"),
        ("x,1,dlmc/rn50/m/half/a.smtx,n,1,1,1,0,0,0,0,0", "'half' is not a sparsity"),
    ],
)
def test_broken_listing(dlmc_folder: Path, line: str, reason: str) -> None:
    with (dlmc_folder / "dlmc.csv").open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(UserError, match=reason):
        open_collection(str(dlmc_folder))


def test_broken_side_files(dlmc_folder: Path) -> None:
    (dlmc_folder / "rn50_batchsizes.txt").write_text("initial_conv 12544\n")
    with pytest.raises(UserError, match=r"rn50_batchsizes\.txt:1: not 'layer,pixels'"):
        open_collection(str(dlmc_folder))
    (dlmc_folder / "rn50_batchsizes.txt").unlink()
    (dlmc_folder / "dlmc.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match=r"dlmc\.csv:1: no column 'path'"):
        open_collection(str(dlmc_folder))


def test_nothing_of_the_collection(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no matrices of DLMC here"):
        open_collection(f"dlmc:{tmp_path}")
    with pytest.raises(UserError, match="no such file"):
        open_collection(f"dlmc:{tmp_path / 'nothing'}")
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="neither a directory nor a tar archive"):
        open_collection(f"dlmc:{tmp_path / 'file'}")


def test_layer_names_join_across_methods() -> None:
    embedding = {"symbol_modality_33288_512_shared_", "symbol_modality_33288_512_shared_weights_0_aux"}
    assert {layer_name(name) for name in embedding} == {"symbol_modality_33288_512_shared"}
    assert layer_name("body_x_fully_connected") == layer_name("body_x") == "body_x"
    assert layer_name("bottleneck_1_block_group1_1_1") == "bottleneck_1_block_group1_1_1"


def test_processes_that_open_an_archive_at_once_share_one_copy(
    dlmc_folder: Path, tmp_path: Path, cache_home: Path
) -> None:
    archive = pack(dlmc_folder, tmp_path / "a.tar.xz")
    code = (
        f"from sparsity_roofline.bench.matrices import open_collection as o; print(o({str(archive)!r}).load({FFN!r}))"
    )
    workers = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env={**os.environ}) for _ in range(3)
    ]
    printed = {worker.communicate(timeout=60)[0] for worker in workers}
    assert [worker.returncode for worker in workers] == [0, 0, 0]
    assert len(printed) == 1
    assert len([entry for entry in (cache_home / "archives").iterdir() if entry.is_dir()]) == 1


@pytest.mark.skipif("SPARSITY_ROOFLINE_DLMC" not in os.environ, reason="SPARSITY_ROOFLINE_DLMC names no copy of DLMC")
def test_a_real_copy_agrees_with_its_listing() -> None:
    """Every matrix of a real copy: shape and nnz as listed (``load`` checks that), ResNet-50 sums to 8.178 GFLOP."""
    collection = open_collection(os.environ["SPARSITY_ROOFLINE_DLMC"])
    loaded = sum(collection.load(info.name) is not None for info in collection.infos() if info.present)
    layers = [i for i in collection.infos() if i.name.startswith("rn50/magnitude_pruning/0.9/")]
    flops = sum(2 * i.rows * i.cols * (i.columns_per_image or 0) for i in layers)
    assert len(collection.infos()) == 3846
    assert len(layers) == 54
    assert loaded >= 432
    assert flops == pytest.approx(8.178e9, rel=1e-3)
