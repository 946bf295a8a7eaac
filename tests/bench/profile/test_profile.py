"""The verb ``profile``, its processes and what it says where nothing can be counted."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from sparsity_roofline.bench.profile import analyse, launch, ncu, trace
from sparsity_roofline.bench.profile.target import Target, make_ready
from sparsity_roofline.cli import main
from sparsity_roofline.model import hardware
from sparsity_roofline.model.errors import UserError

BLOCKS = Target(
    "shapes:64x96", "64x96@block16x16@0.5", 8, "fp32", "bsr.scipy", prune=("block16x16",), sparsities=(0.5,)
)


def test_a_target_opens_again_from_its_text() -> None:
    again = Target.from_json(BLOCKS.to_json())
    assert again == BLOCKS
    matrix, case = again.load()
    assert (case.format, case.block_rows, case.M, case.K, case.N) == ("bsr", 16, 64, 96, 8)
    assert case.realised
    assert matrix.nnz == 64 * 96 / 2


def test_a_ready_target_is_correct_on_the_cpu() -> None:
    ready = make_ready(BLOCKS, "cpu")
    assert not bool(ready.y.isnan().any())


def test_unknown_kernels_and_wrong_kernels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no kernel 'bsr\.none'"):
        Target("shapes:64x64", "64x64", 8, "fp32", "bsr.none").load()
    (tmp_path / "own.py").write_text(
        "from sparsity_roofline.kernels.protocol import BaseKernel\n"
        "class Zero(BaseKernel):\n"
        "    name, format, devices, dtypes = 'csr.zero', 'csr', ('cpu',), ('fp32',)\n"
        "    def prepare(self, matrix, case, device, step=None):\n"
        "        class P:\n"
        "            config = {}\n"
        "            def launch(self, x, y):\n"
        "                y.zero_()\n"
        "        return P()\n"
    )
    target = Target(
        "shapes:32x32", "32x32@unstructured@0.5", 4, "fp32", "csr.zero", ("unstructured",), (0.5,),
        extra_kernels=(f"{tmp_path / 'own.py'}:Zero",),
    )  # fmt: skip
    with pytest.raises(UserError, match=r"csr\.zero is wrong on this case") as error:
        make_ready(target, "cpu")
    assert error.value.exit_code == 3


def test_a_refusal_in_the_launched_process_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import io
    import sys

    monkeypatch.setattr(sys, "stdin", io.StringIO(Target("shapes:8x8", "8x8", 4, "fp32", "csr.none").to_json()))
    assert launch.main(["once", str(tmp_path / "out.json")]) == 0
    told = json.loads((tmp_path / "out.json").read_text())
    assert told["exit_code"] == 2
    assert "csr.none" in told["error"]


def fake_ncu(folder: Path, text: str) -> None:
    folder.mkdir()
    program = folder / "ncu"
    program.write_text(f"#!/bin/sh\ncat > /dev/null\necho '{text}'\nexit 1\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("==ERROR== ERR_NVGPUCTRPERM - The user does not have permission", "no permission to read the GPU's"),
        ("==ERROR== Failed to initialize the profiler: LibraryNotLoaded", "the profiler's library does not load here"),
        ("==ERROR== Something new", "counted nothing: Something new"),
        ("", "it said nothing of the reason"),
    ],
)
def test_what_ncu_refuses_is_said_with_a_remedy(
    said: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_ncu(tmp_path / "bin", said)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(ncu, "why_not", lambda: "")
    with pytest.raises(UserError, match=told) as error:
        ncu.count(BLOCKS, tmp_path)
    assert error.value.exit_code == 6


def test_a_report_that_cannot_be_read_does_not_take_the_process_down(tmp_path: Path) -> None:
    (tmp_path / "broken.ncu-rep").write_bytes(b"no report")
    with pytest.raises(UserError, match=r"broken\.ncu-rep: ncu_report cannot read it") as error:
        ncu.read(tmp_path / "broken.ncu-rep")
    assert error.value.exit_code == 6


def test_without_ncu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="ncu is not on the PATH"):
        ncu.count(BLOCKS, tmp_path)


def test_a_trace_gives_the_kernels_in_order() -> None:
    events = [
        {"cat": "kernel", "name": "b", "ts": 20.0, "dur": 2.0, "args": {"registers per thread": 32, "grid": [4, 1, 1]}},
        {"cat": "kernel", "name": "void spin_kernel(long)", "ts": 1.0, "dur": 1.0, "args": {}},
        {"cat": "gpu_memcpy", "name": "copy", "ts": 5.0, "dur": 1.0, "args": {}},
        {"cat": "kernel", "name": "a", "ts": 10.0, "dur": 3.0, "args": {"shared memory": 1024, "block": [128, 1, 1]}},
    ]
    assert trace.read_trace({"traceEvents": events}) == [
        {"name": "a", "time_us": 3.0, "shared_bytes": 1024, "block": [128, 1, 1]},
        {"name": "b", "time_us": 2.0, "registers": 32, "grid": [4, 1, 1]},
    ]


def told(**more: Any) -> dict[str, Any]:
    _, case = BLOCKS.load()
    return {
        "time_ns": 5000.0, "config": {"BM": 16}, "case": case.to_dict(), "device_name": "NVIDIA H100 80GB HBM3",
        "memory_bytes": 85017493504,
        "launches": [{"name": "k", "time_us": 4.9, "grid": [4, 2, 1], "block": [128, 1, 1], "registers": 40}], **more,
    }  # fmt: skip


def test_without_counters_it_says_why_and_tells_what_the_trace_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(analyse, "_timed", lambda target, folder: told())

    def refuse(target: Target, folder: Path) -> None:
        raise UserError("no permission", 6)

    monkeypatch.setattr(ncu, "count", refuse)
    monkeypatch.setattr("sparsity_roofline.bench.environment.pick_device", lambda: "cuda")
    found = analyse.profile(BLOCKS, tmp_path)
    assert (found.counted, found.why, found.facts.registers, found.facts.blocks) == (False, "no permission", 40, 8)
    assert [f.term for f in found.findings] == ["launch floor"]
    arguments = ["profile", "64x96x8", "--kernel", "bsr.scipy", "--pattern", "block16", "--sparsity", "0.5"]
    assert main([*arguments, "--dtype", "fp32"]) == 0
    text = capsys.readouterr().out
    assert "no counters: no permission" in text
    assert "registers a thread" in text
    assert main([*arguments, "--dtype", "fp32", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["why"] == "no permission"


def test_the_limits_are_the_models() -> None:
    _, case = BLOCKS.load()
    limits = analyse.limits_of(case, BLOCKS, hardware.datasheet("h100 sxm"))
    assert limits.flops == 2 * 64 * 96 * 8 / 2
    assert limits.unit == BLOCKS.find_kernel().unit("fp32", "cuda")
    assert limits.sol_s == max(limits.flops / limits.peak, limits.bytes / limits.bandwidth)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["profile", "64x64", "--kernel", "bsr.triton"], "64x64"),
        (["profile", "64x64x8", "--kernel", "bsr.none"], "no kernel 'bsr.none'"),
        (["profile", "64x64x8", "--kernel", "bsr.triton", "--match", "x"], "give --collection too"),
        (["profile", "64x64x8", "--kernel", "bsr.triton", "--dtype", "fp7"], "fp7"),
        (["profile", "64x64x8", "--kernel", "nowhere.py:K"], "there is no file nowhere.py"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.strip().splitlines()) == 1


@pytest.mark.gpu
def test_a_launch_is_timed_and_counted_or_the_reason_is_said(tmp_path: Path) -> None:
    target = Target(
        "shapes:512x512", "512x512@block64x64@0.5", 256, "fp16", "bsr.triton", ("block64x64",), (0.5,)
    )  # fmt: skip
    found = analyse.profile(target, tmp_path, ceilings=hardware.datasheet("h100 sxm"))
    assert found.time_ns > 500
    assert found.launches[0]["registers"] > 0
    assert found.counted == (not found.why)
    if found.counted:
        assert found.facts.operations == 2 * 512 * 512 * 256 / 2
        assert found.facts.dram is not None
        assert found.facts.dram > 0.9 * (512 * 256 * 2 + 512 * 512)
