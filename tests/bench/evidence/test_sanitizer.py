"""compute-sanitizer over our kernels: its cases, its summaries, its absence."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from sparsity_roofline.bench.evidence import sanitizer
from sparsity_roofline.kernels.registry import load_kernels


@pytest.mark.parametrize(
    ("text", "errors"),
    [
        ("========= ERROR SUMMARY: 0 errors", 0),
        ("========= Invalid __global__ write\n========= ERROR SUMMARY: 12 errors", 12),
        ("========= RACECHECK SUMMARY: 3 hazards displayed (3 errors, 0 warnings)", 3),
        ("Traceback", None),
    ],
)
def test_summaries(text: str, errors: int | None) -> None:
    assert sanitizer.errors_in(text) == errors


def test_every_kernel_of_ours_has_cases_that_can_be_opened() -> None:
    ours = [kernel for kernel in load_kernels().values() if kernel.ours]
    assert len(ours) >= 10
    for kernel in ours:
        cases = [target.load()[1] for target in sanitizer.targets(kernel.name, kernel.format, kernel.dtypes[0])]
        assert {case.format for case in cases} == {kernel.format}
        assert any(case.M % 64 for case in cases)
        assert any(not case.M % 64 for case in cases)


def test_a_kernel_that_errs_is_in_the_table_and_in_the_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "compute-sanitizer"
    program.write_text(
        '#!/bin/sh\necho "========= COMPUTE-SANITIZER"\necho "========= Invalid __global__ read of size 4"\n'
        'echo "CASES 2"\necho "========= ERROR SUMMARY: 1 error"\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    row = sanitizer.watch("bsr.triton", "memcheck")
    assert row == {
        "kernel": "bsr.triton", "tool": "memcheck", "cases": 2, "errors": 1,
        "said": "Invalid __global__ read of size 4",
    }  # fmt: skip


def test_without_the_program_it_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert sanitizer.main([str(tmp_path / "out.csv")]) == 6
    assert "compute-sanitizer is not on the PATH" in capsys.readouterr().err
    assert sanitizer.main([]) == 2
