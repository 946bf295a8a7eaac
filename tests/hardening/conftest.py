"""The helpers beside the tests are imported by name, as the command ``fuzz.py`` imports them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSITY_ROOFLINE_HOME", str(tmp_path / "home"))
