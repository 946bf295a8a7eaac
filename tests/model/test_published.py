"""Figures that were worked out or published elsewhere and that the model must reproduce."""

from __future__ import annotations

import csv
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from sparsity_roofline.model import hardware, networks, roofline
from sparsity_roofline.model.cost import CostOptions
from sparsity_roofline.model.table import CaseTable


@pytest.mark.parametrize(
    ("device", "dtype", "percent"),
    [
        ("a100", "fp16", 93.75),
        ("a100", "tf32", 87.5),
        ("h100", "fp16", 93.2),
        ("h100", "tf32", 86.5),
        ("v100", "fp16", 87.4),
        ("mi300x", "fp16", 87.5),
        ("h100", "fp32", 0.0),
    ],
)
def test_break_even_of_csr_on_cuda_cores(device: str, dtype: str, percent: float) -> None:
    """Compute-bound, CSR on CUDA cores meets dense on tensor cores at 1 - P_cuda / P_tensor."""
    # Sides of 2^20: traffic is nothing beside the work, so the speedup is that of the operations alone.
    side = 2**20
    at = 1 - percent / 100
    nnz = [int(side * side * d) for d in (at * 0.99, at, min(at * 1.01, 1.0))]
    table = CaseTable.from_columns(M=side, K=side, N=side, format="csr", dtype=dtype, nnz=nnz)
    p = roofline.predict(table, hardware.datasheet(device), "unit", unit="cuda")
    assert set(p.bound) == set(p.bound_dense) == {"compute"}
    assert p.speedup[1] == pytest.approx(1, rel=0.008)
    assert p.speedup[0] > p.speedup[1] >= p.speedup[2]


