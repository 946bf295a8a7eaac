"""The runs of one side of a comparison, and whether the two sides may be compared at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from sparsity_roofline.bench import folder as _folder
from sparsity_roofline.bench.store import read_records
from sparsity_roofline.model.errors import UserError

UNLIKE = 4
"""Exit code of two sides that were not measured alike."""

EQUAL = {
    "device": "device",
    "timer": "timer",
    "regime_l2": "cache state",
    "regime_clocks": "clock regime",
    "threads": "number of CPU threads",
}
"""Columns that must agree, and their words."""

_SOFTWARE = ("driver", "torch", "torch_cuda", "triton", "cupy-cuda13x", "cupy-cuda12x", "numpy", "scipy")


@dataclass(frozen=True)
class Side:
    """One side: records of one or more processes.

    Attributes:
        label: how to name it.
        records: all of them, with a column ``process`` (whole numbers from 0).
        devices: hashes of the devices' UUIDs, where the runs say them.
        facts: software and driver versions, name -> values seen.
    """

    label: str
    records: pd.DataFrame
    devices: frozenset[str] = frozenset()
    facts: dict[str, frozenset[str]] = field(default_factory=dict)

    @property
    def processes(self) -> int:
        """How many there are."""
        return int(self.records["process"].nunique()) if len(self.records) else 0


def read_side(where: str | os.PathLike[str] | list[Path], label: str = "") -> Side:
    """A run folder, a file of records, or a folder of run folders (each then is one process).

    A file or folder whose records carry several run ids holds as many processes.

    Raises:
        UserError: nothing there, or not records.
    """
    places = where if isinstance(where, list) else list(_runs(Path(where)))
    frames: list[pd.DataFrame] = []
    devices: set[str] = set()
    facts: dict[str, set[str]] = {}
    number = 0
    for place in places:
        records = read_records(place)
        for _, run in records.groupby("run_id", sort=False):
            frames.append(run.assign(process=number))
            number += 1
        for environment in _environments(place):
            device = environment.get("device", {})
            if isinstance(device, dict) and isinstance(device.get("uuid_hash"), str):
                devices.add(device["uuid_hash"])
            for name, value in _software(environment):
                facts.setdefault(name, set()).add(value)
    if not frames:
        raise UserError(f"{label or where} holds no records: measure first")
    text = label or (Path(where).name if not isinstance(where, list) else "runs")
    kept = {name: frozenset(values) for name, values in facts.items()}
    return Side(text, pd.concat(frames, ignore_index=True), frozenset(devices), kept)


def _runs(path: Path) -> Iterator[Path]:
    """The path itself, or the run folders in it, by name."""
    if not path.is_dir() or any((path / name).exists() for name in (_folder.RECORDS, _folder.PARQUET)):
        yield path
        return
    found = sorted(
        child
        for child in path.iterdir()
        if child.is_dir() and any((child / name).exists() for name in (_folder.RECORDS, _folder.PARQUET))
    )
    if not found:
        raise UserError(f"{path} holds no run: give a run folder, a folder of run folders, a .parquet or a .jsonl")
    yield from found


def _environments(place: Path) -> Iterator[dict[str, Any]]:
    if place.is_dir():
        for file in sorted(place.glob("environment*.json")):
            yield _folder.read_json(file)


def _software(environment: dict[str, Any]) -> Iterator[tuple[str, str]]:
    both = {**environment.get("software", {}), "driver": environment.get("device", {}).get("driver")}
    for name in _SOFTWARE:
        if isinstance(both.get(name), str):
            yield name, both[name]


def require_alike(base: Side, head: Side) -> None:
    """Refuse sides that were measured on different devices, by different timers or under different conditions.

    Raises:
        UserError: exit code 4, with what differs; 2 where one side has no time at all.
    """
    timed = []
    for side in (base, head):
        ok = side.records[side.records["status"] == "ok"]
        if ok.empty:
            raise UserError(f"{side.label} has no record with a time: nothing to compare")
        timed.append(ok)
    for column, word in EQUAL.items():
        ours, theirs = (set(ok[column].dropna().astype(str)) for ok in timed)
        if ours != theirs or len(ours) > 1:
            raise UserError(
                f"cannot compare: {word} is {_words(ours)} in {base.label} and {_words(theirs)} in {head.label}; "
                "measure both sides alike",
                UNLIKE,
            )
    if base.devices and head.devices and base.devices != head.devices:
        raise UserError(
            f"cannot compare: {base.label} and {head.label} were measured on different devices of the same name "
            f"({_words(base.devices)} and {_words(head.devices)}, hashes of their UUIDs); measure both on one",
            UNLIKE,
        )


def differences(base: Side, head: Side) -> list[str]:
    """Other software under the two sides, a line each: it may be the cause of what is seen."""
    names = [name for name in base.facts if name in head.facts and base.facts[name] != head.facts[name]]
    return [f"{name} differs: {_words(base.facts[name])} in {base.label}, {_words(head.facts[name])} in {head.label}"
            for name in names]  # fmt: skip


def _words(values: set[str] | frozenset[str]) -> str:
    return " and ".join(sorted(values)) or "not known"
