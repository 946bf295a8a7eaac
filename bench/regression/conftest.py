"""The regression suite's settings: the fixture, also where this package is not installed, and a CPU's ceilings."""

from __future__ import annotations

import pytest

pytest_plugins = ["sparsity_roofline.bench.pytest_plugin"]


@pytest.fixture(scope="session", autouse=True)
def _ceilings() -> None:
    """A CPU has no data sheet: its ceilings are measured once and kept, so that fractions of them can be told."""
    from sparsity_roofline.bench.calibrate import measured_ceilings
    from sparsity_roofline.bench.environment import pick_device

    if pick_device() == "cpu":
        measured_ceilings("cpu", calibrate_if_missing=True)
