"""A Dask cluster as a fleet: one pinned worker process for each GPU that its workers see.

Dask places the work, notices dead workers and starts batch jobs; the measuring itself is ``station``'s, on every host
as on this one. Each Dask worker gets at most one device, and each device at most one Dask worker.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsity_roofline.bench import cluster_site
from sparsity_roofline.bench.cluster import Lost, MakePlace
from sparsity_roofline.bench.plan import Job
from sparsity_roofline.bench.station import Stopped, Tell
from sparsity_roofline.kernels.protocol import Device, Kernel
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.record import Record

if TYPE_CHECKING:
    from distributed import Client, Future

CONNECT_S = 15.0
PATIENCE_S = 60.0
_LOOK_S = 120.0
_ASK_EVERY_S = 1.0
_WAIT_S = 0.5


class DaskFleet:
    """Workers of a Dask cluster.

    Attributes:
        size, patience_s: see ``Fleet``.
    """

    def __init__(self, client: Client, size: int, device: Device | None, patience_s: float = PATIENCE_S) -> None:
        self.size = size
        self.patience_s = patience_s
        self._client = client
        self._device = device
        self._session = str(client.id)
        self._present: set[str] = set()
        self._looking: dict[str, Future] = {}
        self._taken: dict[str, str] = {}  # UUID -> address of the worker that has it
        self._spare = 0
        self._asked = 0.0

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """A function's value on one of the workers, which sees what the others see."""
        from distributed import TimeoutError as DaskTimeout

        try:
            self._client.wait_for_workers(1, timeout=self.patience_s if math.isfinite(self.patience_s) else None)
        except DaskTimeout:
            raise self._nobody() from None
        return self._client.submit(function, *arguments, pure=False).result()

    def arrivals(self, first: dict[str, Any], kernels: Mapping[str, Kernel], case_timeout_s: float) -> list[MakePlace]:
        """See ``Fleet``."""
        waiting = self._asked == 0.0
        if not waiting and time.monotonic() - self._asked < _ASK_EVERY_S:
            return []
        self._asked = time.monotonic()
        self._refresh()
        if waiting:  # the first shares are dealt to all who are there
            end = time.monotonic() + _LOOK_S
            while not self._looking and time.monotonic() < end - _LOOK_S + self.patience_s:
                time.sleep(0.1)
                self._refresh()
            while not all(f.done() for f in self._looking.values()) and time.monotonic() < end:
                time.sleep(0.05)
        came: list[MakePlace] = []
        for address, future in [(a, f) for a, f in self._looking.items() if f.done()]:
            del self._looking[address]
            with contextlib.suppress(_Dropped, TimeoutError):
                seen = _value(future)
                uuid = self._device_for(address, seen, first["device"])
                if uuid is not None:
                    came.append(self._maker(address, uuid, first, case_timeout_s))
        return came

    def alive(self, address: str) -> bool:
        """Was the worker there when the scheduler was last asked?"""
        return address in self._present

    def close(self) -> None:
        """Nothing is held here; the client belongs to who opened it."""

    def _refresh(self) -> None:
        """Ask the scheduler who is there, and have newcomers looked at."""
        if self._client.status != "running":
            raise _no_scheduler()
        try:
            now = set(self._client.nthreads())
        except (OSError, TimeoutError, RuntimeError) as error:
            raise _no_scheduler() from error
        for address in now - self._present:
            self._looking[address] = self._client.submit(
                cluster_site.look, workers=[address], allow_other_workers=False, pure=False
            )
        for address in self._present - now:
            self._looking.pop(address, None)
            self._taken = {uuid: a for uuid, a in self._taken.items() if a != address}
        self._present = now

    def _device_for(self, address: str, seen: dict[str, Any], device: str) -> str | None:
        """The device a worker gets: "" for its CPU, a GPU's UUID, None if none is left for it.

        Raises:
            UserError: another version of the program, no GPU where one is needed, or a worker in use.
        """
        from sparsity_roofline import __version__

        if seen["version"] != __version__:
            raise UserError(
                f"a worker has version {seen['version']} of this program, this is {__version__}: install one"
            )
        if seen["session"] not in (None, self._session) and seen["session"] in self._clients():
            raise UserError("this cluster is measuring for another run: wait for it to end", 6)
        if device == "cpu":
            return ""
        free = [uuid for uuid, _ in seen["gpus"] if uuid not in self._taken]
        if not free:
            return None
        self._taken[free[0]] = address
        return str(free[0])

    def _clients(self) -> set[str]:
        def connected(dask_scheduler: Any) -> list[str]:
            return [str(name) for name in dask_scheduler.clients]

        return set(self._client.run_on_scheduler(connected))

    def _maker(self, address: str, uuid: str, first: dict[str, Any], case_timeout_s: float) -> MakePlace:
        name = f"worker {len(self._taken) if uuid else self._number(address)}"

        def place(tell: Tell) -> DaskPlace:
            return DaskPlace(self, self._client, self._session, address, uuid, name, first, case_timeout_s, tell)

        return place

    def _number(self, address: str) -> int:
        self._spare += 1
        return self._spare

    def _nobody(self) -> UserError:
        return UserError(f"no Dask worker came within {self.patience_s:g} s: start some with `dask worker`", 6)


