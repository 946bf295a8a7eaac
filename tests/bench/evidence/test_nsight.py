"""The comparison with Nsight Compute, on a table as ncu prints it."""

from __future__ import annotations

import pytest

from sparsity_roofline.bench.evidence.agreement import within
from sparsity_roofline.bench.evidence.nsight import compare, parse
from sparsity_roofline.model.errors import UserError

RANGE = '"thread Domain:Push/Pop_Range:PL_Type:PL_Value:CLR_Type:Color:Msg_Type:Msg"'
NTH = '"533  ""<default domain>:cell 0 0:none:none:none:none:none:none"" "'
TABLE = f"""==PROF== Connected to process 1
==PROF== Profiling "kernel": 0%....50%....100% - 1 pass
"ID","Process ID","Kernel Name",{RANGE},"Metric Name","Metric Unit","Metric Value"
"0","1","neg",{NTH},"gpu__time_duration.sum","nsecond","2,304"
"1","1","gemm","1 ""<default domain>"" ""cell 1 0"" none none","gpu__time_duration.sum","usecond","20.50"
"2","1","reduce","1 ""<default domain>"" ""cell 1 0"" none none","gpu__time_duration.sum","usecond","2.00"
"3","1","gemm","1 ""<default domain>"" ""cell 1 1"" none none","gpu__time_duration.sum","msecond","0.0231"
"4","1","gemm","1 ""<default domain>"" ""cell 1 1"" none none","sm__cycles.sum","cycle","5"
"""


def test_kernels_of_one_call_are_added_and_units_read() -> None:
    assert parse(TABLE) == {(0, 0): (2304.0, 1), (1, 0): (22500.0, 2), (1, 1): (pytest.approx(23100.0), 1)}


def test_refused_counters_are_one_line() -> None:
    with pytest.raises(UserError, match="ERR_NVGPUCTRPERM") as caught:
        parse("==PROF== Connected\n==ERROR== ERR_NVGPUCTRPERM - no permission\n")
    assert caught.value.exit_code == 6


def test_the_constant_of_an_empty_kernel_is_taken_off() -> None:
    ours = {"one element": 1000.0, "gemm": 20000.0, "two kernels": 8000.0}
    rows = compare(ours, {"one element": (2500.0, 1), "gemm": (22100.0, 1), "two kernels": (11000.0, 2)})
    assert rows[1]["constant_us"] == pytest.approx(1.5)
    assert rows[1]["difference_us"] == pytest.approx(0.6)
    assert rows[1]["difference_share"] == pytest.approx(0.03)
    assert rows[2]["difference_us"] == pytest.approx(0.0)  # the constant of both kernels
    assert [within(row) for row in rows] == [True, True, True]
    assert not within({**rows[1], "ours_us": 19.0})
