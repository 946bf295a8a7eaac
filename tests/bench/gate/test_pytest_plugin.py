"""The plugin inside pytest runs of its own: statistics, files and comparisons of pytest-benchmark, and its absence."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

# A run inside this process forgets the modules that it was the first to import, and torch cannot be imported twice.
from sparsity_roofline.bench import begin, gpu_benchmark  # noqa: F401
from sparsity_roofline.bench.matrices import synthetic  # noqa: F401
from sparsity_roofline.kernels import reference
from sparsity_roofline.kernels.registry import load_kernels

pytest_plugins = ["pytester"]

PLUGIN = "sparsity_roofline.bench.pytest_plugin"
ROOT = Path(__file__).resolve().parents[3]

CASE = """
def test_kernel(gpu_benchmark):
    record = gpu_benchmark.case("csr.torch", "64x64x8", device="cpu")
    assert record is None or record.status == "ok"
"""
CALL = """
import time
import pytest
from sparsity_roofline.bench.timing.protocol import Stopping

@pytest.fixture(autouse=True)
def _here(monkeypatch):
    monkeypatch.setattr("sparsity_roofline.bench.environment.pick_device", lambda: "cpu")

def test_call(gpu_benchmark):
    short = Stopping(minimum=5, maximum=5)
    given = dict(flops=2e6, bytes=4e6, sol_us=1000.0, stopping=short, l2="hot")
    assert gpu_benchmark(lambda ms: time.sleep(ms / 1e3) or "out", 2, **given) == "out"
"""


@pytest.fixture(scope="session", autouse=True)
def _imported() -> None:
    load_kernels()
    assert reference.check
    import torch

    assert torch.tensor(1).mul(1) == 1


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SPARSITY_ROOFLINE_HOME", str(tmp_path / "home"))


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest("-p", PLUGIN, "-p", "no:cacheprovider", *arguments)


def benchmarks(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text())["benchmarks"]
    return found


def test_a_kernel_s_device_time_is_in_pytest_benchmark_s_file(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(CASE)
    run(pytester, "--benchmark-json=out.json").assert_outcomes(passed=1)
    (one,) = benchmarks(pytester.path / "out.json")
    info = one["extra_info"]
    assert info["kernel"] == "csr.torch"
    assert info["timer"] == "monotonic"
    median_ns = one["stats"]["median"] * 1e9
    assert info["time_ci_low_us"] <= median_ns / 1e3 <= info["time_ci_high_us"]
    assert one["stats"]["rounds"] >= 20
    # Rates are the model's figures over the median: 2 nnz N operations.
    nnz = round(0.1 * 64 * 64)
    assert info["tflops"] == pytest.approx(2 * nnz * 8 / median_ns / 1e3, rel=0.01)
    assert info["gbps"] > 0
    assert info["device"]


def test_the_fraction_of_speed_of_light_is_told_where_ceilings_are_kept(pytester: pytest.Pytester) -> None:
    from sparsity_roofline.bench import calibration_store
    from sparsity_roofline.model.ceilings import Ceilings

    calibration_store.save("cpu", Ceilings("Fake CPU", "measured", {"fp32_flops": 1e11}, 1e10))
    gpu_benchmark._bench.cache_clear()
    pytester.makepyfile(CASE)
    run(pytester, "--benchmark-json=out.json").assert_outcomes(passed=1)
    gpu_benchmark._bench.cache_clear()
    (one,) = benchmarks(pytester.path / "out.json")
    info = one["extra_info"]
    assert info["ceilings"] == "measured"
    assert info["fraction_of_sol"] == pytest.approx(info["sol_us"] / (one["stats"]["median"] * 1e6), rel=1e-6)


def test_any_callable_is_timed_and_its_rates_are_told(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(CALL)
    run(pytester, "--benchmark-json=out.json").assert_outcomes(passed=1)
    (one,) = benchmarks(pytester.path / "out.json")
    stats, info = one["stats"], one["extra_info"]
    assert stats["rounds"] == 5
    assert 0.002 <= stats["min"] <= stats["median"] < 0.05
    assert info["tflops"] == pytest.approx(2e6 / stats["median"] / 1e12)
    assert info["gbps"] == pytest.approx(4e6 / stats["median"] / 1e9)
    assert info["fraction_of_sol"] == pytest.approx(1e-3 / stats["median"])
    assert info["l2"] == "hot"


def test_statistics_hold_exactly_the_device_times(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        from sparsity_roofline.bench.timing.protocol import Samples

        class Timer:
            name = "fake"
            def measure(self, call, regime, stopping):
                call()
                return Samples([1500.0, 2500.0, 2000.0], [0.0] * 3, 1, "samples")

        def test_call(gpu_benchmark, monkeypatch):
            monkeypatch.setattr("sparsity_roofline.bench.timing.timer_for", lambda device, name: Timer())
            gpu_benchmark(lambda: None)
        """
    )
    run(pytester, "--benchmark-json=out.json", "--benchmark-save-data").assert_outcomes(passed=1)
    (one,) = benchmarks(pytester.path / "out.json")
    assert one["stats"]["median"] == pytest.approx(2e-6, rel=1e-9)
    assert (one["stats"]["min"], one["stats"]["max"]) == pytest.approx((1.5e-6, 2.5e-6), rel=1e-9)


