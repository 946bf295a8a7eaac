"""The CPU's timer: a monotonic clock around the call, caches flushed before it."""

from __future__ import annotations

import math
from collections.abc import Callable
from time import perf_counter, perf_counter_ns

from sparsity_roofline.bench.timing import clocks, flush, nvml
from sparsity_roofline.bench.timing.garbage import no_garbage_collection
from sparsity_roofline.bench.timing.protocol import Regime, Samples, Stopping
from sparsity_roofline.bench.timing.stopping import stop
from sparsity_roofline.kernels.protocol import YES, Support
from sparsity_roofline.model.errors import UserError

WARM_UP_CALLS = 3  # a block; the first call of all, which may compile or allocate, comes before
WARM_UP_BLOCKS = 10
WARM_UP_SECONDS = 0.3
SETTLED = 0.03  # two blocks' medians agree
HOT_FLOOR_NS = 20_000  # a hot sample lasts at least this long, 100 times the clock's own cost


class MonotonicTimer:
    """Times calls that return when their work is done.

    ``cold-clean`` reads, ``cold-dirty`` overwrites, a buffer of at least twice the caches before every call; ``hot``
    does nothing and repeats calls shorter than 20 us inside a sample (the sample is the mean of the repeats), which a
    flush between them would make impossible. Samples say ``kernels_per_call`` 1 and no host time: on a CPU the call is
    the work.
    """

    name = "monotonic"

    def available(self) -> Support:
        """Always: the clock is Python's."""
        return YES

    def measure(self, call: Callable[[], None], regime: Regime, stopping: Stopping) -> Samples:
        """See ``protocol.Timer.measure``.

        Raises:
            UserError: a clock regime other than ``as-found``: this timer holds no clocks.
        """
        require_clocks_as_found(regime, self.name)
        prepare = flush.cpu_flush(regime.l2)
        began = perf_counter()
        typical_ns = _warm_up(call)
        inner = max(1, math.ceil(HOT_FLOOR_NS / max(typical_ns, 1))) if regime.l2 == "hot" else 1
        times: list[float] = []
        started = perf_counter()
        reason = None
        with no_garbage_collection():
            while reason is None:
                prepare()
                before = perf_counter_ns()
                for _ in range(inner):
                    call()
                times.append((perf_counter_ns() - before) / inner)
                # The rule sorts all samples: ask at the caps and at every tenth only.
                n, elapsed = len(times), perf_counter() - started
                if n in (stopping.minimum, stopping.maximum) or n % 10 == 0 or elapsed > stopping.seconds:
                    reason = stop(times, elapsed, stopping)
        return Samples(
            busy_ns=times,
            span_ns=list(times),
            kernels_per_call=1,
            stop_reason=reason,
            warm_up_s=started - began,
        )


def require_clocks_as_found(regime: Regime, timer: str) -> None:
    """Refuse a clock regime that nobody is holding: any but ``as-found``, unless a lock (``clocks``) is on the GPU."""
    if regime.clocks == "fixed" and timer != MonotonicTimer.name and clocks.lock_of(nvml.device_uuid()) is not None:
        return
    if regime.clocks != "as-found":
        raise UserError(
            f"timer {timer} measures with clocks as found, not {regime.clocks}: ask for as-found", exit_code=6
        )


def _warm_up(call: Callable[[], None]) -> float:
    """Call until two blocks agree, within bounds; the last block's median in ns.

    One call at least, two unless the first alone outlasts the bound: an untimed first call may compile.
    """
    started = perf_counter()
    call()
    previous = math.inf
    for _ in range(WARM_UP_BLOCKS):
        block = []
        for _ in range(WARM_UP_CALLS):
            before = perf_counter_ns()
            call()
            block.append(perf_counter_ns() - before)
            if perf_counter() - started > WARM_UP_SECONDS:
                break
        typical = float(sorted(block)[len(block) // 2])
        if abs(typical - previous) <= SETTLED * previous or perf_counter() - started > WARM_UP_SECONDS:
            break
        previous = typical
    return typical
