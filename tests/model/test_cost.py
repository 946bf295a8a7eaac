"""Operations and bytes: against hand-worked figures, against SciPy's own arrays, against Python integers."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from sparsity_roofline.model.case import Case
from sparsity_roofline.model.cost import PRESETS, CostOptions, choice_bits, cost, nm_metadata_bits, preset
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.matrix import Matrix
from sparsity_roofline.model.pattern import Pattern
from sparsity_roofline.model.table import CaseTable

PAPER = PRESETS["paper"]


def one(options: CostOptions = PAPER, /, **columns: Any) -> tuple[float, float, float, float]:
    """(operations, weight, input, output bytes) of a single row."""
    c = cost(CaseTable.from_columns(**columns), options)
    assert len(c.flops) == 1
    return float(c.flops[0]), float(c.weight_bytes[0]), float(c.input_bytes[0]), float(c.output_bytes[0])


def random_weight(M: int, K: int, density: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((M, K)) * (rng.random((M, K)) < density)).astype(np.float32)


# Hand-worked, with small numbers: M = 6, K = 8, N = 5, fp16 unless said.
@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        # 2*6*8*5; 2*48; 2*40; 2*30
        ({"format": "dense", "dtype": "fp16"}, (480, 96, 80, 60)),
        ({"format": "dense", "dtype": "fp32"}, (480, 192, 160, 120)),
        ({"format": "dense", "dtype": "int8"}, (480, 48, 40, 30)),
        # 2*7*5; (2+4)*7 + 4*7
        ({"format": "csr", "dtype": "fp16", "nnz": 7}, (70, 70, 80, 60)),
        ({"format": "csr", "dtype": "fp16", "nnz": 0}, (0, 28, 80, 60)),
        # three 4x3 blocks: 2*36*5; 2*36 + 4*3 + 4*(ceil(6/4)+1)
        ({"format": "bsr", "dtype": "fp16", "stored_blocks": 3, "block_rows": 4, "block_cols": 3}, (360, 96, 80, 60)),
        # 2:4: 2*24*5; 2*24 + 48/8
        ({"format": "nm", "dtype": "fp16", "n": 2, "m": 4}, (240, 54, 80, 60)),
        # 1:4, two bits per kept element: 2*12*5; 2*12 + 12*2/8
        ({"format": "nm", "dtype": "fp16", "n": 1, "m": 4}, (120, 27, 80, 60)),
        # 1:2 in 32-bit types: 2*24*5; 4*24 + 24 pairs * 4 bits
        ({"format": "nm", "dtype": "tf32", "n": 1, "m": 2}, (240, 108, 160, 120)),
        # 2*7*5; 2*7 + 48/8
        ({"format": "bitmap", "dtype": "fp16", "nnz": 7}, (70, 20, 80, 60)),
    ],
)
def test_hand_worked(columns: dict[str, Any], expected: tuple[float, ...]) -> None:
    assert one(M=6, K=8, N=5, **columns) == expected


def test_ragged_nm_counts_whole_groups() -> None:
    # K = 9 is three groups of four: 6 kept in each of 6 rows; 18 groups of 4 bits.
    flops, weight, *_ = one(M=6, K=9, N=1, format="nm", dtype="fp16", n=2, m=4)
    assert flops == 2 * 36
    assert weight == 2 * 36 + 18 * 4 / 8


@pytest.mark.parametrize(
    ("n", "m", "bytes_each", "index", "combination", "vendor"),
    [
        (2, 4, 2, 4, 3, 4),  # C(4, 2) = 6 needs 3 bits, the hardware stores 4
        (1, 2, 4, 1, 1, 4),
        (1, 2, 2, 1, 1, 1),
        (4, 8, 2, 12, 7, 12),  # C(8, 4) = 70
        (1, 16, 2, 4, 4, 4),
        (3, 5, 2, 9, 4, 9),  # ceil(log2 5) = 3; C(5, 3) = 10
        (4, 4, 2, 8, 0, 8),  # nothing to choose
    ],
)
def test_metadata_bits(n: int, m: int, bytes_each: int, index: int, combination: int, vendor: int) -> None:
    assert nm_metadata_bits(n, m, bytes_each, "index") == index
    assert nm_metadata_bits(n, m, bytes_each, "combination") == combination
    assert nm_metadata_bits(n, m, bytes_each, "vendor_2_4") == vendor


@given(st.integers(1, 64), st.data())
def test_metadata_bits_enumerate_every_choice(m: int, data: st.DataObject) -> None:
    n = data.draw(st.integers(1, m))
    bits = nm_metadata_bits(n, m, 2, "combination")
    assert 2**bits >= math.comb(m, n) > 2 ** (bits - 1) * (bits > 0)
    assert nm_metadata_bits(n, m, 2, "index") >= bits


@pytest.mark.parametrize(("M", "K"), [(1, 1), (17, 33), (64, 64), (5, 200)])
@pytest.mark.parametrize("density", [0.0, 0.05, 0.5, 1.0])
def test_csr_weight_bytes_are_those_of_scipy(M: int, K: int, density: float) -> None:
    dense = random_weight(M, K, density)
    theirs = sp.csr_array(dense)
    held = theirs.data.nbytes + theirs.indices.nbytes + theirs.indptr.nbytes
    assert theirs.indices.dtype == np.int32
    case = Case.of(Matrix.from_dense("w", dense), 3, "fp32")
    c = cost(CaseTable.of([case]), PAPER)
    assert c.weight_bytes[0] == held
    assert c.flops[0] == 2 * theirs.nnz * 3


@pytest.mark.parametrize(("r", "c"), [(4, 4), (2, 8), (16, 1)])
@pytest.mark.parametrize("density", [0.0, 0.05, 1.0])
def test_bsr_weight_bytes_are_those_of_scipy(r: int, c: int, density: float) -> None:
    dense = random_weight(48, 32, density, seed=1)
    theirs = sp.csr_array(dense).tobsr(blocksize=(r, c))
    held = theirs.data.nbytes + theirs.indices.nbytes + theirs.indptr.nbytes
    assert theirs.indices.dtype == np.int32
    matrix = Matrix.from_dense("w", dense, pattern=Pattern("block", r=r, c=c))
    found = cost(CaseTable.of([Case.of(matrix, 7, "fp32")]), PAPER)
    assert found.weight_bytes[0] == held
    assert found.flops[0] == 2 * theirs.data.size * 7


def test_bsr_rounds_up_to_whole_blocks() -> None:
    # 5 x 7 in blocks of 4: 2 x 2 blocks, all stored: more work than dense, and said so.
    flops, weight, *_ = one(
        M=5, K=7, N=1, format="bsr", dtype="fp32", nnz=35, stored_blocks=4, block_rows=4, block_cols=4
    )
    assert flops == 2 * 64
    assert weight == 4 * 64 + 4 * 4 + 4 * 3


@pytest.mark.parametrize("side", [2**21, 2**20 + 1])
def test_huge_products_match_python_integers(side: int) -> None:
    M = K = N = side
    c = cost(CaseTable.from_columns(M=M, K=K, N=N, format=["dense", "csr"], dtype="fp16", nnz=[M * K, M * K]), PAPER)
    assert c.flops[0] == pytest.approx(2 * M * N * K, rel=1e-15)
    assert int(c.flops[0]) > 2**61
    assert c.weight_bytes[1] == pytest.approx(6 * M * K + 4 * (M + 1), rel=1e-15)
    assert c.bytes[0] == pytest.approx(2 * (M * K + K * N + M * N), rel=1e-15)


def test_element_bytes_by_operand() -> None:
    # An INT8 GEMM that writes INT32.
    options = replace(PAPER, output_bytes_each=4)
    assert one(options, M=6, K=8, N=5, format="dense", dtype="int8") == (480, 48, 40, 120)
    options = CostOptions(weight_bytes=0.5, input_bytes=2, output_bytes_each=2)
    assert one(options, M=6, K=8, N=5, format="dense", dtype="int8") == (480, 24, 80, 60)


def test_index_and_pointer_bytes() -> None:
    options = CostOptions(index_bytes=2, pointer_bytes=8)
    assert one(options, M=6, K=8, N=5, format="csr", dtype="fp16", nnz=7)[1] == (2 + 2) * 7 + 8 * 7
    offsets = CostOptions(bitmap_offsets=True)
    assert one(offsets, M=6, K=8, N=5, format="bitmap", dtype="fp16", nnz=7)[1] == 20 + 4 * 7


def test_used_rows_only() -> None:
    options = CostOptions(input_rows="used")
    assert one(options, M=6, K=8, N=5, format="csr", dtype="fp16", nnz=7, used_columns=3)[2] == 2 * 3 * 5
    assert one(options, M=6, K=8, N=5, format="dense", dtype="fp16", used_columns=3)[2] == 2 * 8 * 5


@pytest.mark.parametrize(("l2", "left"), [(0, 60), (59, 1), (60, 0), (1e9, 0)])
def test_output_beyond_l2(l2: float, left: float) -> None:
    table = CaseTable.from_columns(M=6, K=8, N=5, format="dense", dtype="fp16")
    assert cost(table, CostOptions(output_bytes="beyond_l2"), l2_bytes=l2).output_bytes[0] == left


def test_output_none_and_read() -> None:
    assert one(CostOptions(output_bytes="none"), M=6, K=8, N=5, format="dense", dtype="fp16")[3] == 0
    assert one(CostOptions(read_output=True), M=6, K=8, N=5, format="dense", dtype="fp16")[3] == 120


def test_real_convolution_input() -> None:
    table = CaseTable.from_columns(M=[6, 6], K=8, N=5, format="dense", dtype="fp16")
    c = cost(table, CostOptions(conv_input="real"), conv_input=[9, np.nan])
    assert c.input_bytes.tolist() == [18, 80]
    with pytest.raises(UserError, match="needs the input elements"):
        cost(table, CostOptions(conv_input="real"))
    with pytest.raises(UserError, match="one figure per case"):
        cost(table, CostOptions(conv_input="real"), conv_input=[9.0])
    with pytest.raises(UserError, match="exclude each other"):
        CostOptions(conv_input="real", input_rows="used")


def test_full_work_at_the_sparse_peak() -> None:
    full = CostOptions(nm_work="full_at_sparse_peak")
    table = CaseTable.from_columns(
        M=6, K=8, N=5, format="nm", dtype=["fp16", "fp16", "fp16", "fp32"], n=[2, 1, 1, 2], m=[4, 4, 2, 4]
    )
    # 1:4 has no peak of its own, and fp32 does not run on tensor cores: both keep their share of the dense work.
    assert cost(table, full).flops.tolist() == [480, 120, 480, 240]
    assert cost(table, PAPER).flops.tolist() == [240, 120, 240, 240]


@pytest.mark.parametrize(
    "wrong",
    [
        {"index_bytes": 3},
        {"pointer_bytes": 0},
        {"metadata": "none"},
        {"nm_work": "both"},
        {"compute_peak": "gpu"},
        {"output_bytes": "some"},
        {"weight_bytes": 0},
        {"input_bytes": -1},
        {"output_bytes_each": math.nan},
    ],
)
def test_impossible_options_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        CostOptions(**wrong)  # type: ignore[arg-type]


def test_presets() -> None:
    assert list(PRESETS) == ["paper", "unit", "bound"]
    assert preset("paper") == CostOptions()
    assert CostOptions(**PRESETS["bound"].to_dict()) == PRESETS["bound"]
    with pytest.raises(UserError, match="paper, unit, bound"):
        preset("plain")


def test_nothing_to_do() -> None:
    c = cost(CaseTable.of([]), PAPER)
    assert c.flops.shape == c.bytes.shape == (0,)
    flops, weight, x, y = one(M=0, K=8, N=5, format="csr", dtype="fp16", nnz=0)
    assert (flops, weight, x, y) == (0, 4, 80, 0)
    assert cost(CaseTable.from_columns(M=0, K=0, N=0, format="dense", dtype="fp16"), PAPER).intensity[0] == 0


shapes = st.tuples(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 10**6))


@given(shapes, st.sampled_from(["csr", "bitmap"]), st.sampled_from(["fp32", "fp16", "int8"]), st.data())
def test_more_elements_never_cost_less(
    shape: tuple[int, int, int], format: str, dtype: str, data: st.DataObject
) -> None:
    M, K, N = shape
    nnz = sorted(data.draw(st.lists(st.integers(0, M * K), min_size=2, max_size=6)))
    for options in PRESETS.values():
        c = cost(CaseTable.from_columns(M=M, K=K, N=N, format=format, dtype=dtype, nnz=nnz), options)
        assert np.all(np.diff(c.flops) >= 0)
        assert np.all(np.diff(c.bytes) >= 0)


@given(shapes, st.integers(1, 16))
def test_operations_scale_with_every_extent(shape: tuple[int, int, int], times: int) -> None:
    M, K, N = shape
    table = CaseTable.from_columns(
        M=[M, M * times, M, M], K=[K, K, K * times, K], N=[N, N, N, N * times], format="dense", dtype="fp16"
    )
    c = cost(table, PAPER)
    assert np.all(c.flops[1:] == c.flops[0] * times)
    assert c.weight_bytes.tolist() == [2 * M * K, 2 * M * K * times, 2 * M * K * times, 2 * M * K]
    assert c.bytes[0] == 2 * (M * K + K * N + M * N)


@given(shapes, st.floats(0, 1e9))
def test_the_bound_never_exceeds_the_paper(shape: tuple[int, int, int], l2: float) -> None:
    M, K, N = shape
    table = CaseTable.from_columns(
        M=M, K=K, N=N, format=["dense", "csr"], dtype="fp16", nnz=M * K // 3, used_columns=K // 2
    )
    paper, bound = (cost(table, PRESETS[name], l2_bytes=l2) for name in ("paper", "bound"))
    assert np.all(bound.bytes <= paper.bytes)
    assert np.all(bound.flops == paper.flops)


@pytest.mark.parametrize(("of", "chosen"), [(1, 0), (1, 1), (4, 2), (16, 1), (100, 50), (1000, 3), (4096, 1024)])
def test_the_fewest_bits_are_below_the_logarithm_of_the_choices_and_near_it(of: int, chosen: int) -> None:
    exact = math.log2(math.comb(of, chosen))
    bits = float(choice_bits(np.array([float(of)]), np.array([float(chosen)]))[0])
    assert bits <= exact + 1e-9
    assert exact - bits <= 1.0 + 0.01 * exact


def test_least_positions_of_each_format_by_hand() -> None:
    """64 x 64 in fp16: half of the elements need less than a bitmap's 512 bytes, far less than 4-byte indices."""
    options = CostOptions(positions="least")
    table = CaseTable.from_columns(
        M=[64] * 4, K=[64] * 4, N=[8] * 4, nnz=[2048, 2048, 2048, 4096], format=["csr", "bsr", "nm", "dense"],
        dtype=["fp16"] * 4, stored_blocks=[0, 8, 0, 0], block_rows=[0, 16, 0, 0], block_cols=[0, 16, 0, 0],
        n=[0, 0, 2, 0], m=[0, 0, 4, 0], used_columns=[64] * 4,
    )  # fmt: skip
    least = cost(table, options).weight_bytes
    assert 2 * 2048 + 500 < least[0] < 2 * 2048 + 512
    assert 2 * 2048 <= least[1] < 2 * 2048 + 2  # 8 of 16 blocks: log2 12870 = 13.7 bits
    assert least[2] == pytest.approx(2 * 2048 + 64 * 16 * math.log2(6) / 8)
    assert least[3] == 2 * 4096
    stored = cost(table, CostOptions()).weight_bytes
    assert (least <= stored).all()
    assert stored[0] == 6 * 2048 + 4 * 65


def test_the_bound_of_an_unstructured_weight_lies_below_a_bitmap() -> None:
    table = CaseTable.from_columns(M=[14336], K=[4096], N=[16], nnz=[29360128], format=["csr"], dtype=["fp16"],
                                   used_columns=[4096])  # fmt: skip
    bitmap_bytes = 2 * 29360128 + 14336 * 4096 / 8
    assert 0.999 * bitmap_bytes < cost(table, PRESETS["bound"]).weight_bytes[0] <= bitmap_bytes
