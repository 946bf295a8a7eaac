"""pytest: the fixture ``gpu_benchmark``, which puts device time into pytest-benchmark's statistics.

The plugin is loaded into every pytest run of an environment that has this package. So it imports nothing heavy, and
what it does before a test asks for the fixture is one look at the names of fixtures that each test uses. Without
pytest-benchmark (``pip install 'sparsity-roofline[regression]'``) the tests that use the fixture are skipped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from sparsity_roofline.bench.gpu_benchmark import GpuBenchmark

FIXTURE = "gpu_benchmark"
BENCHMARK = "benchmark"
"""pytest-benchmark's name among plugins, its fixture's and its marker's."""


class WithBenchmark:
    """What is registered where pytest-benchmark runs."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Give each test that uses the fixture a clock of its own, by the marker that pytest-benchmark has for it."""
        for item in items:
            if FIXTURE in getattr(item, "fixturenames", ()):
                from sparsity_roofline.bench.gpu_benchmark import DeviceClock

                own = item.get_closest_marker(BENCHMARK)
                given = dict(own.kwargs) if own else {}
                item.add_marker(pytest.mark.benchmark(**{**given, "timer": DeviceClock()}), append=False)

    @pytest.fixture(name=FIXTURE)
    def gpu_benchmark(self, request: pytest.FixtureRequest, benchmark: Any) -> GpuBenchmark:
        """Times a callable, or a kernel of the registry on a case, by this package's timers: see ``GpuBenchmark``."""
        from sparsity_roofline.bench.gpu_benchmark import GpuBenchmark

        marker = request.node.get_closest_marker(BENCHMARK)
        return GpuBenchmark(benchmark, marker.kwargs["timer"])


class WithoutBenchmark:
    """What is registered where it does not."""

    @pytest.fixture(name=FIXTURE)
    def gpu_benchmark(self) -> None:
        """Skips."""
        pytest.skip("gpu_benchmark needs pytest-benchmark: pip install 'sparsity-roofline[regression]'")


def pytest_configure(config: pytest.Config) -> None:
    """Offer the fixture, with pytest-benchmark or without."""
    found = any(config.pluginmanager.hasplugin(name) for name in (BENCHMARK, "pytest_benchmark.plugin"))
    config.pluginmanager.register(WithBenchmark() if found else WithoutBenchmark(), "sparsity-roofline-fixture")
