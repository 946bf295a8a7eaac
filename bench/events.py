"""What a run tells whoever watches it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sparsity_roofline.bench.plan import Job
from sparsity_roofline.model.record import Record

EventKind = Literal["planned", "ready", "started", "finished", "restarted", "note"]


@dataclass(frozen=True)
class Event:
    """One step of a run.

    Attributes:
        kind: ``planned`` (once, first), ``ready`` (the device is up and calibrated), ``started`` and ``finished`` (a
            job), ``restarted`` (the worker), ``note`` (something worth a line).
        done, total: jobs on disk and planned.
        text: in words, for ``ready``, ``restarted`` and ``note``.
        job: of ``started`` and ``finished``.
        record: of ``finished``.
        eta_s: expected wall time of what is left.
    """

    kind: EventKind
    done: int = 0
    total: int = 0
    text: str = ""
    job: Job | None = None
    record: Record | None = None
    eta_s: float | None = None


OnEvent = Callable[[Event], None]


@dataclass
class RunSummary:
    """How a run ended.

    Attributes:
        folder: of the run.
        counts: records on disk by status.
        planned: jobs of the plan.
        done: of them on disk, earlier sittings included.
        left: not done: budget spent, or interrupted.
        seconds: wall time of this sitting.
        interrupted: by the user or a signal.
        notes: of the plan and the run.
    """

    folder: Path
    counts: dict[str, int] = field(default_factory=dict)
    planned: int = 0
    done: int = 0
    left: int = 0
    seconds: float = 0.0
    interrupted: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """130 interrupted; 3 an incorrect result; 4 an invalid environment; 6 nothing could be measured; else 0."""
        if self.interrupted:
            return 130
        if self.counts.get("incorrect"):
            return 3
        if self.counts.get("invalid_environment"):
            return 4
        return 6 if self.done and not self.counts.get("ok") else 0
