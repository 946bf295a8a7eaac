"""A plan cut to named cells, and the small file that names them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sparsity_roofline.model.errors import UserError

if TYPE_CHECKING:
    from sparsity_roofline.bench.plan import Plan


def only(plan: Plan, cells: Iterable[tuple[str, str]]) -> Plan:
    """The jobs of a plan whose (case key, kernel) is among ``cells``, in the plan's order.

    Raises:
        UserError: none is.
    """
    wanted = set(cells)
    jobs = [job for job in plan.jobs if job.key in wanted]
    if not jobs:
        raise UserError(f"none of the {len(wanted)} cells asked for is in suite {plan.suite.name} here")
    return replace(plan, jobs=jobs)


def write_cells(cells: Iterable[tuple[str, str]], path: Path) -> None:
    """Write cells as a JSON list of [case key, kernel]."""
    path.write_text(json.dumps([list(cell) for cell in cells], indent=0) + "\n", encoding="utf-8")


def read_cells(path: str | os.PathLike[str]) -> list[tuple[str, str]]:
    """Cells that ``write_cells`` wrote.

    Raises:
        UserError: unreadable, or another content.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read cells from {path}: {error}") from None
    good = isinstance(content, list) and all(
        isinstance(cell, list) and len(cell) == 2 and all(isinstance(part, str) for part in cell) for cell in content
    )
    if not good:
        raise UserError(f"{path} is no list of cells: it must be JSON, [[case, kernel], ...]")
    return [(case, kernel) for case, kernel in content]
