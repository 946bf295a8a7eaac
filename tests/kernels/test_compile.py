"""What the Triton kernels become on an H100, seen by compiling them for sm_90: no GPU is needed for that."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed"),
    pytest.mark.skipif(
        platform.machine() not in ("x86_64", "aarch64"), reason="Triton's wheel brings no assembler here"
    ),
]

HERE = Path(__file__).parent
SHARED_LIMIT = 227 * 1024


@pytest.fixture(scope="module")
def variants(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    env["TRITON_CACHE_DIR"] = str(tmp_path_factory.mktemp("triton"))
    script = [sys.executable, str(HERE / "compile_for_hopper.py")]
    run = subprocess.run(script, env=env, cwd=HERE.parents[1], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-4000:]
    return [json.loads(line) for line in run.stdout.splitlines()]


def test_every_variant_fits_and_nothing_spills(variants: list[dict[str, Any]]) -> None:
    assert len(variants) > 40
    for row in variants:
        assert row["shared"] <= SHARED_LIMIT, row
        assert row["stack"] == 0, row


def test_units_are_what_the_kernels_declare(variants: list[dict[str, Any]]) -> None:
    from sparsity_roofline.kernels.registry import load_kernels

    kernels = load_kernels()
    for row in variants:
        unit = kernels[row["kernel"]].unit(row["dtype"], "cuda")
        assert row["mma"] == (unit == "tensor"), row


def test_wide_sixteen_bit_products_reach_warpgroup_instructions(variants: list[dict[str, Any]]) -> None:
    for row in variants:
        if row["kernel"] != "csr.triton" and row["dtype"] == "fp16" and row["N"] >= 48:
            assert row["wgmma"], row


def test_aligned_operands_are_loaded_in_wide_words(variants: list[dict[str, Any]]) -> None:
    for row in variants:
        if row["N"] % 16 == 0 and row["pattern"] not in ("block3x5", "4:8", "unstructured"):
            assert row["narrow_loads"] == 0, row
        if row["kernel"] == "dense.triton":
            assert row["tma"] == (row["N"] % 16 == 0), row
