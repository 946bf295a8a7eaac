from __future__ import annotations

import hashlib
import textwrap
from pathlib import Path

import numpy as np
import pytest

from sparsity_roofline.bench.matrices import open_collection, synthetic, write_matrix
from sparsity_roofline.bench.matrices.listed import Listed
from sparsity_roofline.model.errors import UserError

from .conftest import pack


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A directory as an author might publish it: runs named by network and pattern, sparsities in per cent."""
    root = tmp_path / "release"
    for pattern, run in (("unstructured", "unstr"), ("block16x16", "blk16")):
        for text, sparsity in (("50", 0.5), ("87", 0.875)):
            for layer, shape in (("conv1", (64, 48)), ("fc", (32, 64))):
                file = root / f"resnet50_imnet100_{run}" / f"sparsity{text}" / f"{layer}.npz"
                file.parent.mkdir(parents=True, exist_ok=True)
                write_matrix(synthetic(shape, pattern, sparsity, name=f"{run}{text}{layer}"), file)
    (root / "notes.txt").write_text("not a matrix")
    return root


RULE = r"""
    name = "paper"
    root = "release"
    [defaults]
    method = "global magnitude"
    [columns_per_image]
    conv1 = 12544
    [[rule]]
    glob = "**/*.npz"
    regex = '(?P<network>[a-z0-9]+)_imnet100_(?P<pattern>\w+)/sparsity(?P<sparsity>\d+)/(?P<layer>\w+)\.npz'
    [rule.map.pattern]
    unstr = "unstructured"
    blk16 = "block16x16"
    [rule.map.sparsity]
    50 = 0.5
    87 = 0.875
