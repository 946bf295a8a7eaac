"""Triton kernels on the CPU: the tests of ``test_correct.py`` in a process in which Triton interprets them.

A process of its own, because Triton decides at its first import whether it interprets, and no other test should see
kernels that run but must never be timed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
def test_triton_kernels_in_the_interpreter() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU: test_correct.py has run them there")
    env = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", str(HERE / "test_correct.py"), "-q", "-k", "triton and cpu"]
    run = subprocess.run(
        [*command, "-p", "no:cacheprovider"], env=env, cwd=HERE.parents[1], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
    passed = re.search(r"(\d+) passed", run.stdout)
    assert passed, run.stdout[-2000:]
    assert int(passed[1]) >= 180
    assert " skipped" not in run.stdout, run.stdout[-2000:]
