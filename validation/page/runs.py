"""The runs of a report: their records as one table, and for each where it comes from."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.text import printable

SHOWN_VERSIONS = ("python", "torch", "triton", "numpy", "nvidia-cublas", "nvidia-cusparse", "nvidia-cusparselt-cu13")
"""Software that decides a time; everything else is in the run's environment.json."""

LONGEST = 300
"""Characters of a text from a file that the page shows."""


@dataclass
class Run:
    """One run of a report.

    Attributes:
        label: the last two names of its path, unique in the report.
        records: as they were read. ids: run ids in them. environments: their hashes.
        facts: provenance, name -> text: command, dates, device, driver, versions, commit, files.
    """

    label: str
    records: pd.DataFrame
    ids: list[str]
    environments: list[str]
    facts: dict[str, str] = field(default_factory=dict)


def read_runs(sources: Sequence[str | os.PathLike[str]]) -> list[Run]:
    """Read run folders or files of records, in the order given.

    Raises:
        UserError: none given, no records there, or the same run twice.
    """
    from sparsity_roofline.bench.store import read_records

    if not sources:
        raise UserError("name a run: a run folder, or its records.parquet or records.jsonl")
    paths = [Path(source) for source in sources]
    runs: list[Run] = []
    seen: dict[str, str] = {}
    for path, label in zip(paths, _labels(paths), strict=True):
        records = read_records(path)
        ids = sorted({printable(str(v)) for v in records.get("run_id", pd.Series(dtype=object)).dropna()} - {""})
        for one in ids:
            if one in seen:
                raise UserError(f"{label} and {seen[one]} are the same run ({one}): name it once")
            seen[one] = label
        hashes = sorted({printable(str(v)) for v in records.get("environment", pd.Series(dtype=object)).dropna()})
        folder = path if path.is_dir() else path.parent
        runs.append(Run(label, records, ids, hashes, _facts(folder, path, records)))
    return runs


def together(runs: Sequence[Run]) -> pd.DataFrame:
    """All records as one table with a fresh index."""
    # A column that is empty in one run must not decide the type it has in another.
    return pd.concat([run.records.astype(object) for run in runs], ignore_index=True)


def number_in_run(pairs: pd.DataFrame, runs: Sequence[Run]) -> pd.DataFrame:
    """Pairs with ``record`` and ``dense_row``: the rows of both sides in their run's own records, from 0."""
    first = np.cumsum([0, *(len(run.records) for run in runs)])[:-1]

    def within(labels: pd.Series[int]) -> np.ndarray:
        at = labels.to_numpy(np.int64)
        return np.asarray(at - first[np.searchsorted(first, at, side="right") - 1])

    return pairs.assign(record=within(pairs["sparse_record"]), dense_row=within(pairs["dense_record"]))


def label_of(runs: Sequence[Run]) -> dict[str, str]:
    """Run id -> label."""
    return {one: run.label for run in runs for one in run.ids}


def _labels(paths: Sequence[Path]) -> list[str]:
    """The last two names of each path: a device and a run in this repository's results; numbered where they repeat."""
    out: list[str] = []
    for path in paths:
        folder = path.resolve() if path.is_dir() else path.resolve().parent
        name = printable("/".join(folder.parts[-2:]).lstrip("/"), LONGEST)
        again = sum(1 for other in out if other == name or other.startswith(f"{name} ("))
        out.append(f"{name} ({again + 1})" if again else name)
    return out


def _facts(folder: Path, path: Path, records: pd.DataFrame) -> dict[str, str]:
    run, environment = _json(folder / "run.json"), _json(folder / "environment.json")
    device, software = _part(environment, "device"), _part(environment, "software")
    versions = {name: software[name] for name in SHOWN_VERSIONS if software.get(name)}
    versions |= {f"library {k}": v for k, v in _part(software, "libraries").items()}
    argv = run.get("argv")
    found: dict[str, Any] = {
        "records": f"{len(records)} in {path.name if path.is_file() else 'records.parquet or records.jsonl'}",
        "command": " ".join(str(part) for part in argv) if isinstance(argv, list) else "",
        "suite": run.get("suite", ""),
        "started": run.get("started", ""),
        "finished": run.get("finished", ""),
        "program": run.get("version", ""),
        "device": device.get("name", run.get("device", "")),
        "driver": device.get("driver", ""),
        "power limit, W": device.get("power_limit_w", ""),
        "commit": _part(environment, "source").get("commit", ""),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }
    return {name: printable(str(value), LONGEST) for name, value in found.items() if value not in ("", None)}


def _part(data: dict[str, Any], name: str) -> dict[str, Any]:
    found = data.get(name)
    return found if isinstance(found, dict) else {}


def _json(path: Path) -> dict[str, Any]:
    """What the file holds; nothing where it is missing or no JSON object: records alone make a report too."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
