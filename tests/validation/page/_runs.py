"""Run folders made of hand-made records."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from sparsity_roofline.bench.store import write_records

HOSTILE = (
    "</script><script>alert(1)</script>",
    "<img src=https://evil.example/x onerror=alert(2)>",
    '"><svg onload=alert(3)>',
    "{{ 7 * 7 }}{% include 'x' %}",
    "'-alert(4)-'",
    "a\u2028b\x1b[2J",
    "<!--<script>",
)


def folder(path: Path, records: pd.DataFrame, **run: object) -> Path:
    """A run folder with these records, their environment and what ``run.json`` is to hold beside a command."""
    path.mkdir(parents=True)
    write_records(records, path / "records.parquet")
    said = {"argv": ["sparsity-roofline", "measure"], "suite": "mine", "version": "0.1.0", **run}
    (path / "run.json").write_text(json.dumps(said))
    environment = {"hash": "env-1", "device": {"name": "a GPU", "driver": "1.2"}, "software": {"torch": "2.11.0"}}
    (path / "environment.json").write_text(json.dumps(environment))
    return path
