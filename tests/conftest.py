"""Shared by all tests: GPU tests are skipped, with the reason, where there is no GPU."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Tests that start another process find the package there too, installed or not.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(Path(__file__).resolve().parents[1] / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip tests marked ``gpu`` on a machine without one."""
    if not any("gpu" in item.keywords for item in items):
        return
    try:
        import torch

        reason = "" if torch.cuda.is_available() else "no NVIDIA GPU: torch.cuda.is_available() is False"
    except ImportError:
        reason = "no NVIDIA GPU: torch is not installed"
    if reason:
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason=reason))
