"""From which block size and density on L2 feeds a GPU."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsity_roofline.model import hardware
from sparsity_roofline.model.ceilings import Ceilings
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.promise import least_density, promise, share_kept
from sparsity_roofline.model.terms.constants import device_constants

H100 = hardware.datasheet("h100")


def test_half_fed_alone_and_more_than_fed_together() -> None:
    # 1 / 0.5 = 2, 1 / 1.25 = 0.8: (2 - 1) / (2 - 0.8)
    assert least_density(0.5, 1.25) == pytest.approx(1 / 1.2)
    assert least_density(1.1, 1.5) == 0.0
    assert math.isnan(least_density(0.3, 0.9))


def test_an_h100_feeds_small_blocks_at_no_density() -> None:
    found = {r: promise(H100, r) for r in (16, 32, 64, 128)}
    rate = device_constants(H100).l2_bandwidth
    for r, one in found.items():  # 2 r 256 operations for (r + 256) 2 bytes
        assert one.of_printed == pytest.approx(r * 256 / (r + 256) * rate / 989.5e12)
    assert 7e12 < rate < 9e12
    assert all(math.isnan(found[r].density) for r in (16, 32, 64))
    assert 0 < found[128].density < 0.5
    assert found[16].measured
    assert not promise(hardware.datasheet("b200"), 64).measured


@given(st.sampled_from(["h100", "h200", "a100", "b200", "l40s"]), st.integers(1, 512), st.integers(1, 512))
def test_taller_blocks_keep_more(gpu: str, one: int, other: int) -> None:
    low, high = (promise(hardware.datasheet(gpu), r) for r in sorted((one, other)))
    assert low.unshared <= high.unshared <= high.shared * (1 + 1e-12)


def test_at_the_least_density_the_peak_is_just_fed() -> None:
    at = promise(H100, 128)
    below, there, above = share_kept(H100, 128, np.asarray([at.density / 2, at.density, 1.0]))
    assert below < 1.0
    assert there == pytest.approx(1.0)
    assert above == 1.0


def test_a_cpu_is_refused() -> None:
    cpu = Ceilings("a CPU", "measured", {"fp32_flops": 1e11}, 1e10)
    with pytest.raises(UserError, match="a CPU has none"):
        promise(cpu, 64)
    with pytest.raises(UserError, match="at least 1"):
        promise(H100, 0)
    with pytest.raises(UserError, match="fp8"):
        promise(replace(H100, peaks={"fp16_flops": 1e15}), 64, dtype="fp8")