"""


def write(tmp_path: Path, text: str, name: str = "set.toml") -> Path:
    (tmp_path / name).write_text(textwrap.dedent(text))
    return tmp_path / name


def test_a_rule_reads_a_whole_release(release: Path, tmp_path: Path) -> None:
    collection = open_collection(f"manifest:{write(tmp_path, RULE)}")
    infos = {info.name: info for info in collection.infos()}
    assert collection.label == "paper"
    assert len(infos) == 8
    info = infos["resnet50_imnet100_blk16/sparsity87/conv1"]
    assert (info.network, info.layer, str(info.pattern)) == ("resnet50", "conv1", "block16x16")
    assert (info.target_sparsity, info.method, info.columns_per_image) == (0.875, "global magnitude", 12544)
    assert infos["resnet50_imnet100_unstr/sparsity50/fc"].columns_per_image is None
    for name, info in infos.items():
        matrix = collection.load(name)
        assert (*matrix.shape, matrix.nnz, matrix.pattern) == (info.rows, info.cols, info.nnz, info.pattern)
        assert (matrix.network, matrix.layer, matrix.target_sparsity) == (
            info.network,
            info.layer,
            info.target_sparsity,
        )
    again = open_collection(collection.uri)
    assert again.infos() == collection.infos()


def test_a_release_in_an_archive(release: Path, tmp_path: Path) -> None:
    pack(release, tmp_path / "release.tar.gz")
    text = RULE.replace('"release"', '"release.tar.gz"').replace("'(?P<network>", "'release/(?P<network>")
    assert len(open_collection(str(write(tmp_path, text))).infos()) == 8


def test_a_directory_with_its_own_manifest(release: Path) -> None:
    write(release, RULE.replace('root = "release"', ""), "manifest.toml")
    collection = open_collection(str(release))
    assert isinstance(collection, Listed)
    assert len(collection.infos()) == 8


def test_rows_say_everything(release: Path, tmp_path: Path) -> None:
    path = release / "resnet50_imnet100_unstr/sparsity50/fc.npz"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    text = f"""
        root = "release"
        [[matrix]]
        path = "resnet50_imnet100_unstr/sparsity50/fc.npz"
        name = "a"
        layer = "fc"
        layout = "KxM"
        target_sparsity = 0.5
        rows = 64
        cols = 32
        nnz = 1024
        columns_per_image = 7
        sha256 = "{digest}"
        synthetic = true
        [[matrix]]
        path = "absent.smtx"
        rows = 10
        cols = 20
        sparsity = 0.9
    """
    collection = open_collection(str(write(tmp_path, text)))
    first, second = collection.infos()
    assert (first.name, first.rows, first.cols, first.nnz, first.columns_per_image) == ("a", 64, 32, 1024, 7)
    assert collection.load("a").shape == (64, 32)
    assert collection.load("a").synthetic
    assert (second.name, second.present, second.rows, second.nnz) == ("absent", False, 10, 20)
    with pytest.raises(UserError, match=r"absent\.smtx: No such file"):
        collection.load("absent")
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(UserError, match="the manifest says"):
        collection.load("a")


@pytest.mark.parametrize("claim", ["rows = 3", "cols = 3", "nnz = 3"])
def test_a_statement_that_the_file_contradicts(release: Path, tmp_path: Path, claim: str) -> None:
    text = f'root = "release"\n[[matrix]]\npath = "resnet50_imnet100_unstr/sparsity50/fc.npz"\nname = "a"\n{claim}'
    with pytest.raises(UserError, match="but the manifest says 3"):
        open_collection(str(write(tmp_path, text))).load("a")


def test_a_pattern_that_the_file_does_not_obey(release: Path, tmp_path: Path) -> None:
    text = 'root = "release"\n[defaults]\npattern = "2:4"\n[[rule]]\nregex = ".*fc.npz"'
    collection = open_collection(str(write(tmp_path, text)))
    with pytest.raises(UserError, match="not 2:4"):
        collection.load("resnet50_imnet100_unstr/sparsity50/fc")


def test_rows_from_a_csv_file(release: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(
        "path,network,layer,pattern,target_sparsity,rows,cols,nnz,format,dtype,layout,sha256\n"
        "resnet50_imnet100_unstr/sparsity50/fc.npz,resnet50,fc,unstructured,0.5,32,64,1024,csr,fp32,,\n"
        "resnet50_imnet100_blk16/sparsity50/fc.npz,resnet50,fc,block16x16,0.5,,,,,,,\n"
    )
    collection = open_collection(str(write(tmp_path, 'root = "release"\ncsv = "rows.csv"')))
    assert [(info.rows, info.cols, info.nnz) for info in collection.infos()] == [(32, 64, 1024)] * 2
    assert [str(collection.load(info.name).pattern) for info in collection.infos()] == ["unstructured", "block16x16"]


def test_the_first_rule_that_matches_wins_and_rows_before_rules(release: Path, tmp_path: Path) -> None:
    text = """
        root = "release"
        [[matrix]]
        path = "resnet50_imnet100_unstr/sparsity50/fc.npz"
        layer = "row"
        [[rule]]
        glob = "**/fc.npz"
        layer = "first"
        [[rule]]
        glob = "**/*.npz"
        layer = "second"
    """
    layers = {info.name: info.layer for info in open_collection(str(write(tmp_path, text))).infos()}
    assert layers["resnet50_imnet100_unstr/sparsity50/fc"] == "row"
    assert layers["resnet50_imnet100_unstr/sparsity87/fc"] == "first"
    assert layers["resnet50_imnet100_unstr/sparsity87/conv1"] == "second"
    assert len(layers) == 8


def test_dense_files_are_counted_by_reading(tmp_path: Path) -> None:
    dense = np.zeros((4, 6))
    dense[1, 2] = 5
    np.save(tmp_path / "a.npy", dense)
    (info,) = open_collection(str(write(tmp_path, '[[matrix]]\npath = "a.npy"'))).infos()
    assert (info.rows, info.cols, info.nnz) == (4, 6, 1)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("name = ", "not a readable manifest"),
        ("", "nothing to read"),
        ("colour = 1", "the top level: unknown key 'colour'"),
        ('[[matrix]]\npath = "a"\nsize = 3', r"\[\[matrix\]\] 1: unknown key 'size'"),
        ("[[matrix]]\nlayer = 'x'", r"\[\[matrix\]\] 1: no path"),
        ("[[matrix]]\npath = 3", "no path"),
        ("[[matrix]]\npath = 'a'\nlayer = 3", "layer = 3: expected text"),
        ("[[matrix]]\npath = 'a'\nrows = -3", "rows = -3: expected a whole number"),
        ("[[matrix]]\npath = 'a'\nrows = true", "rows = True: expected a whole number"),
        ("[[matrix]]\npath = 'a'\nrows = 1.5", "rows = 1.5: expected a whole number"),
        ("[[matrix]]\npath = 'a'\nsparsity = 87", "sparsity = 87: expected a share"),
        ("[[matrix]]\npath = 'a'\nsparsity = 'x'", "sparsity = 'x': expected a number"),
        ("[[matrix]]\npath = 'a'\nsparsity = nan", "expected a share"),
        ("[[matrix]]\npath = 'a'\npattern = 'x'", r"\[\[matrix\]\] 1: unknown pattern 'x'"),
        ("[[matrix]]\npath = 'a'\nlayout = 'x'", "expected MxK or KxM"),
        ("[[matrix]]\npath = 'a'\nsynthetic = 3", "expected true or false"),
        ("[[matrix]]\npath = 'a.smtx'\n[[matrix]]\npath = 'a.mtx'", "two matrices are called 'a'"),
        ("[matrix]\npath = 'a'", "should be a list of tables"),
        ("defaults = 3", "defaults should be a table"),
        ("root = 'nowhere'\n[[rule]]", "neither a directory nor a tar archive"),
        ("csv = 'nowhere.csv'", "nowhere.csv"),
        ("[[rule]]\nregex = '('", "rule"),
        ("[[rule]]\nglob = '/abs/*'", "rule"),
        ("[[rule]]\nregex = '(?P<colour>x)'", "unknown group 'colour'"),
        ("[[rule]]\nregex = 'x'", "matches none of the"),
        ("[[rule]]\nmap = 3", "map holds one table"),
        ("[[rule]]\ntensor = 'x'", "unknown key 'tensor'"),
        ("[columns_per_image]\na = 'x'\n[[matrix]]\npath = 'a'\nlayer = 'a'", "columns_per_image"),
    ],
)
def test_mistakes_are_named_with_their_place(tmp_path: Path, text: str, reason: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UserError, match=reason) as caught:
        open_collection(f"manifest:{path}")
    assert "set.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_ragged_csv_file(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("path,layer\na.npz\n")
    with pytest.raises(UserError, match=r"rows\.csv:2: more or fewer cells"):
        open_collection(str(write(tmp_path, 'csv = "rows.csv"')))


def test_the_example_of_the_documentation_reads_the_release(release: Path, tmp_path: Path) -> None:
    page = Path(__file__).parents[3] / "docs" / "manifest.md"
    text = next(block for block in page.read_text().split("```") if block.startswith("toml") and "[[rule]]" in block)
    path = write(tmp_path, text.removeprefix("toml").replace('"matrices" ', '"release" '))
    infos = open_collection(str(path)).infos()
    assert len(infos) == 8
    assert {str(info.pattern) for info in infos} == {"unstructured", "block16x16"}
    assert {info.target_sparsity for info in infos} == {0.5, 0.875}
