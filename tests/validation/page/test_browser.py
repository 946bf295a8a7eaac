"""The page in a browser, where there is one: its script runs to the end and what it draws, it draws."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from sparsity_roofline.validation.page.report import report

from .._records import sweep
from ._runs import HOSTILE, folder

BROWSER = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), "")


@pytest.mark.slow
@pytest.mark.skipif(not BROWSER, reason="needs Chromium")
def test_script_runs_and_draws(tmp_path: Path) -> None:
    records = sweep()
    records["matrix"] = [HOSTILE[i % len(HOSTILE)] for i in range(len(records))]
    page = tmp_path / "r.html"
    report(folder(tmp_path / "a", records), page, resamples=20)
    command = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
        "--window-size=390,6000", "--virtual-time-budget=8000", "--dump-dom", page.as_uri(),
    ]  # fmt: skip
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert 'data-ready="true"' in dom
    assert dom.count("<svg") >= 5  # the legend at least: panels are drawn when they come into view
    assert "<p>This plot cannot be drawn" not in dom
    chosen = re.search(r'id="selection"[^>]*>([^<]+)<', dom)
    assert chosen
    assert re.match(r"\d+ of \d+ pairs: predicted [\d.]+, measured", chosen[1])
    assert 'name="format"' in dom
