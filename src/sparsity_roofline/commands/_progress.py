"""Progress of a run: a bar on a terminal, a line now and then where output goes to a file."""

from __future__ import annotations

import time
from types import TracebackType

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from sparsity_roofline.bench.events import Event
from sparsity_roofline.commands._duration import short
from sparsity_roofline.model.text import LONGEST, printable

LINE_EVERY_S = 15.0


class RunProgress:
    """Context manager; call it with each event. Writes to stderr, so that stdout stays the result's."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, emoji=False)
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._last_line = time.monotonic()
        self._bad = 0
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("left {task.fields[left]}"),
                console=self._console,
                transient=True,
            )

    def __enter__(self) -> RunProgress:
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task("starting", total=None, left="")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, event: Event) -> None:
        if event.kind in ("note", "restarted") and event.text:
            self._say(("worker restarted: " if event.kind == "restarted" else "") + event.text)
        if event.record is not None and event.record.status not in ("ok", "unsupported"):
            self._bad += 1
            if self._bad <= 10:
                self._say(
                    f"{event.record.status}: {event.record.kernel} on {event.record.matrix}: {event.record.reason}"
                )
        if self._bar is not None and self._task is not None:
            text = f"{event.job.kernel} {event.job.case.matrix}"[-60:] if event.job is not None else event.kind
            self._bar.update(
                self._task,
                description=printable(text),
                completed=event.done,
                total=event.total,
                left=short(event.eta_s or 0.0),
            )
        elif time.monotonic() - self._last_line > LINE_EVERY_S:
            self._say(f"{event.done} of {event.total} jobs, about {short(event.eta_s or 0.0)} left")

    def _say(self, text: str) -> None:
        self._last_line = time.monotonic()
        text = printable(text, LONGEST)
        if self._bar is not None:
            self._bar.console.print(text, markup=False)
        else:
            click.echo(text, err=True)
