from __future__ import annotations

import re
from pathlib import Path

import pytest

from sparsity_roofline.bench.perf.read_speed import main


def test_prints_what_was_read(dlmc_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(dlmc_folder)]) == 0
    printed = capsys.readouterr().out
    assert "opened and listed 6 matrices" in printed
    assert "loaded 5 matrices" in printed
    assert re.search(r"total \d+\.\d\d s", printed)


def test_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage" in capsys.readouterr().err
    assert main(["nowhere"]) == 2
    assert "nowhere: no such file" in capsys.readouterr().err
