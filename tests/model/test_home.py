"""Where costly things are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparsity_roofline.model.home import cache_home


def test_the_variable_then_the_cache_of_the_desktop_then_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SPARSITY_ROOFLINE_HOME", str(tmp_path / "own"))
    assert cache_home() == tmp_path / "own"
    monkeypatch.delenv("SPARSITY_ROOFLINE_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_home() == tmp_path / "sparsity-roofline"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_home() == tmp_path / ".cache" / "sparsity-roofline"
