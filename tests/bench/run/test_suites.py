"""Suites are read strictly; the two that come with the package say what they promise."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparsity_roofline.bench.suites import load_suite, suite_names
from sparsity_roofline.bench.suites.load import parse_suite
from sparsity_roofline.bench.timing.protocol import Regime, Stopping
from sparsity_roofline.model.errors import UserError

GOOD = """
name = "mine"
seed = 4
dtypes = ["fp16"]
[timing]
l2 = "hot"
seconds = 1
[[entries]]
batches = [1]
prune = ["block16", "2:4"]
sparsities = [0.5]
"""


def test_good_suite() -> None:
    suite = parse_suite(GOOD, "x")
    assert (suite.name, suite.seed, suite.dtypes, suite.devices) == ("mine", 4, ("fp16",), ("cpu", "cuda"))
    assert suite.regime == Regime(l2="hot")
    assert suite.timer is None
    timed = parse_suite(GOOD.replace("[timing]", "[timing]\ntimer = 'cuda-graph'"), "x")
    assert (timed.timer, timed.regime, timed.stopping) == ("cuda-graph", Regime(l2="hot"), Stopping(seconds=1))
    assert suite.stopping == Stopping(seconds=1)
    (entry,) = suite.entries
    assert entry.prune == ("block16", "2:4")
    assert entry.collection == "default"
    assert entry.kernels == ("*",)
    assert suite.text == GOOD


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = [", "not valid TOML"),
        (
            "[timing]\ntimer = 'events'\n[[entries]]\nbatches = [1]",
            r"timing.timer: wants one of cupti-kineto, cuda-graph, cuda-events, monotonic, not 'events'",
        ),
        ("[timing]\nl2 = 'cold'\n[[entries]]\nbatches = [1]", "timing.l2: wants one of cold-clean, cold-dirty, hot"),
        ("name = 'x'", r"entries: wants at least one table; begin one with \[\[entries\]\]"),
        ("entries = 3", "entries: wants"),
        ("seeds = 1\n[[entries]]\nbatches = [1]", "seeds: unknown key; did you mean seed?"),
        ("[[entries]]\nbatches = [1]\nkernel = ['x']", r"entries\[1\].kernel: unknown key; did you mean kernels\?"),
        ("[[entries]]\nbatches = [1]\nzzz = 1", r"zzz: unknown key; known keys: batches, collection"),
        ("[[entries]]\nbatches = [0]", r"entries\[1\].batches: wants a list of whole number of at least 1, not \[0\]"),
        ("[[entries]]\nbatches = [true]", "batches: wants a list"),
        ("[[entries]]\nbatches = 1", r"batches: wants a list, such as \[...\], with at least one element, not 1"),
        ("[[entries]]\nbatches = []", "at least one element"),
        ("[[entries]]\nbatches = [1]\ndtypes = ['fp17']", "dtypes: wants a list of fp64, fp32"),
        ("[[entries]]\nbatches = [1]\nprune = ['block']", "prune: wants a list of pattern such as"),
        ("[[entries]]\nbatches = [1]\nprune = ['dense']", "prune: wants"),
        ("[[entries]]\nbatches = [1]\ntarget_sparsity = [90]", "target_sparsity: wants a list of sparsity from 0 to 1"),
        ("[[entries]]\nbatches = [1]\nsparsities = [0.9]", "sparsities: only goes with prune"),
        ("[[entries]]\nnetworks = ['a']", "says no N; give batches, tokens or columns"),
        ("[[entries]]\nbatches = [1]\nunique_shapes = 1", "unique_shapes: wants true or false"),
        ("seed = -1\n[[entries]]\nbatches = [1]", "seed: wants a whole number of at least 0"),
        ("devices = ['gpu']\n[[entries]]\nbatches = [1]", "devices: wants a list of cpu, cuda"),
        ("timing = 1\n[[entries]]\nbatches = [1]", "timing: wants a table"),
        ("[timing]\nl2 = 'warm'\n[[entries]]\nbatches = [1]", "timing.l2: wants one of cold-clean"),
        ("[timing]\nminimum = 50\nmaximum = 20\n[[entries]]\nbatches = [1]", "timing.minimum: 50 is above"),
        ("[timing]\nseconds = 0\n[[entries]]\nbatches = [1]", "timing.seconds: wants seconds from 0.001"),
    ],
)
def test_refused_with_file_key_and_remedy(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        load_suite(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_no_such_suite() -> None:
    with pytest.raises(UserError, match=r"no suite 'mian': give one of .*main"):
        load_suite("mian")


def test_packaged_suites_load() -> None:
    assert {"main", "dlmc"} <= set(suite_names())
    for name in suite_names():
        suite = load_suite(name)
        assert suite.name == name
        assert suite.description
    assert set(load_suite("main").devices) == {"cpu", "cuda"}
    assert load_suite("dlmc").devices == ("cuda",)
