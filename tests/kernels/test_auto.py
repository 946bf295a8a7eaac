"""The choice among kernels: the nearest measured cells decide, and only kernels that take the case are chosen."""

from __future__ import annotations

import math

import pytest

from sparsity_roofline.kernels.auto import choose as rule
from sparsity_roofline.kernels.auto.choose import Cell, choose, features, of_case, read
from sparsity_roofline.kernels.auto.kernels import Auto, Chosen
from sparsity_roofline.kernels.registry import load_kernels
from sparsity_roofline.model.expect import expected_case
from sparsity_roofline.model.pattern import Pattern


def case(N: int, density: float = 0.25, pattern: str = "unstructured", M: int = 1024):  # type: ignore[no-untyped-def]
    return expected_case(M, 1024, N, Pattern.parse(pattern), 1 - density, "fp16")


CELLS = [
    Cell(features(1024, 1024, 16, 0.25, 1), {"small": 0.0, "large": 1.0}, (1024, 1024)),
    Cell(features(1024, 1024, 4096, 0.25, 1), {"small": 2.0, "large": 0.0}, (1024, 1024)),
]


@pytest.mark.parametrize(("N", "name"), [(8, "small"), (16, "small"), (32, "small"), (2048, "large"), (16384, "large")])
def test_the_nearest_cell_decides(N: int, name: str) -> None:
    assert choose(case(N), ["large", "small"], CELLS) == name


def test_a_kernel_nobody_measured_is_not_preferred_to_one_that_was_good() -> None:
    assert choose(case(16), ["unknown", "small"], CELLS) == "small"
    assert choose(case(16), ["unknown", "large"], CELLS) == "unknown"  # 1.5 times slower beats e times slower


def test_without_cells_the_first_candidate_is_taken() -> None:
    assert choose(case(16), ["a", "b"], []) == "a"


def test_features_of_a_case_count_what_is_stored() -> None:
    block = expected_case(1024, 1024, 64, Pattern.parse("block32"), 0.75, "fp16")
    assert of_case(block) == pytest.approx((10, 10, 6, -2, 5))
    nm = expected_case(1024, 1024, 64, Pattern.parse("2:4"), 0.5, "fp16")
    assert of_case(nm) == pytest.approx((10, 10, 6, -1, 0))


def test_the_table_that_comes_with_the_package_is_sound() -> None:
    kernels = load_kernels()
    for format in ("csr", "bsr", "nm", "dense"):
        for dtype in ("fp16", "fp32") if format != "nm" else ("fp16",):
            cells = rule.measured(format, dtype)
            assert len(cells) >= 10
            for cell in cells:
                assert min(cell.loss.values()) == 0
                assert all(math.isfinite(loss) for loss in cell.loss.values())
                assert all(kernels[name].format == format for name in cell.loss)
    assert rule.measured("bsr", "bf16")


def test_a_table_is_read_cell_by_cell() -> None:
    lines = [",".join(rule.COLUMNS), "bsr,fp16,64,64,8,0.5,16,bsr.a,1.0", "bsr,fp16,64,64,8,0.5,16,bsr.b,2.0"]
    found = read(lines)
    assert list(found) == [("bsr", "fp16")]
    (cell,) = found["bsr", "fp16"]
    assert cell.loss == {"bsr.a": 0.0, "bsr.b": pytest.approx(math.log(2))}
    assert cell.shape == (64, 64)


def test_the_auto_kernels_are_registered_and_say_why_they_cannot_run_here() -> None:
    kernels = load_kernels()
    for format in ("dense", "csr", "bsr", "nm"):
        auto = kernels[f"{format}.auto"]
        assert isinstance(auto, Auto)
        assert not auto.ours
        assert "runs on cuda only" in auto.available("cpu").reason
    assert "multiplies csr, not bsr" in kernels["csr.auto"].supports(case(16, pattern="block16"), "cuda").reason


def test_what_was_chosen_is_in_the_configuration() -> None:
    class Prepared:
        def __init__(self) -> None:
            self.config = {"BM": 4}

        def launch(self, x, y):  # type: ignore[no-untyped-def]
            raise AssertionError

    assert Chosen("csr.fast", Prepared()).config == {"chosen": "csr.fast", "BM": 4}


@pytest.mark.gpu
@pytest.mark.parametrize("pattern", ["unstructured", "block32", "2:4", "dense"])
@pytest.mark.parametrize("N", [1, 16, 300])
def test_what_is_chosen_runs_and_is_correct(pattern: str, N: int) -> None:
    import torch

    from sparsity_roofline.bench import inputs
    from sparsity_roofline.bench.matrices import synthetic
    from sparsity_roofline.kernels.reference import check, oracle
    from sparsity_roofline.model.case import Case

    matrix = synthetic((256, 384), pattern, None if pattern in ("2:4",) else 0.75)
    if pattern == "dense":
        matrix = inputs.dense_weight(256, 384, 0)
    asked = Case.of(matrix, N, "fp16")
    auto = load_kernels()[f"{asked.format}.auto"]
    assert auto.supports(asked, "cuda")
    prepared = auto.prepare(matrix, asked, "cuda")
    x, y = inputs.make_x(asked, "cuda"), inputs.make_y(asked, "cuda")
    prepared.launch(x, y)
    torch.cuda.synchronize()
    assert check(y, oracle(matrix, x, "fp16", format=asked.format), "fp16", 384).ok
    assert load_kernels()[prepared.config["chosen"]].format == asked.format
