"""What a Dask worker does for a run: hold one station on one device, and run it job after job.

These functions are called by ``cluster_dask`` on the worker. They answer in plain types and raise nothing, so that a
refusal is an answer and not a failed task with a traceback in the worker's log.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sparsity_roofline.bench.pinned import Pinned
from sparsity_roofline.bench.plan import Job
from sparsity_roofline.bench.station import Stopped
from sparsity_roofline.kernels.registry import load_kernels
from sparsity_roofline.model.errors import UserError

Answer = dict[str, Any]

IDLE_S = 900.0
"""A site that nobody has called for so long belongs to a run that is gone: it lets go of its device."""

_guard = threading.Lock()
_site: _Site | None = None


class _Site:
    """A station and the thread it lives on: the kernel ends a worker process with the thread that started it."""

    def __init__(self, session: str, first: dict[str, Any], case_timeout_s: float, uuid: str, name: str) -> None:
        self.session = session
        self._said: list[tuple[str, Any]] = []
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="station")
        self._timer: threading.Timer | None = None
        kernels = load_kernels(first["extra_kernels"])
        tell: Callable[[str, Any], None] = lambda kind, what: self._said.append((kind, what))  # noqa: E731
        self._place = Pinned(first, kernels, case_timeout_s, tell, uuid, name, _unset())

    def call(self, what: Callable[[Pinned], Any]) -> Answer:
        self._rearm()
        try:
            future = self._thread.submit(what, self._place)
        except RuntimeError:  # shut down
            return {"gone": True, "said": []}
        answer: Answer = {}
        try:
            answer["result"] = future.result()
        except Stopped:
            answer["gone"] = True
        except UserError as error:
            answer["refused"] = (str(error), error.exit_code)
        answer["said"], self._said = self._said, []
        return answer

    def abort(self) -> None:
        """End the worker process; does not wait, so the event loop may call it."""
        if self._timer is not None:
            self._timer.cancel()
        self._place.abort()
        try:
            self._thread.submit(self._place.stop)
        except RuntimeError:
            return
        self._thread.shutdown(wait=False)

    def gone(self) -> None:
        """Wait until nothing is left of it."""
        self._thread.shutdown(wait=True)

    def _rearm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = threading.Timer(IDLE_S, close_site, (self.session,))
        self._timer.daemon = True
        self._timer.start()


def look() -> Answer:
    """What this worker has: version of the program, GPUs it may use (UUID, name), and the session it works for."""
    from sparsity_roofline import __version__
    from sparsity_roofline.bench.cluster_local import gpus

    return {
        "version": __version__,
        "gpus": [(gpu.uuid, gpu.name) for gpu in gpus()],
        "session": _site.session if _site is not None else None,
    }


def open_site(session: str, first: dict[str, Any], case_timeout_s: float, uuid: str, name: str) -> Answer:
    """Start the station; one of another session (whose run is gone) is ended first."""
    global _site
    for uri in (source["uri"] for source in first["sources"]):
        if absent := _absent(uri):
            return {
                "refused": (f"there is no {absent}: put it where every worker sees it under the same path", 2),
                "said": [],
            }
    with _guard:
        if _site is not None:
            _site.abort()
            _site.gone()
            _site = None
        try:
            site = _Site(session, first, case_timeout_s, uuid, name)
        except UserError as error:
            return {"refused": (str(error), error.exit_code), "said": []}
        _site = site
    return site.call(lambda place: place.begin())


def measure_site(session: str, job: Job) -> Answer:
    """One job on the station that ``open_site`` started."""
    site = _site
    if site is None or site.session != session:
        return {"gone": True, "said": []}
    return site.call(lambda place: place.measure(job).to_dict())


def close_site(session: str) -> None:
    """End the station of a session. Returns at once."""
    global _site
    site = _site
    if site is not None and site.session == session:
        site.abort()
        _site = None


def _absent(uri: str) -> str:
    """The path in a collection's address if there is nothing at it, else ''."""
    if uri == "builtin":
        return ""
    address = uri.partition("#prune=")[0]
    scheme, colon, rest = address.partition(":")
    path = rest if colon and scheme in ("dlmc", "manifest", "checkpoint") else address
    return "" if Path(path).expanduser().exists() else path


def _unset() -> list[str]:
    """Variables that Dask's nanny put into this process; the worker shall compute with the threads of a plain run."""
    import dask

    put = dask.config.get("distributed.nanny.pre-spawn-environ", {})
    return [name for name, value in put.items() if os.environ.get(name) == str(value)]
