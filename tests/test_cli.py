"""The command line as a user meets it: help, JSON, one clear line for a mistake."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from sparsity_roofline.cli import VERBS, main
from sparsity_roofline.cli import cli as cli_group

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


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_examples(cli: Run, verb: str) -> None:
    code, out, _ = cli(verb, "--help")
    assert code == 0
    assert "Examples:" in out
    assert f"sparsity-roofline {verb}" in out


def shown_commands() -> list[str]:
    """Every command line of the pages and of the helps' examples."""
    root = Path(__file__).resolve().parents[1]
    pages = [root / "README.md", *root.glob("docs/*.md"), *root.glob("results/**/README.md")]
    texts = [page.read_text(encoding="utf-8") for page in pages]
    for verb in VERBS:
        command = cli_group.get_command(click.Context(cli_group), verb)
        assert command is not None
        each = command.commands.values() if isinstance(command, click.Group) else ()
        texts += [part.help or "" for part in (command, *each)]
    shown = re.compile(r"(?:^ +|^\$ |`|/)(sparsity-roofline [a-z]+[^\n|`#]*)", re.MULTILINE)
    return sorted({line for text in texts for line in shown.findall(text)})


def test_commands_of_the_pages_name_verbs_and_options_that_exist() -> None:
    seen = 0
    for line in shown_commands():
        words = line.split()[1:]
        command: click.Command | None = cli_group
        while isinstance(command, click.Group) and words and not words[0].startswith("-"):
            command = command.get_command(click.Context(command), words.pop(0))
            assert command is not None, line
        options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        for word in words:
            if word.startswith("--") and word not in ("--help", "--version"):
                assert word.partition("=")[0] in options, line
                seen += 1
    assert seen > 50


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["predict"], 2, "say what to predict"),
        (["predict", "--shape", "1x2"], 2, "MxKxN"),
        (["predict", "--shape", "8x8x8", "--option", "colour=red"], 2, "no such cost option"),
        (["predict", "--shape", "8x8x8", "--device", "abacus"], 2, "abacus"),
        (["predict", "--collection", "nowhere.tar"], 2, "nowhere.tar"),
        (["predict", "--shape", "8x8x8", "--output", "/nonexistent/x.csv"], 2, "cannot write"),
        (["validate", "nowhere"], 2, "nowhere"),
        (["matrices", "info", "nowhere.smtx"], 2, "nowhere.smtx"),
        (["matrices", "list", "nowhere"], 2, "nowhere"),
        (["measure", "--suite", "nosuch"], 2, "nosuch"),
        (["measure", "--only", "csr.nosuch*"], 2, "nosuch"),
        (["run", "--kernel", "nosuch:kernel"], 2, "nosuch"),
        (["measure", "--device", "cpu", "--timer", "sundial"], 2, "choose monotonic"),
        (["run", "--device", "cpu", "--timer", "cuda-graph"], 2, "no timer 'cuda-graph' for cpu"),
        (["run", "--l2", "warm"], 2, "cold-clean"),
        (["run", "--budget", "soon"], 2, "soon"),
        (["run", "--suite", "dlmc", "--device", "cpu"], 6, "dlmc"),
        (["hardware", "show", "abacus"], 2, "abacus"),
        (["frobnicate"], 2, "frobnicate"),
        (["predict", "--frobnicate"], 2, "predict --help"),
        (["predict", "--shape", "8x8x8", "--batch", "4"], 2, "--batch does not go with --shape"),
        (["predict", "--network", "gpt2", "--columns", "4"], 2, "--columns does not go with --network"),
        (["predict", "--collection", "builtin", "--batch", "1", "--sparsity", "0.5"], 2, "--prune"),
        (["predict", "--collection", "builtin", "--columns", "0"], 2, "--columns"),
        (["predict", "--shape", "99999999999999999999x4x4"], 2, "63 bits"),
        (["predict", "--network", "gpt2", "--batch", str(10**20)], 2, "--batch"),
        (["matrices", "info", "builtin"], 2, "is a collection"),
        (["matrices", "info", "x.smtx", "--block", "0"], 2, "--block"),
        (["matrices", "list", ""], 2, "empty address"),
        (["matrices", "import", "x.smtx", "y.smtx", "--sparsity", "0.5"], 2, "--prune"),
        (["run", "--resume"], 2, "--out"),
        (["validate", "nowhere", "--floor-us", "-1"], 2, "--floor-us"),
        (["compare", "results", "results", "--only", "csr.*"], 2, "--only does not go with runs"),
        (["compare", "nowhere", "results"], 2, "--worktree"),
        (["explain", "results/x", "--shape", "8x8x8"], 2, "not both"),
        (["explain", "--shape", "8x8x8", "--columns", "8"], 2, "--columns does not go with --shape"),
        (["explain", "--shape", "8x8x8", "--kernel", "bsr.nosuch"], 2, "no description of kernel 'bsr.nosuch'"),
        (["explain", "results/x", "--sparsity", "0.5"], 2, "--sparsity does not go with a record"),
        (["network", "resnet50", "--phase", "decode"], 2, "--phase does not go with networks of images"),
        (["network", "deit_base", "--tokens", "128"], 2, "--tokens does not go with networks of images"),
        (["hardware", "blocks", "h100", "--dtype", "fp12"], 2, "unknown dtype"),
        (["network", "gpt2", "--keep-dense", "zzz*"], 2, "fits no layer of gpt2"),
        (["hardware", "blocks", "--dtype", "fp12"], 2, "unknown dtype"),
    ],
)
def test_mistakes_end_in_one_line(cli: Run, arguments: list[str], code: int, said: str) -> None:
    got, out, err = cli(*arguments)
    assert got == code
    assert said in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert not out


