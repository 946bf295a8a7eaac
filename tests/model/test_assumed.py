"""Hardware nobody has built: a TOML file, or a known device with figures changed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsity_roofline.model import hardware
from sparsity_roofline.model.assumed import change, find, read
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.roofline import predict
from sparsity_roofline.model.table import CaseTable

H100 = hardware.datasheet("h100")


def test_a_known_device_with_figures_changed() -> None:
    found = change(H100, {"dram_bandwidth": "8e12", "fp16_flops": "x2", "fp16_flops@2:4": 4e15, "sm_count": 200})
    assert found.kind == "assumed"
    assert found.device == (
        "H100-SXM5-80GB with dram_bandwidth=8e12, fp16_flops=x2, fp16_flops@2:4=4000000000000000.0, sm_count=200"
    )
    assert found.dram_bandwidth == 8e12
    assert found.peaks["fp16_flops"] == 2 * H100.peaks["fp16_flops"]
    assert found.peaks["fp16_flops@2:4"] == 4e15
    assert found.peaks["int8_ops"] == H100.peaks["int8_ops"]
    assert (found.sm_count, found.l2_bytes) == (200, H100.l2_bytes)
    assert found.identity != H100.identity


def test_a_device_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "new.toml"
    path.write_text('name = "new"\ndram_bandwidth = 1e12\nsm_count = 1\n[peaks]\nfp16_flops = 1e14\n')
    found = find(str(path))
    assert (found.device, found.kind, found.dram_bandwidth) == ("new", "assumed", 1e12)
    # 2 * 1000^3 / 1e14 s is more than 6e6 B / 1e12 B/s
    table = CaseTable.from_columns(M=1000, K=1000, N=1000, format="dense", dtype="fp16")
    p = predict(table, found)
    assert p.sol_s[0] == pytest.approx(2e9 / 1e14)
    assert (p.bound[0], p.ceilings_kind) == ("compute", "assumed")
    path.write_text('like = "a100"\nl2_bytes = "x2"\n')
    like = read(path)
    assert (like.device, like.l2_bytes) == ("new", 2 * hardware.datasheet("a100").l2_bytes)
    assert find("A100") == hardware.datasheet("a100")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("dram_bandwidth = 1e12\n", "at least one peak"),
        ("[peaks]\nfp16_flops = 1e14\n", "dram_bandwidth"),
        ('like = "abacus"\n', "abacus"),
        ('like = "h100"\ncolour = 1\n', "no figure 'colour'"),
        ('like = "h100"\ndram_bandwidth = "fast"\n', "base units"),
        ('like = "h100"\ndram_bandwidth = -1\n', "positive"),
        ('like = "h100"\ndram_bandwidth = true\n', "base units"),
        ('like = "h100"\nl2_bandwidth = "x2"\n', "nothing|no figure to multiply"),
        ("peaks = 3\n", "must be a table"),
        ("like = ", "new.toml"),
    ],
)
def test_files_that_describe_no_device(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "new.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=said):
        read(path)


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(UserError, match="cannot read"):
        find("nowhere.toml")


shapes = st.tuples(st.integers(1, 9000), st.integers(1, 9000), st.integers(1, 10**6))


@given(shapes, st.floats(1, 50), st.floats(1, 50), st.sampled_from(["csr", "dense"]))
def test_more_bandwidth_or_peak_never_takes_longer(
    shape: tuple[int, int, int], bandwidth: float, peak: float, format: str
) -> None:
    M, K, N = shape
    table = CaseTable.from_columns(M=M, K=K, N=N, format=format, dtype="fp16", nnz=M * K // 3)
    base = predict(table, H100).sol_s[0]
    wide = predict(table, change(H100, {"dram_bandwidth": f"x{bandwidth}"})).sol_s[0]
    fast = predict(table, change(H100, {"fp16_flops": f"x{peak}"})).sol_s[0]
    both = predict(table, change(H100, {"dram_bandwidth": f"x{bandwidth}", "fp16_flops": f"x{peak}"})).sol_s[0]
    assert both <= min(wide, fast) <= max(wide, fast) <= base
    assert wide >= base / bandwidth * (1 - 1e-12)
