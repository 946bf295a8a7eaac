"""Kernels with planted work: same results, more work, by as much as was asked for."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsity_roofline.bench.evidence import slowed
from sparsity_roofline.kernels.registry import load_kernels
from sparsity_roofline.model.case import Case
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.matrix import Matrix


def random_matrix(M: int, K: int, density: float, seed: int = 0) -> Matrix:
    rng = np.random.default_rng(seed)
    dense = rng.standard_normal((M, K)).astype(np.float32)
    return Matrix.from_dense("w", dense, rng.random((M, K)) < density)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 12), st.integers(1, 40), st.sampled_from([0.0, 0.1, 0.5, 1.0]), st.floats(0, 100))
def test_more_entries_and_the_same_weight(M: int, K: int, density: float, percent: float) -> None:
    matrix = random_matrix(M, K, density)
    more = slowed.with_more_entries(matrix, percent)
    assert np.array_equal(more.to_dense(), matrix.to_dense())
    assert more.nnz >= matrix.nnz
    for row in range(M):
        assert (np.diff(more.indices[more.indptr[row] : more.indptr[row + 1]]) > 0).all()
    if density == 0.1 and percent <= 50 and K >= 40:  # room enough in every row
        assert abs(more.nnz - matrix.nnz * (1 + percent / 100)) <= 1


@pytest.mark.parametrize("percent", [2, 5, 10])
def test_every_row_gets_its_share(percent: int) -> None:
    matrix = random_matrix(64, 1000, 0.1)
    more = slowed.with_more_entries(matrix, percent)
    assert abs(more.row_lengths - matrix.row_lengths * (1 + percent / 100)).max() <= 1.0
    assert more.nnz == pytest.approx(matrix.nnz * (1 + percent / 100), abs=1)


def test_a_run_gets_the_kernels_by_their_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(slowed.VARIABLE, "10")
    kernel = load_kernels(["sparsity_roofline.bench.evidence.slowed"])["csr.slowed"]
    matrix = random_matrix(32, 200, 0.25)
    prepared = kernel.prepare(matrix, Case.of(matrix, 8, "fp32", "csr"), "cpu")
    x, y = torch.randn(200, 8), torch.empty(32, 8)
    prepared.launch(x, y)
    torch.testing.assert_close(y, torch.from_numpy(matrix.to_dense()) @ x, rtol=1e-4, atol=1e-4)
    assert prepared.config["planted_percent"] == 10.0
    assert prepared.config["work_ratio"] == pytest.approx(1.1, abs=1 / matrix.nnz)


@pytest.mark.parametrize("text", ["-1", "101", "nan", "five"])
def test_a_percentage_that_is_none_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(slowed.VARIABLE, text)
    with pytest.raises(UserError, match=slowed.VARIABLE):
        slowed.planted_percent()


INTERPRETED = """
import numpy as np, torch
from sparsity_roofline.bench.evidence import slowed
from sparsity_roofline.model.case import Case
from sparsity_roofline.model.matrix import Matrix
for M, K, N in ((70, 100, 40), (64, 320, 64), (1, 1, 1)):
    w = np.random.default_rng(0).standard_normal((M, K)).astype(np.float32)
    matrix = Matrix.dense("w", w)
    case = Case.of(matrix, N, "fp32", "dense")
    prepared = slowed.DenseSlowed().prepare(matrix, case, "cpu")
    x, y = torch.randn(K, N), torch.full((M, N), float("nan"))
    prepared.launch(x, y)
    torch.testing.assert_close(y, torch.from_numpy(w) @ x, rtol=1e-4, atol=1e-4)
    print(prepared.config["work_ratio"])
"""


def test_the_longer_product_in_tritons_interpreter() -> None:
    env = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", slowed.VARIABLE: "10"}
    run = subprocess.run(
        [sys.executable, "-c", INTERPRETED],
        env=env | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.split() == ["1.0", "1.1", "1.0"]


@pytest.mark.gpu
@pytest.mark.parametrize("percent", ["0", "10"])
def test_both_are_right_on_a_gpu(percent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(slowed.VARIABLE, percent)
    dense = Matrix.dense("w", np.random.default_rng(0).standard_normal((256, 640)).astype(np.float32))
    for kernel, matrix, form in (
        (slowed.DenseSlowed(), dense, "dense"),
        (slowed.CsrSlowed(), random_matrix(256, 640, 0.1), "csr"),
    ):
        prepared = kernel.prepare(matrix, Case.of(matrix, 128, "fp32", form), "cuda")
        x, y = torch.randn(640, 128, device="cuda"), torch.empty(256, 128, device="cuda")
        prepared.launch(x, y)
        wanted = torch.from_numpy(matrix.dense_operand()).double() @ x.cpu().double()
        torch.testing.assert_close(y.cpu().double(), wanted, rtol=1e-4, atol=1e-3)
