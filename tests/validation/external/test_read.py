"""Reading anyone's latencies: columns by mapping, both layouts, units, what is refused or left out with a reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sparsity_roofline.model import hardware
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.validation.external.mapping import FIELDS, ColumnMap, load, recognise, shipped
from sparsity_roofline.validation.external.read import COLUMNS, read

SLIDE = "gpu,dtype,model,tokens,out_features,in_features,dense_us,sparse_2to4_us\n"
OWN = "gpu,dtype,M,K,N,pattern,sparsity,dense_us,sparse_us\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "times.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_shipped_mapping_is_recognised(tmp_path: Path) -> None:
    path = written(tmp_path, SLIDE + "NVIDIA A100 80GB PCIe,bf16,Net,64,2560,6912,30.5,25.25\n")
    found = read(path)
    assert found.recognised
    assert found.mapping.name == "slidesparse"
    row = found.rows.iloc[0].to_dict()
    assert (row["M"], row["K"], row["N"]) == (2560, 6912, 64)
    assert (row["device"], row["pattern"], row["sparsity"], row["l2"]) == ("A100-PCIe-80GB", "2:4", 0.5, "hot")
    assert (row["dense_s"], row["sparse_s"]) == pytest.approx((30.5e-6, 25.25e-6))
    assert found.rows.columns.tolist() == list(COLUMNS)
    assert found.ceilings["A100-PCIe-80GB"] == hardware.datasheet("A100-PCIe-80GB")


@pytest.mark.parametrize(
    ("gpu", "device"),
    [
        ("NVIDIA B200", "B200-HGX"),
        ("NVIDIA GeForce RTX 4090", "RTX-4090"),
        ("NVIDIA GeForce RTX 5080", "RTX-5080"),
        ("NVIDIA H100 PCIe", "H100-PCIe-80GB"),
        ("NVIDIA H100 80GB HBM3", "H100-SXM5-80GB"),
        ("h200", "H200-SXM-141GB"),
    ],
)
@pytest.mark.parametrize("dtype", ["bf16", "int8"])
def test_other_gpus_of_the_same_schema_need_nothing(tmp_path: Path, gpu: str, device: str, dtype: str) -> None:
    found = read(written(tmp_path, SLIDE + f"{gpu},{dtype},Net,64,2560,6912,30.5,25.25\n"))
    assert found.rows["device"].tolist() == [device]


def test_columns_and_values_by_hand(tmp_path: Path) -> None:
    path = written(tmp_path, "card,rows,cols,tok,full_ms,half_ns\nh100,128,256,512,0.25,125000\n")
    columns = {"gpu": "card", "M": "rows", "K": "cols", "N": "tok", "dense_ms": "full_ms", "sparse_ns": "half_ns"}
    found = read(path, ColumnMap(columns, {"dtype": "BFloat16", "pattern": "block16", "sparsity": "0.75"}))
    row = found.rows.iloc[0]
    assert not found.recognised
    assert (row["M"], row["K"], row["N"], row["dtype"]) == (128, 256, 512, "bf16")
    assert (row["pattern"], row["sparsity"], row["l2"]) == ("block16x16", 0.75, "unknown")
    assert (row["dense_s"], row["sparse_s"]) == pytest.approx((250e-6, 125e-6))


def test_one_time_a_row_is_paired_by_shape_and_label(tmp_path: Path) -> None:
    text = "gpu,dtype,M,K,N,pattern,sparsity,label,time_us\n" + "\n".join(
        [
            "h100,fp16,64,64,64,dense,,a,10", "h100,fp16,64,64,64,dense,,b,20", "h100,fp16,64,64,64,dense,,c,60",
            "h100,fp16,64,64,64,2:4,,b,5",  # its own label's
            "h100,fp16,64,64,64,unstructured,0.9,z,4",  # no such label: the median, 20
            "h100,fp16,128,64,64,2:4,,a,3",  # no dense time of this shape
            "h100,fp16,256,64,64,dense,,a,9",  # a dense time that nothing is compared with
        ]
    )  # fmt: skip
    rows = read(written(tmp_path, text + "\n")).rows.set_index("line")
    assert (rows.loc[5, "dense_s"], rows.loc[5, "sparse_s"]) == pytest.approx((20e-6, 5e-6))
    assert rows.loc[6, "dense_s"] == pytest.approx(20e-6)
    assert np.isnan(rows.loc[7, "dense_s"])
    assert (rows.loc[8, "dense_s"], rows.loc[8, "pattern"]) == (pytest.approx(9e-6), "dense")
    assert np.isnan(rows.loc[8, "sparse_s"])
    assert rows.index.tolist() == [5, 6, 7, 8]


def test_ceilings_of_ones_own_for_every_row(tmp_path: Path) -> None:
    own = hardware.datasheet("l40s")
    found = read(written(tmp_path, OWN.removeprefix("gpu,") + "fp16,64,64,64,2:4,,10,5\n"), device=own)
    assert found.rows["device"].tolist() == ["L40S"]
    assert found.ceilings == {"L40S": own}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("abacus,fp16,64,64,64,2:4,,10,5", "no ceilings for 'abacus'"),
        ("h100,fp4,64,64,64,2:4,,10,5", "unknown dtype 'fp4'"),
        ("a100,fp8,64,64,64,2:4,,10,5", "no fp8 peak for A100"),
        ("h100,fp16,0,64,64,2:4,,10,5", "M is '0'"),
        ("h100,fp16,64,6.5,64,2:4,,10,5", "K is '6.5'"),
        ("h100,fp16,64,64,many,2:4,,10,5", "N is 'many'"),
        ("h100,fp16,64,64,64,stripes,,10,5", "unknown pattern 'stripes'"),
        ("h100,fp16,64,64,64,unstructured,,10,5", "needs a sparsity"),
        ("h100,fp16,64,64,64,unstructured,1.5,10,5", "not between 0 and 1"),
        ("h100,fp16,64,64,64,2:4,,OOM,5", "time 'OOM' is not a number"),
        ("h100,fp16,64,64,64,2:4,,-1,5", "not positive"),
        ("h100,fp16,64,64,64,2:4,,inf,5", "not positive"),
        ("h100,fp16,64,64,64,2:4,,,", "no time of either side"),
    ],
)
def test_a_row_that_cannot_be_used_is_listed_with_its_reason(tmp_path: Path, line: str, why: str) -> None:
    good = "h100,fp16,64,64,64,2:4,,10,5\n"
    found = read(written(tmp_path, OWN + good + line + "\n"))
    assert len(found.rows) == 1
    assert found.skipped["line"].tolist() == [3]
    assert why in found.skipped["why"].iloc[0]
    with pytest.raises(UserError, match="no row can be used"):
        read(written(tmp_path, OWN + line + "\n"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("gpu,gpu\nh100,h100\n", "same name"),
        (OWN + "h100,fp16\n", "line 2: 2 cells under 9 columns"),
        ("gpu,dtype,M,K,N,dense_us,sparse_us\nh100,fp16,1,1,1,1,1\n", "nothing for pattern"),
        ("gpu,dtype,M,K,N,pattern\nh100,fp16,1,1,1,2:4\n", "time_us"),
        ("gpu,dtype,M,K,N,pattern,time_us,dense_us\nh100,fp16,1,1,1,2:4,1,1\n", "not all three"),
        (OWN, "no row can be used"),
    ],
)
def test_files_that_say_nothing_are_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        read(written(tmp_path, text))


def test_paths_and_bytes_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read"):
        read(tmp_path / "nowhere.csv")
    (tmp_path / "latin.csv").write_bytes(b"gpu\n\xff\n")
    with pytest.raises(UserError, match="UTF-8"):
        read(tmp_path / "latin.csv")
    with pytest.raises(UserError, match="no column 'rows' for M"):
        read(written(tmp_path, OWN + "h100,fp16,64,64,64,2:4,,10,5\n"), ColumnMap({"M": "rows"}))


def test_mappings_from_toml(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[columns]\nM = "rows"\n[values]\npattern = "2:4"\n[costs.int8.dense]\noutput_bytes_each = 4\n')
    found = load(str(path))
    assert (found.columns, found.values) == ({"M": "rows"}, {"pattern": "2:4"})
    assert found.costs["int8"]["dense"] == {"output_bytes_each": 4}
    # What is given on top wins, and a field is a column or a value, not both.
    more = found.with_items({"pattern": "kind"}, {"M": "64"})
    assert (more.columns, more.values) == ({"pattern": "kind"}, {"M": "64"})
    assert recognise(["gpu", "M", "K", "N"]) is None
    assert shipped() == ["slidesparse"]
    assert set(load("slidesparse").columns) <= set(FIELDS)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[columns]\nrows = 'M'\n", "no field 'rows'"),
        ("[rows]\n", "unknown key 'rows'"),
        ("columns = 1\n", "must be a table"),
        ("[costs.fp4.dense]\n", "unknown dtype"),
        ("[costs.int8.left]\n", "dense or sparse"),
        ("[costs.int8.dense]\ncolour = 1\n", "no cost option 'colour'"),
        ("[costs]\nint8 = 3\n", "must hold"),
        ("[columns", "mine.toml"),
    ],
)
def test_mappings_that_are_wrong(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=said):
        load(str(path))


def test_a_mapping_that_is_nowhere() -> None:
    with pytest.raises(UserError, match=r"slidesparse"):
        load("somebody")
    with pytest.raises(UserError, match="cannot read"):
        load("nowhere.toml")
