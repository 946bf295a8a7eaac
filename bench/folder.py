"""The folder of one run: one writer, records appended one durable line at a time, resumable after any death.

Layout::

    run.json           what was asked (no paths), plan identity, versions, start and end, summary
    records.jsonl      one record per line, raw samples included; the truth while and after running
    environment.json   machine and software by hash   (``environment-<hash>.json`` where a resumed run found another)
    ceilings.json      the data sheet's and the measured ceilings
    records.parquet    the same records without raw samples, written at the end
    samples.parquet    the raw samples
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from sparsity_roofline.bench.frames import (
    RAW,
    misfit,
    read_parquet_records,
    read_sample_rows,
    records_frame,
    records_table,
    samples_table,
)
from sparsity_roofline.bench.frames import write_parquet as _write_parquet
from sparsity_roofline.model.ceilings import Ceilings
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.record import Record

RECORDS, RUN, PARQUET, SAMPLES = "records.jsonl", "run.json", "records.parquet", "samples.parquet"
ENVIRONMENT, CEILINGS = "environment.json", "ceilings.json"

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a failed write into one clear line.

    Raises:
        UserError: disk full, no permission, or another failure of the file system.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise UserError(
                f"no space left to write {path}: every finished case is kept; free some, then go on with --resume",
                4,
            ) from error
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def parse_lines(data: bytes, path: Path) -> tuple[list[dict[str, Any]], int]:
    """Records of a records.jsonl and the number of bytes that hold whole ones; a torn last line is left out.

    Raises:
        UserError: a line before the last that is not a record.
    """
    records: list[dict[str, Any]] = []
    good = 0
    lines = data.split(b"\n")
    for number, line in enumerate(lines, 1):
        end = good + len(line) + 1
        record = _parse(line) if end <= len(data) else None
        if record is None:
            if line.strip() and any(rest.strip() for rest in lines[number:]):
                raise UserError(f"{path}:{number}: not a record; remove that line, then go on with --resume")
            break
        records.append(record)
        good = end
    return records, good


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and not misfit(value) else None


class RunFolder:
    """One run on disk, opened for writing by this process alone. Use ``RunFolder.open``; close it at the end.

    Attributes:
        path: the folder.
        meta: content of run.json.
        records: every record on disk, as dictionaries, in order.
        torn: the log ended within a line when it was opened; that case is measured again.
    """

    def __init__(self, path: Path, meta: dict[str, Any], fd: int, records: list[dict[str, Any]], size: int) -> None:
        self.path = path
        self.meta = meta
        self.records = records
        self.torn = False
        self._fd = fd
        self._size = size
        self._former: list[int] = []

    @classmethod
    def open(cls, path: str | os.PathLike[str], meta: dict[str, Any], *, resume: bool = False) -> RunFolder:
        """Start a run in an empty or new folder, or go on with one.

        Args:
            meta: what run.json shall say; ``plan`` (identity), ``version`` and ``device_kind`` must agree to go on.

        Raises:
            UserError: the folder holds something else, another plan, version or device, another process writes it, or
                there is nothing in it to go on with.
        """
        path = Path(path)
        if resume and _nothing(path):
            raise UserError(f"{path} holds no run to go on with: check --out, or start a new run without --resume")
        with disk_errors(path):
            path.mkdir(parents=True, exist_ok=True)
        _refuse_foreign(path, resume)
        log = path / RECORDS
        if not log.exists() and (path / PARQUET).exists():
            _restore_log(path)
        with disk_errors(log):
            fd = os.open(log, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            _lock(fd, path)
            _refuse_foreign(path, resume)  # again: only now can nobody else be starting here
            if not _is(fd, log):  # replaced by its writer (``withdraw``) between our opening and our lock
                raise UserError(f"{path} is being written by another process: wait for it or choose another folder")
            if (path / RUN).exists():
                known = read_json(path / RUN)
                _same(path, known, meta)
                meta = {**meta, **known}
            else:
                write_json(path / RUN, meta)
            data = log.read_bytes()
            records, good = parse_lines(data, log)
            os.ftruncate(fd, good)
            os.lseek(fd, good, os.SEEK_SET)
        except BaseException:
            os.close(fd)
            raise
        folder = cls(path, meta, fd, records, good)
        folder.torn = bool(data[good:].strip())
        return folder

    def done(self) -> set[tuple[str, str]]:
        """(case key, kernel) of every record on disk."""
        return {(r["case"], r["kernel"]) for r in self.records}

    def append(self, record: Record) -> None:
        """Add one record; it is on the disk when this returns.

        Raises:
            UserError: the disk is full or cannot be written; what was there before stays whole.
        """
        data = record.to_dict()
        line = json.dumps(data, allow_nan=False, separators=(",", ":")).encode() + b"\n"
        with disk_errors(self.path / RECORDS):
            try:
                view = memoryview(line)
                while view:
                    view = view[os.write(self._fd, view) :]
                os.fsync(self._fd)
            except BaseException as error:  # an interrupt, too, must not leave half a line
                if view or isinstance(error, OSError):
                    os.ftruncate(self._fd, self._size)
                    os.lseek(self._fd, self._size, os.SEEK_SET)
                else:  # interrupted while waiting for the disk: the line is whole, and the case was finished
                    self._size += len(line)
                    self.records.append(data)
                raise
        self._size += len(line)
        self.records.append(data)

    def withdraw(self, keys: Collection[tuple[str, str]]) -> int:
        """Take records out again, all of them or none: both arms of a comparison belong on one device, and the one that
        measured these is gone. Returns how many there were.

        Raises:
            UserError: the disk is full or cannot be written; nothing has changed then.
        """
        log = self.path / RECORDS
        temporary = log.with_name(f".{RECORDS}.tmp")
        lines = log.read_bytes()[: self._size].splitlines(keepends=True)
        kept = [line for line, r in zip(lines, self.records, strict=True) if (r["case"], r["kernel"]) not in keys]
        with disk_errors(log):
            fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
            try:
                with open(fd, "wb", closefd=False) as out:
                    out.write(b"".join(kept))
                os.fsync(fd)
                _lock(fd, self.path)
                os.replace(temporary, log)
            except BaseException:
                os.close(fd)
                temporary.unlink(missing_ok=True)
                raise
        self._former.append(self._fd)  # its lock is held until the end: who has it open must not get it
        self._fd, self._size = fd, sum(map(len, kept))
        self.records = [r for r in self.records if (r["case"], r["kernel"]) not in keys]
        return len(lines) - len(kept)

    def devices(self) -> dict[str, str]:
        """Environment hash -> the hash that identifies its device, of every environment kept here."""
        found = {}
        for file in self.path.glob(f"{Path(ENVIRONMENT).stem}*.json"):
            content = read_json(file)
            device = content.get("device")
            identity = device.get("uuid_hash") if isinstance(device, dict) else None
            found[str(content.get("hash"))] = str(identity or content.get("hash"))
        return found

    def write_evidence(
        self, environment: dict[str, Any], digest: str, datasheet: Ceilings | None, measured: Ceilings | None
    ) -> None:
        """Keep what the records' ``environment`` hash and ceilings stand for. A resumed run that finds another
        environment or calibration adds a file, named by its hash."""
        self._keep(ENVIRONMENT, "hash", digest, {"hash": digest, **environment})
        both = {"datasheet": datasheet, "measured": measured}
        identity = "-".join(c.identity if c else "none" for c in both.values())
        content = {kind: json.loads(c.to_json()) if c else None for kind, c in both.items()}
        self._keep(CEILINGS, "identity", identity, {"identity": identity, **content})

    def _keep(self, name: str, key: str, digest: str, content: dict[str, Any]) -> None:
        target = self.path / name
        if target.exists() and read_json(target).get(key) != digest:
            target = target.with_name(f"{target.stem}-{digest}.json")
        if not target.exists():
            write_json(target, content)

    def reload(self) -> None:
        """Take ``records`` from the disk again, which is the truth if a write was interrupted."""
        self.records, _ = parse_lines((self.path / RECORDS).read_bytes(), self.path / RECORDS)

    def update(self, **meta: Any) -> None:
        """Change run.json."""
        self.meta.update(meta)
        write_json(self.path / RUN, self.meta)

    def finish(self) -> None:
        """Write records.parquet and samples.parquet from every record there is.

        Raises:
            UserError: the disk is full; records.jsonl is complete nevertheless.
        """
        with disk_errors(self.path / PARQUET):
            _write_parquet(records_table(records_frame(self.records)), self.path / PARQUET)
            _write_parquet(samples_table(self.records), self.path / SAMPLES)

    def close(self) -> None:
        """Let go of the folder."""
        for fd in (*self._former, self._fd):
            if fd >= 0:
                os.close(fd)
        self._fd, self._former = -1, []

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _refuse_foreign(path: Path, resume: bool) -> None:
    """A start that was killed before run.json was there leaves an empty log at most: that still counts as empty."""
    names = [p.name for p in path.iterdir() if not p.name.endswith(".tmp")]
    if names == [RECORDS] and (path / RECORDS).stat().st_size == 0:
        return
    if names and not resume:
        raise UserError(f"{path} is not empty: choose another folder, or go on with the run in it by --resume")
    if names and RUN not in names:
        raise UserError(f"{path} holds no run ({RUN} is missing): choose another folder")


def _nothing(path: Path) -> bool:
    """Is there no folder, or one that not even a killed run has touched?"""
    return not path.exists() or (path.is_dir() and not any(path.iterdir()))


def _is(fd: int, path: Path) -> bool:
    """Is the open file the one of that name?"""
    try:
        there, here = os.stat(path), os.fstat(fd)
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)


def _lock(fd: int, path: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise UserError(f"{path} is being written by another process: wait for it or choose another folder") from None


def _same(path: Path, known: dict[str, Any], asked: dict[str, Any]) -> None:
    words = {
        "version": "version of the program",
        "device_kind": "kind of device",
        "plan": "plan (suite, timer, cache state, matrices or kernels)",
    }
    for key, word in words.items():
        if known.get(key) != asked.get(key):
            both = "" if key == "plan" else f": {known.get(key)} there, {asked.get(key)} now"
            raise UserError(f"{path} was made with another {word}{both}; start a new folder")


def _restore_log(path: Path) -> None:
    """A published run keeps Parquet only: rebuild records.jsonl from it so that the run can go on."""
    frame = read_parquet_records(path / PARQUET)
    raw: dict[tuple[str, str], list[float]] = {}
    if (path / SAMPLES).exists():
        for row in read_sample_rows(path / SAMPLES):
            raw[row["case"], row["kernel"]] = row["time_ns"]
    temporary = path / f".{RECORDS}.tmp"
    with disk_errors(path / RECORDS), temporary.open("w", encoding="utf-8") as out:
        for row in records_table(frame).to_pylist():
            row[RAW] = raw.get((row["case"], row["kernel"]), [])
            out.write(json.dumps(row, separators=(",", ":")) + "\n")
    os.replace(temporary, path / RECORDS)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of the run.

    Raises:
        UserError: missing, unreadable or not an object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read {path}: {error}; choose another folder") from None
    if not isinstance(value, dict):
        raise UserError(f"{path} is not a JSON object: choose another folder")
    return value


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    with disk_errors(path):
        try:
            temporary.write_text(json.dumps(value, indent=1, default=str) + "\n", encoding="utf-8")
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
