"""Downloading a published collection: it can be resumed, is checked, and never lies half done under its name."""

from __future__ import annotations

import errno
import http.client
import json
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sparsity_roofline.bench.matrices.cache import lock
from sparsity_roofline.bench.matrices.files import sha256_of
from sparsity_roofline.model.errors import UserError

PUBLISHED = {"dlmc": "https://storage.googleapis.com/sgk-sc2020/dlmc.tar.gz"}
"""Addresses by collection name. DLMC: as given by google-research/google-research, directory sgk; no checksum is
published, so the first download's is recorded and later ones are held against it."""

CHUNK = 1 << 18
TIMEOUT_S = 30.0
ATTEMPTS = 5
"""Connections in a row that may fail without a single new byte."""

Progress = Callable[[int, int | None], None]
"""Called with bytes so far and bytes in all, if the server says."""


def fetch(
    name: str,
    dest: str | Path,
    url: str | None = None,
    progress: bool | Progress = True,
    *,
    sha256: str | None = None,
    pause_s: float = 1.0,
) -> Path:
    """Download a collection's archive, or finish an interrupted download, and return where it lies.

    A file that is there already is held against its recorded checksum and not downloaded again.

    Args:
        name: a key of ``PUBLISHED``; free where ``url`` is given.
        dest: the file to write, or a directory to put it in.
        progress: a bar on stderr, or a function that is told.
        sha256: what the content must have; by default what ``<file>.sha256`` says, if it is there.
        pause_s: wait before a second attempt; doubles with each further one.

    Raises:
        UserError: unknown name, no such address, connection lost for good, wrong checksum, disk full; with the remedy.
    """
    address = url or PUBLISHED.get(name)
    if address is None:
        raise UserError(f"no collection {name!r} to fetch: choose one of {', '.join(PUBLISHED)}, or give its address")
    if urlsplit(address).scheme not in ("http", "https"):
        raise UserError(f"{address}: only http and https addresses are fetched")
    target = Path(dest).expanduser()
    if target.is_dir() or str(dest).endswith("/"):
        target /= Path(urlsplit(address).path).name or name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with lock(target.with_name(f"{target.name}.lock")):
            return _fetch(address, target, progress, sha256, pause_s)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "free some and repeat: what is there is kept" if full else "choose another place"
        raise UserError(f"{target}: {error.strerror or error}: {remedy}", 4 if full else 2) from None


def _fetch(address: str, target: Path, progress: bool | Progress, sha256: str | None, pause_s: float) -> Path:
    record = target.with_name(f"{target.name}.sha256")
    wanted = (sha256 or _recorded(record) or "").lower()
    if not target.exists():
        part = target.with_name(f"{target.name}.part")
        with _reporter(progress, target.name) as report:
            _download(address, part, report, pause_s)
        found = sha256_of(part)
        if wanted and found != wanted:
            part.unlink()
            _notes(part).unlink(missing_ok=True)
            raise UserError(f"{address}: sha256 {found}, expected {wanted}: the download was removed; repeat it")
        part.replace(target)
        _notes(part).unlink(missing_ok=True)
    else:
        found = sha256_of(target)
        if wanted and found != wanted:
            raise UserError(f"{target}: sha256 {found}, expected {wanted}: delete the file and fetch it again")
    record.write_text(f"{found}  {target.name}\n", encoding="ascii")
    return target


def _download(address: str, part: Path, report: Progress, pause_s: float) -> None:
    """Append to ``part`` until it is whole, over as many connections as it takes."""
    failures = 0
    while True:
        before = _size(part)
        try:
            if _receive(address, part, report):
                return
            reason = "the connection was closed early"
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416:  # nothing beyond what we have: it cannot be the same file
                part.unlink(missing_ok=True)
                _notes(part).unlink(missing_ok=True)
            elif error.code < 500 and error.code not in (408, 429):
                raise UserError(f"{address}: the server says {error.code} {error.reason}: check the address") from None
            reason = f"the server says {error.code} {error.reason}"
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            reason = str(getattr(error, "reason", "") or error or type(error).__name__)
        failures = 0 if _size(part) > before else failures + 1
        if failures >= ATTEMPTS:
            kept = f"; {_size(part)} bytes are kept, repeat the command to go on" if _size(part) else ""
            raise UserError(f"{address}: {reason}, {ATTEMPTS} times in a row{kept}")
        time.sleep(pause_s * 2 ** max(failures - 1, 0))


def _receive(address: str, part: Path, report: Progress) -> bool:
    """One connection; True if the file is whole after it."""
    start, headers = _size(part), {"User-Agent": "sparsity-roofline", "Accept-Encoding": "identity"}
    validator = _validator(part, address)
    if start and validator:
        headers |= {"Range": f"bytes={start}-", "If-Range": validator}
    else:
        start = 0  # without a validator the rest could belong to another version of the file
    request = urllib.request.Request(address, headers=headers)
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
        span = _Span.of(answer, start)
        if span.total is not None:
            free = shutil.disk_usage(part.parent).free
            if span.total - span.start > free:
                raise OSError(errno.ENOSPC, f"{span.total - span.start} bytes to come, {free} free")
        notes = {"url": address, "validator": answer.headers.get("ETag") or answer.headers.get("Last-Modified")}
        _notes(part).write_text(json.dumps(notes), encoding="utf-8")
        with part.open("r+b" if span.start else "wb") as file:
            file.truncate(span.start)
            file.seek(span.start)
            done = span.start
            report(done, span.total)
            while data := answer.read(CHUNK):
                file.write(data)
                done += len(data)
                report(done, span.total)
    if span.total is None:
        return True
    if done > span.total:
        part.unlink()
        raise http.client.HTTPException(f"{done} bytes where {span.total} were announced")
    return done == span.total


@dataclass(frozen=True)
class _Span:
    """Which bytes the server is about to send: from ``start``, of ``total`` if it says."""

    start: int
    total: int | None

    @classmethod
    def of(cls, answer: Any, asked: int) -> _Span:
        if answer.status == 206:
            words = (answer.headers.get("Content-Range") or "").removeprefix("bytes ").partition("/")
            first = words[0].partition("-")[0]
            if not first.isdigit() or int(first) != asked or not words[2].isdigit():
                raise http.client.HTTPException(f"unusable Content-Range {answer.headers.get('Content-Range')!r}")
            return cls(asked, int(words[2]))
        # The server ignores ranges, or the file changed: all of it comes.
        length = answer.headers.get("Content-Length") or ""
        return cls(0, int(length) if length.isdigit() else None)


def _notes(part: Path) -> Path:
    """What has to be known to go on: address and the server's validator."""
    return part.with_name(f"{part.name}.json")


def _validator(part: Path, address: str) -> str | None:
    with suppress(OSError, ValueError, TypeError, AttributeError):
        notes = json.loads(_notes(part).read_text(encoding="utf-8"))
        found = notes.get("validator")
        # A weak ETag promises no identical bytes (RFC 9110, 13.1.5).
        if notes.get("url") == address and isinstance(found, str) and not found.startswith("W/"):
            return found
    return None


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _recorded(record: Path) -> str | None:
    """The digest of a ``.sha256`` file in the form sha256sum writes."""
    with suppress(OSError, UnicodeDecodeError):
        words = record.read_text(encoding="ascii").split()
        if words and len(words[0]) == 64:
            return words[0]
    return None


@contextmanager
def _reporter(progress: bool | Progress, name: str) -> Iterator[Progress]:
    if progress is False:
        yield lambda done, total: None
    elif progress is not True:
        yield progress
    else:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
        from rich.progress import Progress as Bar

        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with Bar(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
            task = bar.add_task(name, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
