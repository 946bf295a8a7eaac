"""Keeping a calibration: one small JSON file per device, torch version and thread count."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from sparsity_roofline.bench.environment import DeviceKind, device_hash, threads
from sparsity_roofline.model.ceilings import Ceilings
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.home import cache_home

SCHEMA_VERSION = 1

Progress = Callable[[str], None]


def torch_version() -> str:
    """Version of torch: another one brings other libraries, hence other ceilings."""
    try:
        import torch
    except ImportError:
        return "no_library"
    return str(torch.__version__)


def key(device: DeviceKind) -> dict[str, Any]:
    """What a calibration holds for. Threads count on a CPU only."""
    return {
        "schema_version": SCHEMA_VERSION,
        "device": device_hash(device),
        "torch": torch_version(),
        "threads": threads() if device == "cpu" else None,
    }


def path(device: DeviceKind) -> Path:
    """Where the calibration of this device, torch and thread count is kept."""
    digest = hashlib.sha256(json.dumps(key(device), sort_keys=True).encode()).hexdigest()[:12]
    return cache_home() / f"ceilings-{device}-{digest}.json"


def load(device: DeviceKind, progress: Progress | None = None) -> Ceilings | None:
    """The kept ceilings, or None; a file that cannot be used counts as none, with a note."""
    file = path(device)
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        _say_unusable(file, str(error), progress)
        return None
    try:
        data = json.loads(text)
        if data["key"] != key(device):
            raise UserError("it belongs to another device")
        ceilings = Ceilings.from_json(json.dumps(data["ceilings"]))
        if ceilings.kind != "measured":
            raise UserError(f"its kind is {ceilings.kind}")
    except (ValueError, KeyError, TypeError, UserError) as error:
        _say_unusable(file, str(error) or type(error).__name__, progress)
        return None
    return ceilings


def _say_unusable(file: Path, why: str, progress: Progress | None) -> None:
    if progress is not None:
        progress(f"kept calibration {file} is not usable ({why}); it is measured anew")


def save(device: DeviceKind, ceilings: Ceilings, progress: Progress | None = None) -> None:
    """Write atomically: a reader sees the old file or the new one, whole. A folder that cannot be written is a note."""
    file = path(device)
    text = json.dumps({"key": key(device), "ceilings": json.loads(ceilings.to_json())}, indent=2, sort_keys=True)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=file.parent, prefix=file.stem, suffix=".part")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as out:
                out.write(text + "\n")
                out.flush()
                os.fsync(out.fileno())
            os.replace(temporary, file)
        except OSError:
            with suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        if progress is not None:
            progress(f"the calibration cannot be kept in {file.parent}: {error.strerror or error}")