class _Dropped(Exception):
    """The worker went before it answered."""


class DaskPlace:
    """One worker's station, called from here."""

    def __init__(
        self,
        fleet: DaskFleet,
        client: Client,
        session: str,
        address: str,
        uuid: str,
        name: str,
        first: dict[str, Any],
        case_timeout_s: float,
        tell: Tell,
    ) -> None:
        self.name = name
        self._fleet, self._client, self._session, self._address = fleet, client, session, address
        self._opening = (first, case_timeout_s, uuid, name)
        self._tell = tell
        self._aborted = False

    def begin(self) -> None:
        """See ``Place``."""
        self._call(cluster_site.open_site, *self._opening)

    def measure(self, job: Job) -> Record:
        """See ``Place``. Raises ``Lost`` when the worker or the scheduler is gone."""
        return Record.from_dict(self._call(cluster_site.measure_site, job))

    def abort(self) -> None:
        """See ``Place``."""
        self._aborted = True
        self._close()

    def stop(self) -> None:
        """End the station on the worker."""
        if not self._aborted:
            self._close()

    def _close(self) -> None:
        if self._client.status != "running" or not self._fleet.alive(self._address):
            return
        with contextlib.suppress(Exception):  # whoever is gone needs no closing
            self._client.run(cluster_site.close_site, self._session, workers=[self._address], on_error="ignore")

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        future = self._client.submit(
            function, self._session, *arguments, workers=[self._address], allow_other_workers=False, pure=False
        )
        try:
            while (answer := self._answer(future)) is None:
                if self._aborted:
                    raise Stopped
                if not self._fleet.alive(self._address):
                    raise Lost("the Dask worker is gone")
        except _Dropped as error:
            raise Lost(str(error)) from None
        finally:
            with contextlib.suppress(Exception):
                future.release()
        for kind, what in answer["said"]:
            self._tell(kind, what)
        if answer.get("gone"):
            raise Stopped if self._aborted else Lost("the Dask worker was started anew")
        if "refused" in answer:
            raise UserError(*answer["refused"])
        return answer["result"]

    @staticmethod
    def _answer(future: Future) -> cluster_site.Answer | None:
        """Wait a moment for it."""
        try:
            answer: cluster_site.Answer = _value(future, _WAIT_S)
        except TimeoutError:
            return None
        return answer


def _value(future: Future, timeout_s: float = CONNECT_S) -> Any:
    """A task's answer.

    Raises:
        TimeoutError: none yet.
        _Dropped: the worker or the scheduler went away instead of answering.
    """
    from distributed import KilledWorker

    try:
        return future.result(timeout=timeout_s)
    except CancelledError:
        raise _Dropped("the Dask scheduler is gone") from None
    except TimeoutError:
        raise
    except (KilledWorker, OSError) as error:
        raise _Dropped(f"the Dask worker is gone ({type(error).__name__})") from None


def _no_scheduler() -> UserError:
    return UserError("the Dask scheduler is gone: every finished case is kept; go on with --resume", 6)