@pytest.mark.parametrize(
    ("columns", "options", "per_element"),
    [
        ({"format": "dense"}, CostOptions(), 2),
        ({"format": "csr"}, CostOptions(), 6 * 0.5),
        ({"format": "csr"}, CostOptions(index_bytes=2), 4 * 0.5),
        ({"format": "bitmap"}, CostOptions(), 2 * 0.5 + 1 / 8),
        ({"format": "nm", "n": 2, "m": 4}, CostOptions(), 1.125),
        ({"format": "nm", "n": 2, "m": 4, "dtype": "int8"}, CostOptions(), 0.625),
    ],
)
def test_weight_bytes_per_dense_element(columns: dict[str, object], options: CostOptions, per_element: float) -> None:
    side = 2**14
    table = CaseTable.from_columns(**{"M": side, "K": side, "N": 1, "dtype": "fp16", "nnz": side**2 // 2, **columns})
    p = roofline.predict(table, hardware.datasheet("h100"), options=options)
    weight = p.bytes[0] - 2 * 2 * side if table.dtype[0] == "fp16" else p.bytes[0] - 2 * side
    # Row offsets are all that is left beside the elements.
    assert weight / side**2 == pytest.approx(per_element, abs=3e-4)


@pytest.mark.parametrize(("dtype", "speedup"), [("fp16", 1.78), ("bf16", 1.78), ("int8", 1.6), ("fp8", 1.6)])
def test_two_four_ceiling_when_memory_bound(dtype: str, speedup: float) -> None:
    table = CaseTable.from_columns(M=16384, K=16384, N=1, format="nm", dtype=dtype, n=2, m=4)
    p = roofline.predict(table, hardware.datasheet("h100"))
    assert (p.bound[0], p.bound_dense[0]) == ("memory", "memory")
    assert p.speedup[0] == pytest.approx(speedup, abs=0.005)


@pytest.mark.parametrize(
    ("index_bytes", "format", "break_even"), [(4, "csr", 2 / 3), (2, "csr", 1 / 2), (4, "bitmap", 1 / 16)]
)
def test_break_even_when_memory_bound(index_bytes: int, format: str, break_even: float) -> None:
    side = 2**15
    below, above = (int(side * side * (1 - break_even) * x) for x in (0.995, 1.005))
    table = CaseTable.from_columns(M=side, K=side, N=1, format=format, dtype="fp16", nnz=[below, above])
    p = roofline.predict(table, hardware.datasheet("h100"), options=CostOptions(index_bytes=index_bytes))
    assert p.speedup[0] > 1 > p.speedup[1]


@pytest.mark.parametrize(("M", "K", "microseconds"), [(4096, 4096, 10.0), (1024, 4096, 2.5), (14336, 4096, 35.1)])
def test_llama_decode_on_h100(M: int, K: int, microseconds: float) -> None:
    table = CaseTable.from_columns(M=M, K=K, N=1, format="dense", dtype="bf16")
    p = roofline.predict(table, hardware.datasheet("H100 SXM"))
    assert p.sol_s[0] * 1e6 == pytest.approx(microseconds, abs=0.05)


def test_llama_is_memory_bound_in_decode_and_compute_bound_in_prefill() -> None:
    layers = networks.load("llama3_8b")
    for tokens, bound in ((1, "memory"), (16, "memory"), (2048, "compute")):
        s = networks.shapes(layers, tokens)
        table = CaseTable.from_columns(M=s["M"], K=s["K"], N=s["N"], format="dense", dtype="bf16")
        p = roofline.predict(table, hardware.datasheet("h100"))
        assert set(p.bound) == {bound}, tokens


def test_vit_with_block_sparse_mlps() -> None:
    """ViT-B/16, batch 256, FP32, A100, MLPs 80 % sparse in 64 x 64 blocks: 461 ms and 227 ms, a speedup of 2.03."""
    layers = networks.load("deit_base")
    s = networks.shapes(layers, 256)
    mlp = np.array([".mlp." in layer.layer for layer in layers])
    blocks = np.where(mlp, s["M"] // 64 * (s["K"] // 64), 0)
    table = CaseTable.from_columns(
        M=s["M"], K=s["K"], N=s["N"], format=np.where(mlp, "bsr", "dense"), dtype="fp32",
        block_rows=64 * mlp, block_cols=64 * mlp, stored_blocks=np.round(blocks * 0.2).astype(int),
    )  # fmt: skip
    p = roofline.predict(table, hardware.datasheet("a100"))
    work = roofline.totals(p, s["times"])
    assert work.flops_dense == pytest.approx(8.99e12, rel=1e-3)
    assert work.sol_dense_s * 1e3 == pytest.approx(461, abs=0.5)
    assert work.sol_s * 1e3 == pytest.approx(227, abs=0.5)
    assert work.speedup == pytest.approx(2.03, abs=0.005)
    # The identity: the error of the prediction is the parity of the fractions, whatever was measured.
    f_dense, f_sparse = work.sol_dense_s / 0.5321, work.sol_s / 0.3939
    assert (f_dense, f_sparse) == pytest.approx((0.87, 0.58), abs=0.005)
    assert np.log(532.1 / 393.9 / work.speedup) == pytest.approx(-0.41, abs=0.005)
    assert np.log(f_sparse / f_dense) == pytest.approx(np.log(532.1 / 393.9 / work.speedup), rel=1e-12)
    share = work.flops_dense - roofline.totals(p, s["times"] * ~mlp).flops_dense
    assert share / work.flops_dense == pytest.approx(0.635, abs=0.001)
    only_mlps = 1 / (1 - share / work.flops_dense)
    assert only_mlps == pytest.approx(2.74, abs=0.005)


@pytest.mark.parametrize(("device", "im2col", "real"), [("h100", 2.60, 1.93), ("A100-SXM4-80GB", 4.94, 4.20)])
def test_resnet50_with_real_and_with_im2col_inputs(device: str, im2col: float, real: float) -> None:
    """Sums of layer bounds in milliseconds, FP16, batch 128."""
    s = networks.shapes(networks.load("resnet50"), 128)
    table = CaseTable.from_columns(M=s["M"], K=s["K"], N=s["N"], format="dense", dtype="fp16")
    for choice, expected in (("im2col", im2col), ("real", real)):
        options = CostOptions(conv_input=choice)  # type: ignore[arg-type]
        p = roofline.predict(table, hardware.datasheet(device), options=options, conv_input=s["conv_input"])
        assert roofline.totals(p, s["times"]).sol_s * 1e3 == pytest.approx(expected, abs=0.005)


# SlideSparse's shapes, worked by hand: (device, M, K, N, bytes dense, bytes 2:4); BF16.
SLIDE = [
    # 2560*2560 weights, 2 * 64 * 2560 elements of X and Y together
    ("A100-PCIe-80GB", 2560, 2560, 64, 2 * (6553600 + 327680), 7372800 + 655360),
    ("H100-PCIe-80GB", 2560, 6912, 128, 2 * (17694720 + 1212416), 19906560 + 2424832),
]


@pytest.mark.parametrize(("device", "M", "K", "N", "dense", "sparse"), SLIDE)
def test_two_four_linear_layers(device: str, M: int, K: int, N: int, dense: int, sparse: int) -> None:
    ceilings = hardware.datasheet(device)
    table = CaseTable.from_columns(M=M, K=K, N=N, format="nm", dtype="bf16", n=2, m=4)
    p = roofline.predict(table, ceilings)
    assert (p.bytes_dense[0], p.bytes[0]) == (dense, sparse)
    limits = [max(2 * M * N * K / s / ceilings.peak("bf16", "tensor"), b / ceilings.dram_bandwidth)
              for s, b in ((1, dense), (2, sparse))]  # fmt: skip
    assert p.speedup[0] == pytest.approx(limits[0] / limits[1], rel=1e-12)


def slidesparse() -> dict[str, np.ndarray]:
    folder = os.environ.get("SPARSITY_ROOFLINE_SHARED_DATA")
    if not folder:
        pytest.skip("set SPARSITY_ROOFLINE_SHARED_DATA to the folder of slidesparse_2to4.csv to run this check")
    path = Path(folder) / "slidesparse_2to4.csv"
    if not path.exists():
        pytest.skip(f"no {path.name} in SPARSITY_ROOFLINE_SHARED_DATA")
    data = path.read_bytes()
    assert hashlib.sha256(data).hexdigest().startswith("fb4294b65cb38401")
    lines = list(csv.DictReader(data.decode().splitlines()))
    return {name: np.array([line[name] for line in lines]) for name in lines[0]}


@pytest.mark.parametrize(
    ("gpu", "dtype", "tokens", "n", "figures", "mape", "faster"),
    [
        # f dense, f sparse, predicted, measured, measured / predicted, its 95 % limits of agreement
        ("A100", "bf16", (0, 10**9), 223, (0.61, 0.45, 1.93, 1.43, 0.74, 0.56, 0.98), 37, 214),
        ("A100", "bf16", (1024, 10**9), 139, (0.71, 0.53, 2.00, 1.50, 0.75, 0.58, 0.97), 34, 139),
        ("A100", "int8", (0, 10**9), 223, (0.49, 0.45, 1.91, 1.75, 0.92, 0.66, 1.28), 15, 222),
        ("A100", "int8", (1024, 10**9), 139, (0.56, 0.56, 2.00, 1.97, 0.99, 0.80, 1.21), 7, 139),
        ("H100", "bf16", (0, 10**9), 153, (0.60, 0.41, 1.83, 1.23, 0.67, 0.41, 1.09), 55, 120),
        ("H100", "bf16", (1024, 10**9), 85, (0.59, 0.44, 1.98, 1.49, 0.75, 0.58, 0.97), 35, 81),
        ("H100", "bf16", (0, 1024), 68, (0.62, 0.36, 1.65, 0.96, 0.58, 0.33, 1.03), 80, 39),
    ],
)
def test_slidesparse_table(
    gpu: str, dtype: str, tokens: tuple[int, int], n: int, figures: tuple[float, ...], mape: float, faster: int
) -> None:
    """599 published 2:4 latencies against the plain model; the table states two digits."""
    data = slidesparse()
    count = data["tokens"].astype(np.int64)
    rows = np.char.find(data["gpu"], gpu) >= 0
    rows &= (data["dtype"] == dtype) & (count >= tokens[0]) & (count < tokens[1])
    assert rows.sum() == n
    table = CaseTable.from_columns(
        M=data["out_features"][rows].astype(np.int64), K=data["in_features"][rows].astype(np.int64), N=count[rows],
        format="nm", dtype=dtype, n=2, m=4,
    )  # fmt: skip
    name = hardware.match(str(data["gpu"][rows][0]))
    assert name is not None
    # The INT8 GEMM writes INT32, its 2:4 counterpart BF16.
    wide, narrow = (CostOptions(output_bytes_each=b) for b in (4, 2)) if dtype == "int8" else (CostOptions(),) * 2
    p = roofline.predict(table, hardware.datasheet(name), options=narrow, dense_options=wide)
    dense, sparse = (data[c][rows].astype(float) * 1e-6 for c in ("dense_us", "sparse_2to4_us"))
    error = np.log(dense / sparse / p.speedup)
    spread = 1.96 * error.std(ddof=1)
    found = [np.log(p.sol_dense_s / dense).mean(), np.log(p.sol_s / sparse).mean(), np.log(p.speedup).mean(),
             np.log(dense / sparse).mean(), error.mean(), error.mean() - spread, error.mean() + spread]  # fmt: skip
    assert np.exp(found) == pytest.approx(figures, abs=0.0075)
    assert 100 * np.mean(np.abs(np.exp(-error) - 1)) == pytest.approx(mape, abs=0.75)
    assert np.sum(dense > sparse) == faster
