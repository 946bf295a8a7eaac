"""One device for one station: the worker sees no other, no second station gets it, its clock is held where asked."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from sparsity_roofline.bench.plan import Job
from sparsity_roofline.bench.station import Station, Tell
from sparsity_roofline.bench.timing import clocks
from sparsity_roofline.kernels.protocol import Kernel
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.home import cache_home
from sparsity_roofline.model.record import Record


class Pinned:
    """A ``Place`` on one device of this host, told from others by its UUID ("" for the CPU)."""

    def __init__(
        self,
        first: dict[str, Any],
        kernels: Mapping[str, Kernel],
        case_timeout_s: float,
        tell: Tell,
        uuid: str,
        name: str,
        unset: Collection[str] = (),
    ) -> None:
        """Nothing is started yet; the arguments are ``Station``'s, and ``unset`` names variables to do without."""
        self.name = name
        self._uuid = uuid
        self._fixed = bool(uuid) and first["regime"]["clocks"] == "fixed"
        self._tell = tell
        self._held = ExitStack()
        environment: dict[str, str | None] = dict.fromkeys(unset)
        if uuid:
            environment["CUDA_VISIBLE_DEVICES"] = uuid
        self._station = Station(first, kernels, case_timeout_s, tell, environment, name)

    def begin(self) -> None:
        """Take the device, then start the worker.

        Raises:
            UserError: another run has the device, its clock cannot be held, or no worker can be started.
        """
        if self._uuid:
            self._held.enter_context(sole_use(self._uuid))
        if self._fixed:
            for line in clocks.restore_left_behind():
                self._tell("note", line)
            lock = self._held.enter_context(clocks.held(self._uuid))
            self._tell("note", f"the SM clock is locked at {lock.mhz:.0f} MHz until the run ends")
        self._station.begin()

    def measure(self, job: Job) -> Record:
        """See ``Place``."""
        return self._station.measure(job)

    def abort(self) -> None:
        """See ``Place``."""
        self._station.abort()

    def stop(self) -> None:
        """End the worker, then let go of the device."""
        try:
            self._station.stop()
        finally:
            self._held.close()


@contextmanager
def sole_use(uuid: str) -> Iterator[None]:
    """Hold a device against every other ``sole_use`` on this host; a process that dies lets go of it.

    Raises:
        UserError: somebody has it.
    """
    file = cache_home() / f"device-{hashlib.sha256(uuid.encode()).hexdigest()[:12]}.lock"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise UserError(
            f"cannot write {file}: {error.strerror}: set SPARSITY_ROOFLINE_HOME to another folder"
        ) from None
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError("another run measures on this GPU: wait for it to end, or choose others", 6) from None
        yield
    finally:
        os.close(fd)
