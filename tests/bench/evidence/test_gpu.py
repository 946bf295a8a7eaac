"""Evidence on a real GPU, and its refusal without one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sparsity_roofline.bench.evidence import ladder


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ladder.main([str(tmp_path / "x.csv")]) == 6
    assert capsys.readouterr().err.startswith("error: cupti-kineto: ")


@pytest.mark.gpu
def test_timers_agree_on_hot_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUPTI and a graph within 5 % or 1 us of one another; events never below CUPTI."""
    cells = [cell for cell in ladder.prepared_cells() if "4096x4096x2048" in cell.name]
    monkeypatch.setattr(ladder, "prepared_cells", lambda: cells[:2])
    for row in ladder.ladder()[1:]:
        cupti, graph, events = (float(row[f"{t} hot us"]) for t in ("cupti-kineto", "cuda-graph", "cuda-events"))
        assert abs(graph - cupti) <= max(0.05 * cupti, 1.0)
        assert events >= cupti * 0.97