@contextlib.contextmanager
def open_cluster(text: str, device: Device | None) -> Iterator[DaskFleet]:
    """A fleet on the cluster that ``--cluster`` names.

    Args:
        text: ``local:N`` (N workers on this host), ``slurm`` or ``slurm:N`` (N batch jobs of one GPU each), or the
            address or the scheduler file of a running Dask scheduler.
        device: what the run is for, if that was said.

    Raises:
        UserError: Dask is not installed, or there is no such cluster.
    """
    kind, _, number = text.partition(":")
    with contextlib.ExitStack() as stack:
        if kind in ("local", "slurm"):
            count = _count(text, number)
            _need("distributed")
            cluster = stack.enter_context(_local(count) if kind == "local" else _slurm(count, device))
            client = stack.enter_context(_client(cluster))
            yield DaskFleet(client, count, device, PATIENCE_S if kind == "local" else float("inf"))
        else:
            _need("distributed")
            client = stack.enter_context(_connected(text))
            yield DaskFleet(client, max(len(client.nthreads()), 1), device)


def _count(text: str, number: str) -> int:
    if not number:
        return 1
    if not number.isdecimal() or not 1 <= int(number) <= 4096:
        raise UserError(f"--cluster {text}: write the number of workers behind the colon, as in local:2")
    return int(number)


def _need(module: str) -> None:
    import importlib.util

    if importlib.util.find_spec(module) is None:
        raise UserError(f"--cluster needs {module}: pip install 'sparsity-roofline[cluster]'", 6)


def _client(cluster: Any) -> Any:
    from distributed import Client

    return Client(cluster, set_as_default=False)


@contextlib.contextmanager
def _connected(text: str) -> Iterator[Any]:
    from distributed import Client

    where = {"scheduler_file": text} if text.endswith(".json") else {"address": text}
    _check_address(text, _of_file(text) if text.endswith(".json") else text)
    try:
        client = Client(**where, timeout=CONNECT_S, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise UserError(
            f"--cluster {text}: no Dask scheduler answers there ({type(error).__name__}); write local:N, slurm:N or "
            "the address that `dask scheduler` prints",
            6,
        ) from None
    with client:
        yield client


def _of_file(text: str) -> str:
    """The address in a scheduler's file. A client would wait without end for one that is not there."""
    try:
        return str(json.loads(Path(text).read_text(encoding="utf-8"))["address"])
    except FileNotFoundError:
        remedy = f"no such file; start `dask scheduler --scheduler-file {text}` first"
    except OSError as error:
        remedy = error.strerror or str(error)
    except (ValueError, KeyError, TypeError):
        remedy = "not a file that `dask scheduler --scheduler-file` wrote"
    raise UserError(f"--cluster {text}: {remedy}")


def _check_address(text: str, address: str) -> None:
    """Refuse what is no address: a client that cannot read one leaves a thread that holds up the program's end."""
    from distributed.comm import get_address_host_port

    try:
        get_address_host_port(address)
    except ValueError as error:
        raise UserError(
            f"--cluster {text}: {error}; write local:N, slurm:N or the address that `dask scheduler` prints"
        ) from None


@contextlib.contextmanager
def _local(count: int) -> Iterator[Any]:
    import dask
    from distributed import LocalCluster

    # The nanny would limit every worker to one thread of arithmetic.
    with (
        dask.config.set({"distributed.nanny.pre-spawn-environ": {}}),
        LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            memory_limit=None,
            silence_logs=logging.CRITICAL,
        ) as cluster,
    ):
        yield cluster


@contextlib.contextmanager
def _slurm(count: int, device: Device | None) -> Iterator[Any]:
    """Batch jobs as Dask's own configuration (``jobqueue.slurm``) describes them; here only what a run needs beside."""
    _need("dask_jobqueue")
    import dask
    from dask_jobqueue import SLURMCluster

    given = {name: dask.config.get(f"jobqueue.slurm.{name}", None) for name in ("cores", "memory", "processes")}
    more = list(dask.config.get("jobqueue.slurm.job-extra-directives", None) or [])
    if device != "cpu" and not any("gres" in line or "gpu" in line for line in more):
        more.append("--gres=gpu:1")
    try:
        cluster = SLURMCluster(
            cores=given["cores"] or 4,
            memory=given["memory"] or "16GB",
            processes=given["processes"] or 1,
            job_extra_directives=more,
            scheduler_options={"dashboard_address": None},
        )
        cluster.scale(jobs=count)
    except (RuntimeError, ValueError, OSError) as error:
        raise UserError(f"--cluster slurm: no batch job can be started: {str(error).splitlines()[0]}", 6) from None
    with cluster:
        yield cluster
