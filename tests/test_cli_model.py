"""The verbs of the model as a user meets them: networks, sweeps, hardware, patterns and measurements of one's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from sparsity_roofline.cli import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command line in this process: (exit code, stdout, stderr)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def times(tmp_path: Path) -> Path:
    path = tmp_path / "times.csv"
    path.write_text("card,dtype,M,K,N,dense_us,sparse_us\nh100,bf16,8192,8192,8192,1700,1100\n")
    return path


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["network"], "name a network"),
        (["network", "lenet"], "unknown network 'lenet'"),
        (["network", "gpt2", "--pattern", "stripes"], "unknown pattern"),
        (["network", "gpt2", "--set", "dram_bandwidth"], "key=value"),
        (["network", "gpt2", "--set", "colour=1"], "no figure 'colour'"),
        (["network", "gpt2", "--set", "dram_bandwidth=1", "--set", "dram_bandwidth=2"], "given twice"),
        (["network", "gpt2", "--device", "nowhere.toml"], "cannot read"),
        (["network", "gpt2", "--output", "/nonexistent/x.csv"], "cannot write"),
        (["network", "gpt2", "--plot", "x.pdf"], ".png or .svg"),
        (["network", "resnet50", "--plot", "x.png"], "no sequence length"),
        (["sweep", "--shape", "64"], "write MxK"),
        (["sweep", "--pattern", "stripes"], "unknown pattern 'stripes'"),
        (["sweep", "--needs", "2:4=many"], "no positive factor"),
        (["sweep", "--needs", "nobody=2"], "no pattern 'nobody'"),
        (["sweep", "--density", "2"], "densities"),
        (["sweep", "--patterns", "nowhere.toml"], "cannot read"),
        (["predict", "--shape", "64x64x64", "--set", "colour=1"], "no figure 'colour'"),
        (["predict", "--network", "gpt2", "--patterns", "x.toml"], "does not go with --network"),
        (["predict", "--shape", "64x64x64", "--pattern", "block32+2:4", "--sparsity", "0.1"], "at most 0.5"),
        (["predict", "--shape", "64x64x64", "--device", "nowhere.toml"], "cannot read"),
        (["validate"], "say what to validate"),
        (["validate", "run", "--measurements", "x.csv"], "not both"),
        (["validate", "--measurements", "nowhere.csv"], "cannot read"),
        (["validate", "--measurements", "x.csv", "--preset", "unit"], "--preset does not go with --measurements"),
        (["validate", "run", "--map", "M=rows"], "--map does not go with a run"),
        (["validate", "--measurements", "x.csv", "--mapping", "nobody"], "no mapping 'nobody'"),
        (["validate", "--measurements", "x.csv", "--map", "rows=M"], "no field 'rows'"),
    ],
)
def test_mistakes_end_in_one_line(cli: Run, arguments: list[str], said: str) -> None:
    code, out, err = cli(*arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1


def test_network_prints_and_writes(cli: Run, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    code, out, err = cli("network", "llama-3-8b", "resnet50", "--tokens", 1024, "--tokens", 65536, "--output", path)
    assert code == 0, err
    assert "llama3_8b" in out
    rows = pd.read_csv(path)
    llama = rows[rows["network"] == "llama3_8b"]
    assert llama["tokens"].tolist() == [1024, 65536]
    assert llama["layer_speedup"].tolist() == pytest.approx([2, 2], rel=0.005)
    assert llama["speedup"].iloc[0] > 1.8 > 1.5 > llama["speedup"].iloc[1]
    code, _, err = cli("network", "gpt2", "--tokens", 64, "--tokens", 1024, "--plot", tmp_path / "gain.png")
    assert code == 0, err
    assert (tmp_path / "gain.png").stat().st_size > 1000
    code, out, _ = cli("network", "gpt2", "--json", "--phase", "decode", "--elementwise", "separate")
    assert code == 0
    (row,) = json.loads(out)
    assert row["phase"] == "decode"
    assert sum(row[key] for key in row if key.startswith("share_")) == pytest.approx(1)


def test_a_networks_convolutions_are_labelled(cli: Run) -> None:
    code, out, _ = cli("predict", "--network", "resnet50", "--batch", 8, "--json")
    assert code == 0
    found = json.loads(out)
    labels = {case["conv_input"] for case in found["cases"]}
    assert labels == {"real", ""}  # the classifier is no convolution
    code, out, _ = cli("predict", "--network", "resnet50", "--batch", 8, "--json", "--option", "conv_input=im2col")
    assert {case["conv_input"] for case in json.loads(out)["cases"]} == {"im2col", ""}
    assert json.loads(out)["sums"][0]["sol_dense_us"] > found["sums"][0]["sol_dense_us"]
    code, out, _ = cli("predict", "--network", "resnet50", "--json", "--preset", "bound", "--option", "index_bytes=2")
    assert code == 0
    assert {case["conv_input"] for case in json.loads(out)["cases"]} == {"real", ""}


def test_sweep_prints_and_writes(cli: Run, tmp_path: Path) -> None:
    code, out, err = cli("sweep", "--shape", "512x512", "--density", 0.1, "--density", 0.5, "--columns", 1, "--columns",
                         4096, "--out", tmp_path / "a")  # fmt: skip
    assert code == 0, err
    assert "Fastest pattern for 512x512" in out
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [
        "sweep.csv", "winners.csv", "winners.png", "winners.svg",
    ]  # fmt: skip
    winners = pd.read_csv(tmp_path / "a" / "winners.csv")
    assert set(winners["axis"]) == {"N", "balance"}
    cli("sweep", "--shape", "512x512", "--density", 0.1, "--density", 0.5, "--columns", 1, "--columns", 4096, "--out",
        tmp_path / "b")  # fmt: skip
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    code, out, _ = cli("sweep", "--shape", "512x512", "--density", 0.5, "--columns", 64, "--pattern", "2:4", "--json")
    assert {row["pattern"] for row in json.loads(out)} == {"2:4"}


def test_patterns_and_hardware_of_ones_own(cli: Run, tmp_path: Path) -> None:
    patterns, device = tmp_path / "mine.toml", tmp_path / "new.toml"
    patterns.write_text('["1 of 3"]\nstorage = "b * M * K / 3 + 2 * M * K / 3 / 8"\ndensity = 0.33333\n')
    device.write_text('name = "new"\nlike = "h100"\ndram_bandwidth = 8e12\n')
    code, out, err = cli(
        "predict", "--shape", "3072x3072x1", "--pattern", "1 of 3", "--pattern", "2:4", "--patterns", patterns,
        "--device", device, "--set", "fp16_flops=x2", "--json",
    )  # fmt: skip
    assert code == 0, err
    found = json.loads(out)
    assert found["device"] == "new with fp16_flops=x2"
    assert found["ceilings"] == "assumed"
    mine = next(case for case in found["cases"] if case["pattern"] == "1 of 3")
    assert mine["sol_us"] == pytest.approx((3072**2 * (2 / 3 + 1 / 12) + 4 * 3072) / 8e12 * 1e6)
    assert mine["reuses"] >= 1


def test_examples_are_what_their_page_says(cli: Run) -> None:
    folder = Path(__file__).resolve().parents[1] / "examples"
    code, out, err = cli("hardware", "show", folder / "next_gpu.toml", "--json")
    assert code == 0, err
    shown = json.loads(out)
    assert (shown["device"], shown["kind"], shown["dram_bandwidth"]) == ("next GPU", "assumed", 8e12)
    assert shown["peaks"]["fp16_flops"] == 2 * 989.5e12
    patterns = ("vector16", "3 of 8 by table", "fp4 values, 2:4")
    chosen = [word for name in patterns for word in ("--pattern", name)]
    code, out, err = cli("predict", "--shape", "4096x4096x1", "--patterns", folder / "patterns.toml", *chosen, "--json")
    assert code == 0, err
    stored = {case["pattern"]: case["stored_bytes"] / 4096**2 for case in json.loads(out)["cases"]}
    # bytes a dense element: a tenth with an index for 16; 3 of 8 with 6 bits for 8; half of half a byte with 2 bits
    assert stored == pytest.approx({"vector16": 0.1 * (2 + 4 / 16), "3 of 8 by table": 0.75 + 6 / 64,
                                    "fp4 values, 2:4": 0.25 + 0.125}, rel=1e-3)  # fmt: skip


def test_anyones_measurements(cli: Run, times: Path, tmp_path: Path) -> None:
    mapping = tmp_path / "mine.toml"
    mapping.write_text('[columns]\ngpu = "card"\n[values]\npattern = "2:4"\n')
    first = cli("validate", "--measurements", times, "--map", "gpu=card", "--value", "pattern=2:4")
    assert first[0] == 0, first[2]
    assert "constant" in first[1]
    assert cli("validate", "--measurements", times, "--mapping", mapping) == first
    code, out, _ = cli("validate", "--measurements", times, "--mapping", mapping, "--out", tmp_path / "t", "--no-cases")
    assert code == 0
    assert "summary.md" in out
    assert not (tmp_path / "t" / "cases.csv").exists()
    code, out, _ = cli("validate", "--measurements", times, "--mapping", mapping, "--device", "h200", "--json")
    assert {line["device"] for line in json.loads(out)["errors"]} == {"H200-SXM-141GB"}
    code, _, err = cli("validate", "--measurements", times)
    assert code == 2
    assert "--map" in err
