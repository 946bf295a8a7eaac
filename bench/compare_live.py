"""Measure both sides now: fresh processes in turn on one device, then once more for what was not clear.

Each process is a ``measure`` of its own, so that sides may be different revisions of this program or of a user's
kernels. The order is A B, B A, A B, ...: a drift of the machine falls on both sides alike. On a GPU the next process is
started while one measures and held before it touches the device, so that imports cost no time there; on a CPU it would
disturb the one that measures.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import sparsity_roofline
from sparsity_roofline.bench.compare import SAME, Comparison, Rule, compare_sides, read_side
from sparsity_roofline.bench.only import write_cells
from sparsity_roofline.bench.timing.gpu import SETTLE
from sparsity_roofline.model.errors import UserError

Say = Callable[[str], None]
Cells = Sequence[tuple[str, str]]

HANDED_OVER_S = "0.3"
"""Settling time of a process that gets the device from the one before."""
NO_RECORDS = (2, 6)
"""Exit codes of ``measure`` after which there is nothing to compare."""


@dataclass(frozen=True)
class Arm:
    """One side to measure.

    Attributes:
        name: of its folder.
        tree: checkout whose code runs, and the folder it runs in; None for this program where it is.
        environment: further variables.
    """

    name: str
    tree: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    def variables(self) -> dict[str, str]:
        """The environment of its processes: the tree's modules come first, this program's last."""
        own = str(Path(sparsity_roofline.__file__).resolve().parents[1])
        trees = [] if self.tree is None else [str(self.tree / "src"), str(self.tree)]
        paths = [*trees, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)), own]
        return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)), **self.environment}


@dataclass(frozen=True)
class Request:
    """What each process measures.

    Attributes:
        arguments: of ``measure``, without its folder and cells.
        processes: on each side, for each look.
        looks: at most so many times; what is clear after one is not measured again.
        ahead: start the next process before this one ends.
        rule: by which it is judged; its ``looks`` are these.
    """

    arguments: tuple[str, ...]
    processes: int = 5
    looks: int = 2
    ahead: bool = False
    rule: Rule = field(default_factory=Rule)

    def __post_init__(self) -> None:
        if self.processes < 2 or self.looks < 1:
            raise UserError("at least 2 processes a side are needed, and one look")


class Process:
    """A ``measure`` that has been started and waits for ``release``."""

    def __init__(self, arm: Arm, folder: Path, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        self.folder = folder
        self._name = arm.name
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        command = [sys.executable, "-m", "sparsity_roofline", "measure", *arguments, "--no-calibrate", "--hold"]
        self._process = subprocess.Popen(
            [*command, "--json", "--out", str(folder.resolve())],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._said, cwd=arm.tree,
            env={**arm.variables(), **environment},
        )  # fmt: skip

    def release(self) -> None:
        """Let it go on."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it ended before; ``wait`` says how
            self._process.stdin.write(b"\n")
            self._process.stdin.close()

    def wait(self) -> None:
        """Until it has ended.

        Raises:
            UserError: it measured nothing, with what it said last.
        """
        code = self._process.wait()
        if code not in (0, 3, 4):
            self._said.seek(0)
            lines = [line for line in self._said.read().decode(errors="replace").splitlines() if line.strip()]
            said = lines[-1].removeprefix("error: ") if lines else f"exit code {code}"
            hint = " (a revision from before this verb cannot be measured by it)" if "No such option" in said else ""
            raise UserError(f"{self._name}: {said}{hint}", code if code in NO_RECORDS else 2)

    def close(self) -> None:
        """End it, whatever it does."""
        if self._process.poll() is None:
            self._process.terminate()  # ``measure`` ends its worker
            try:
                self._process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._said.close()


def measure_arms(
    arms: Sequence[Arm], out: Path, request: Request, *, look: int = 0, cells: Cells | None = None, say: Say = print
) -> None:
    """``request.processes`` fresh processes of each arm, in turn, into ``out/<arm>/<look>-<turn>``.

    Raises:
        UserError: a process measured nothing.
    """
    arguments = list(request.arguments)
    out.mkdir(parents=True, exist_ok=True)
    if cells is not None:
        named = out / f"cells-{look}.json"
        write_cells(cells, named)
        arguments += ["--cells", str(named.resolve())]
    turns = [(arm, turn) for turn in range(request.processes) for arm in (arms if turn % 2 == 0 else arms[::-1])]

    def start(place: int) -> Process:
        arm, turn = turns[place]
        folder = out / arm.name / f"{look}-{turn:02d}"
        folder.parent.mkdir(parents=True, exist_ok=True)
        return Process(arm, folder, arguments, {} if place == 0 and look == 0 else {SETTLE: HANDED_OVER_S})

    with contextlib.ExitStack() as stack:
        waiting = start(0)
        stack.callback(waiting.close)
        for place, (arm, turn) in enumerate(turns):
            current = waiting
            say(f"look {look + 1}, process {turn + 1} of {request.processes}: {arm.name}")
            current.release()
            more = place + 1 < len(turns)
            if more and request.ahead:
                waiting = start(place + 1)
                stack.callback(waiting.close)
            current.wait()
            if more and not request.ahead:
                waiting = start(place + 1)
                stack.callback(waiting.close)


def compare_arms(
    base: Arm, heads: Sequence[Arm], out: Path, request: Request, *, cells: Cells | None = None, say: Say = print
) -> list[Comparison]:
    """Measure and judge each head against the base. What is not SAME after a look is measured again, on all arms.

    Raises:
        UserError: a process measured nothing; see ``compare.compare``.
    """
    rule = replace(request.rule, looks=request.looks)
    found: list[Comparison] = []
    for look in range(request.looks):
        measure_arms([base, *heads], out, request, look=look, cells=cells, say=say)
        ours = read_side(out / base.name, base.name)
        found = [compare_sides(ours, read_side(out / head.name, head.name), rule) for head in heads]
        cells = flagged(found)
        if not cells:
            break
        if look + 1 < request.looks:
            say(f"{len(cells)} cells are measured again")
    return found


def flagged(comparisons: Sequence[Comparison]) -> list[tuple[str, str]]:
    """Cells that are not SAME in every comparison."""
    seen: dict[tuple[str, str], None] = {}
    for comparison in comparisons:
        cells = comparison.cells[comparison.cells["verdict"] != SAME]
        seen.update(dict.fromkeys(zip(cells["case"], cells["kernel"], strict=True)))
    return list(seen)
