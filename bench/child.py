"""The supervisor's end of a worker process: start it, talk to it under a deadline, end it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import Any


class ChildDied(Exception):
    """The worker ended without an answer.

    Attributes:
        cause: in words: the signal's name or the exit code.
        tail: the last lines it printed.
    """

    def __init__(self, cause: str, tail: str) -> None:
        super().__init__(cause)
        self.cause = cause
        self.tail = tail


class ChildTimeout(Exception):
    """No answer before the deadline."""


class Child:
    """A running worker. ``kill`` it in the end, whatever happened."""

    def __init__(self, environment: Mapping[str, str | None] | None = None) -> None:
        """Start it; ``environment`` adds to this process's variables, or takes away (None).

        The kernel ends it with the thread that started it, so that thread has to stay.
        """
        inward, self._to = os.pipe()
        self._from, outward = os.pipe()
        self._buffer = b""
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the worker
        path = os.pathsep.join(p for p in sys.path if p)
        given = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **(environment or {})}
        module = "sparsity_roofline.bench.worker"
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, str(os.getpid()), str(inward), str(outward)],
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                pass_fds=(inward, outward),
                start_new_session=True,  # an interrupt from the terminal reaches the supervisor only
                env={name: value for name, value in given.items() if value is not None},
            )
        finally:
            os.close(inward)
            os.close(outward)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def send(self, message: dict[str, Any]) -> None:
        """Write one message; a worker that is gone shows when its answer is awaited."""
        data = memoryview(json.dumps(message).encode() + b"\n")
        try:
            while data:
                data = data[os.write(self._to, data) :]
        except BrokenPipeError:
            return

    def receive(self, timeout_s: float) -> dict[str, Any]:
        """The next message.

        Raises:
            ChildTimeout: none within ``timeout_s``.
            ChildDied: the worker ended first.
        """
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._from], [], [], left)[0]:
                raise ChildTimeout
            data = os.read(self._from, 1 << 16)
            if not data:
                raise ChildDied(self._cause(), self.tail())
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def _cause(self) -> str:
        try:
            code = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            return "worker closed its pipe without ending"
        if code < 0:
            try:
                return f"worker killed by {signal.Signals(-code).name}"
            except ValueError:
                return f"worker killed by signal {-code}"
        return f"worker ended with exit code {code}"

    def tail(self, lines: int = 20) -> str:
        """The last lines the worker printed."""
        self._output.seek(0, os.SEEK_END)
        self._output.seek(max(0, self._output.tell() - 8192))
        text = self._output.read().decode(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def end(self) -> None:
        """Send the signal and leave the rest to ``kill``: safe while another thread waits for an answer."""
        self._process.kill()

    def kill(self) -> None:
        """End it now and wait until it is gone, ten seconds at most."""
        if self._process.poll() is None:
            self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # stuck in the driver; reaped when it comes back
            self._process.wait(timeout=10)
        for fd in (self._to, self._from):
            if fd >= 0:
                os.close(fd)
        self._to = self._from = -1
        self._output.close()