def test_compare_and_storage_work_as_pytest_benchmark_s_users_expect(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(CALL)
    run(pytester, "--benchmark-save=first").assert_outcomes(passed=1)
    pytester.makepyfile(CALL.replace(' or "out", 2,', ' or "out", 30,'))
    slow = run(pytester, "--benchmark-compare=0001", "--benchmark-compare-fail=median:100%")
    assert slow.ret != 0
    slow.stderr.fnmatch_lines(["*Performance has regressed*"])
    pytester.makepyfile(CALL)
    assert run(pytester, "--benchmark-compare=0001", "--benchmark-compare-fail=median:500%").ret == 0


def test_a_marker_of_the_user_s_is_kept(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(CALL.replace("def test_call", '@pytest.mark.benchmark(group="mine")\ndef test_call'))
    run(pytester, "--benchmark-json=out.json").assert_outcomes(passed=1)
    assert benchmarks(pytester.path / "out.json")[0]["group"] == "mine"


@pytest.mark.parametrize("option", ["--benchmark-disable", "--benchmark-skip"])
def test_disabled_and_skipped(pytester: pytest.Pytester, option: str) -> None:
    pytester.makepyfile(CASE)
    result = run(pytester, option)
    result.assert_outcomes(**{"passed" if option.endswith("disable") else "skipped": 1})


def test_only_benchmarks_can_be_chosen(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(CASE + "\ndef test_other():\n    pass\n")
    run(pytester, "--benchmark-only").assert_outcomes(passed=1, skipped=1)


def test_what_a_kernel_cannot_do_skips_and_what_it_does_wrong_fails(pytester: pytest.Pytester) -> None:
    fakes = f"{ROOT / 'tests/bench/run/_fakes.py'}:KERNELS"
    pytester.makepyfile(
        f"""
        import pytest

        @pytest.mark.parametrize("kernel", ["csr.fake_gpu", "csr.fault_wrong", "nonesuch"])
        def test_kernel(gpu_benchmark, kernel):
            gpu_benchmark.case(kernel, "64x64x8", device="cpu", extra_kernels=({fakes!r},))
        """
    )
    result = run(pytester, "-rs")
    result.assert_outcomes(skipped=1, failed=2)
    result.stdout.fnmatch_lines(["*incorrect: *", "*no kernel 'nonesuch'*", "*runs on cuda only*"])
    run(pytester, "--benchmark-disable").assert_outcomes(skipped=1, failed=2)


def test_without_pytest_benchmark_tests_are_skipped_with_the_remedy(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(CASE + "\ndef test_other():\n    pass\n")
    result = run(pytester, "-p", "no:benchmark", "-rs")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["*sparsity-roofline?regression?*"])


def test_a_run_that_does_not_use_it_imports_nothing_heavy() -> None:
    code = (
        "import sys, pytest, importlib\n"
        f"importlib.import_module({PLUGIN!r})\n"
        "heavy = {'torch', 'numpy', 'scipy', 'pandas', 'triton', 'cupy', 'pytest_benchmark'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_regression_suite_is_there_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-m", "pytest", str(ROOT / "bench/regression"), "--collect-only", "-q"]
    told = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    assert "test_kernel[csr.torch-unstructured]" in told
