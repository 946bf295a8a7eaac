"""The example workflow and the page: what they tell to run can be run."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import click
import pytest
import yaml

from sparsity_roofline.cli import VERBS

ROOT = Path(__file__).resolve().parents[3]
WORKFLOW = ROOT / "examples/gpu-regression.yml"
PAGE = ROOT / "docs/gpu-ci.md"


def commands(text: str) -> list[list[str]]:
    """Arguments of each ``sparsity-roofline`` command in a text; continued lines joined, comments cut."""
    joined = text.replace("\\\n", " ")
    found = re.findall(r"(?:^|[/\s`])sparsity-roofline ((?:[a-z]+) [^`\n]*|doctor)", joined)
    return [shlex.split(line, comments=True) for line in found if line.split()[0] in VERBS]


def test_the_workflow_is_one_and_keeps_the_gpu_to_one_job() -> None:
    flow = yaml.safe_load(WORKFLOW.read_text())
    assert flow["permissions"] == {"contents": "read"}
    assert flow["concurrency"]["cancel-in-progress"] is False
    job = flow["jobs"]["gate"]
    assert "self-hosted" in job["runs-on"]
    assert "labels" in job["if"]
    assert set(flow[True]) == {"push", "pull_request", "workflow_dispatch"}  # YAML 1.1 reads the key `on` as true


@pytest.mark.parametrize("path", [WORKFLOW, PAGE], ids=lambda path: path.name)
def test_every_command_is_understood(path: Path) -> None:
    found = commands(path.read_text())
    assert any(parts[0] == "compare" for parts in found)
    for verb, *arguments in found:
        command: click.Command = importlib.import_module(f"sparsity_roofline.commands.{verb}").command
        known = {option for parameter in command.params for option in parameter.opts}
        used = {part.partition("=")[0] for part in arguments if part.startswith("--")}
        assert used <= known, (verb, used - known)


def test_the_page_s_defaults_are_the_program_s() -> None:
    from sparsity_roofline.commands.compare import command

    defaults = {parameter.name: parameter.default for parameter in command.params}
    text = PAGE.read_text()
    assert f"`--looks {defaults['looks']}`" in text
    assert f"`--processes {defaults['processes']}`" in text
    assert f"is {defaults['threshold']:.0%}".replace("%", " %") in text
    assert f"or {defaults['threshold_ns']:g} ns" in text