@pytest.mark.parametrize(("number", "code"), [(errno.EACCES, 2), (errno.ENOSPC, 4)])
def test_what_the_system_refuses_is_named(
    cli: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int, code: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), str(tmp_path / "dark"))

    monkeypatch.setattr("sparsity_roofline.bench.matrices.open_collection", refuse)
    got, _, err = cli("matrices", "list")
    assert got == code
    assert err == f"error: {tmp_path / 'dark'}: {os.strerror(number)}\n"


def test_a_fault_of_ours_keeps_its_traceback(cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_(*_: object, **__: object) -> None:
        raise OSError("no file named, no number")

    monkeypatch.setattr("sparsity_roofline.bench.matrices.open_collection", break_)
    with pytest.raises(OSError, match="no file named"):
        cli("matrices", "list")


def test_predict_prunes_to_the_sparsity_asked_for(cli: Run) -> None:
    arguments = ("--match", "transformer/*", "--columns", 16, "--prune", "block16", "--sparsity", 0.75)
    code, out, _ = cli("predict", "--collection", "builtin", *arguments, "--json")
    assert code == 0
    assert {case["target_sparsity"] for case in json.loads(out)["cases"]} == {0.75}


def test_predict_prints_json(cli: Run) -> None:
    code, out, _ = cli("predict", "--shape", "4096x4096x16", "--pattern", "2:4", "--json")
    answer = json.loads(out)
    assert code == 0
    # Bandwidth-bound: 1.125 bytes per dense element against 2, X and Y on both sides.
    W, XY = 4096 * 4096, 2 * 2 * 4096 * 16
    assert answer["cases"][0]["speedup"] == pytest.approx((2 * W + XY) / (1.125 * W + XY))
    assert answer["sums"][0]["rows"] == 1


def test_predict_a_network_prints_sums(cli: Run) -> None:
    code, out, _ = cli("predict", "--network", "resnet50", "--batch", 32, "--sparsity", 0.9, "--rows", 0)
    assert code == 0
    assert "resnet50, batch 32, unstructured 0.9, fp16" in out


def test_predict_a_collection_writes_csv(cli: Run, tmp_path: Path) -> None:
    target = tmp_path / "rows.csv"
    code, _, _ = cli("predict", "--collection", "builtin", "--match", "*0.9", "--columns", 64, "--output", target)
    assert code == 0
    assert target.read_text().startswith("collection,")


def test_hardware_lists_and_shows(cli: Run) -> None:
    _, out, _ = cli("hardware", "list", "--json")
    assert "H100-SXM5-80GB" in {row["gpu"] for row in json.loads(out)}
    _, out, _ = cli("hardware", "show", "h100", "--json")
    assert all(row["source"] for row in json.loads(out))


def test_kernels_say_why_not(cli: Run) -> None:
    _, out, _ = cli("kernels", "list", "--json")
    rows = {row["name"]: row for row in json.loads(out)["kernels"]}
    gpu = "dense.cublas dense.triton csr.cusparse csr.triton bsr.cusparse bsr.triton bsr.torch nm.cusparselt nm.triton"
    cpu = "dense.torch csr.torch csr.scipy bsr.scipy"
    assert {*gpu.split(), *cpu.split()} <= set(rows)
    assert all(row["available"] or row["reason"] for row in rows.values())


def test_doctor_gives_remedies(cli: Run) -> None:
    code, out, _ = cli("doctor", "--json")
    findings = json.loads(out)
    assert code == 0
    assert {"torch", "GPU", "disk"} <= {finding["name"] for finding in findings}
    assert {finding["status"] for finding in findings} <= {"ok", "warn", "missing"}


def test_matrices_round_trip(cli: Run, tmp_path: Path) -> None:
    _, out, _ = cli("matrices", "list", "--json")
    name = json.loads(out)[0]["name"]
    target = tmp_path / "w.smtx"
    code, out, _ = cli("matrices", "import", "builtin", name, target)
    assert code == 0
    code, out, err = cli("matrices", "import", "builtin", name, target)
    assert code == 2
    assert "--overwrite" in err
    _, out, _ = cli("matrices", "info", target, "--json")
    info = json.loads(out)
    assert info["nnz"] > 0


def test_dry_run_lists_and_measures_nothing(cli: Run, tmp_path: Path) -> None:
    code, out, _ = cli("run", "--device", "cpu", "--dry-run", "--out", tmp_path / "run", "--json")
    assert code == 0
    assert json.loads(out)["estimate_s"] > 0
    assert not (tmp_path / "run").exists()


SUITE = """
name = "tiny"
devices = ["cpu"]
dtypes = ["fp32"]
[timing]
minimum = 5
maximum = 10
[[entries]]
layers = ["*group4_1_1"]
patterns = ["unstructured"]
target_sparsity = [0.9, 0.98]
batches = [1]
kernels = ["csr.scipy"]
"""


@pytest.mark.slow
def test_run_resume_validate(cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The main job on a suite of the user's own, gone on with, and validated again from its Parquet alone."""
    monkeypatch.setenv("SPARSITY_ROOFLINE_HOME", str(tmp_path / "home"))
    (tmp_path / "tiny.toml").write_text(SUITE)
    folder = tmp_path / "run"
    options = ("--suite", tmp_path / "tiny.toml", "--out", folder)
    code, out, err = cli("run", *options)
    assert code == 0, err
    assert "csr.scipy" in out
    for name in ("records.parquet", "run.json", "environment.json", "tables/cases.csv", "plots/parity.svg"):
        assert (folder / name).exists(), name
    code, _, err = cli("run", *options)
    assert code == 2
    assert "--resume" in err
    before = (folder / "records.parquet").read_bytes()
    code, _, err = cli("measure", *options, "--resume")
    assert code == 0, err
    code, out, err = cli("validate", folder / "records.parquet", "--out", tmp_path / "again", "--json")
    assert code == 0, err
    answer = json.loads(out)
    assert answer["counts"]["pairs"] == 2
    assert {pair["kernel"] for pair in answer["pairs"]} == {"csr.scipy"}
    assert before == (folder / "records.parquet").read_bytes()


def test_version(cli: Run) -> None:
    code, out, _ = cli("--version")
    assert code == 0
    assert out.startswith("sparsity-roofline, version ")


def test_names_beyond_the_terminals_encoding_are_escaped(tmp_path: Path) -> None:
    folder = tmp_path / "w\u00f6rk"
    folder.mkdir()
    (folder / "m\u2603.smtx").write_text("2, 4, 3\n0 2 3\n0 3 1\n")
    source = Path(__file__).resolve().parents[1] / "src"
    env = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(source)}
    command = [sys.executable, "-m", "sparsity_roofline", "matrices", "list", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
    assert "m\\u2603" in done.stdout


def test_kernels_list_says_whose_code_runs(capsys: pytest.CaptureFixture[str]) -> None:
    own = Path(__file__).parents[1] / "examples" / "user_kernel.py"
    assert main(["kernels", "list", "--json", "--kernel", f"{own}:ColumnGather"]) == 0
    code = {row["name"]: row["code"] for row in json.loads(capsys.readouterr().out)["kernels"]}
    assert code["bsr.triton"] == "ours"
    assert code["csr.cusparse"] == "peer"
    assert code["bsr.auto"] == "the fastest of these"
    assert [name for name, whose in code.items() if whose == "yours"] == ["csr.gather"]
