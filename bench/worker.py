"""The process that touches the device: takes jobs, gives back records, dies alone if it must.

Spoken to in JSON lines over two pipes of its own (descriptors on its command line), never over stdout, where libraries
print. In: one message to begin with, then jobs. Out: ``progress``, ``note``, ``ready`` or ``failed``, then one
``record`` per job. The end of the input means stop. ``child.py`` is the other side.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import json
import os
import signal
import sys
import time
from typing import IO, Any

from sparsity_roofline.bench.expand import Source
from sparsity_roofline.bench.matrices.collection import Collection
from sparsity_roofline.bench.measure import Bench
from sparsity_roofline.bench.timing.protocol import Regime, Stopping
from sparsity_roofline.model.case import Case
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.matrix import Matrix

_PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> None:
    """Have the kernel end this process when its parent ends, however that ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was gone before we asked
        os._exit(0)


class Sources:
    """Collections, each opened once and only when a job needs it."""

    def __init__(self, sources: list[Source]) -> None:
        self._sources = sources
        self._open: dict[int, Collection] = {}

    def load(self, source: int, name: str) -> Matrix:
        """One matrix of one collection."""
        if source not in self._open:
            self._open[source] = self._sources[source].open()
        return self._open[source].load(name)


class Worker:
    """One session over a pair of pipes."""

    def __init__(self, requests: IO[bytes], replies: IO[bytes]) -> None:
        self._requests = requests
        self._replies = replies

    def say(self, kind: str, **content: Any) -> None:
        """Send one message."""
        self._replies.write(json.dumps({"kind": kind, **content}).encode() + b"\n")
        self._replies.flush()

    def serve(self) -> None:
        """Until the input ends or the device is lost."""
        imports()
        _profiler_imports()
        first = self._requests.readline()
        if not first:
            return
        init = json.loads(first)
        try:
            bench, ready = self._begin(init)
        except UserError as error:
            self.say("failed", reason=str(error), exit_code=error.exit_code)
            return
        self.say("ready", **ready)
        for line in self._requests:
            job = json.loads(line)
            start = time.perf_counter()
            record = bench.run(Case.from_dict(job["case"]), job["kernel"], job["source"])
            lost = record.status in ("error", "incorrect") and not device_alive(init["device"])
            self.say("record", record=record.to_dict(), wall_s=time.perf_counter() - start, lost=lost)
            if lost:
                return

    def _begin(self, init: dict[str, Any]) -> tuple[Bench, dict[str, Any]]:
        from sparsity_roofline.bench.begin import begin
        from sparsity_roofline.kernels.registry import load_kernels

        sources = Sources(
            [Source(s["uri"], tuple(s["prune"]), tuple(s["sparsities"]), s["seed"]) for s in init["sources"]]
        )
        bench, facts = begin(
            init["device"],
            load_kernels(init["extra_kernels"]),
            sources.load,
            timer=init["timer"],
            regime=Regime(**init["regime"]),
            stopping=Stopping(**init["stopping"]),
            calibrate=init["calibrate"],
            fresh=init.get("fresh", False),
            run_id=init["run_id"],
            tell=lambda kind, text: self.say(kind, text=text),
        )
        shared = bench.evidence
        ready = {
            "device_name": shared.device_name,
            "environment": facts,
            "environment_hash": shared.environment,
            "datasheet": shared.datasheet.to_json() if shared.datasheet else None,
            "measured": shared.measured.to_json() if shared.measured else None,
            "threads": shared.threads,
        }
        return bench, ready


def imports() -> None:
    """What takes seconds and touches no device, while the first message may still be on its way."""
    import torch

    from sparsity_roofline.kernels.registry import load_kernels

    del torch
    with contextlib.suppress(UserError):  # told to whoever asks for the kernels
        load_kernels()


def _profiler_imports() -> None:
    """Where a GPU's timer will want torch's profiler: what its first session imports, which takes seconds."""
    import torch

    if torch.cuda.is_available():
        with contextlib.suppress(Exception):  # the timer tells what does not work
            import torch._inductor
            import torch.profiler
            import triton

            del triton


def device_alive(device: str) -> bool:
    """False after an error that poisons the CUDA context: every later call in this process would fail."""
    if device != "cuda":
        return True
    import torch

    try:
        torch.cuda.synchronize()
        torch.zeros(1, device="cuda").add_(1).cpu()
    except Exception:
        return False
    return True


def main() -> None:
    """``python -m sparsity_roofline.bench.worker PARENT IN OUT``: see the module's text."""
    parent, inward, outward = (int(a) for a in sys.argv[1:4])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor decides what an interrupt means
    die_with(parent)
    faulthandler.enable()
    with contextlib.suppress(BrokenPipeError):
        Worker(os.fdopen(inward, "rb"), os.fdopen(outward, "wb")).serve()
    sys.stderr.flush()
    os._exit(0)  # destructors of a poisoned device context hang or crash


if __name__ == "__main__":
    main()
