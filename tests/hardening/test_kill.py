"""The quick part of the kill test; ``kill.py`` goes on for as many runs as it is told."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from kill import SUITE, one_run


@pytest.mark.slow
def test_a_run_killed_at_random_loses_and_doubles_nothing(tmp_path: Path) -> None:
    suite = tmp_path / "suite.toml"
    suite.write_text(SUITE)
    kills, wrong = one_run(tmp_path / "run", suite, "", random.Random(11), 3)
    assert wrong == []
    assert kills.total() >= 1
