from __future__ import annotations

import errno
import hashlib
import re
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from sparsity_roofline.bench.matrices import fetch as fetch_function
from sparsity_roofline.bench.matrices import open_collection
from sparsity_roofline.model.errors import UserError

from .conftest import pack

CONTENT = np.random.default_rng(0).bytes(1_000_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves ``content`` at /data.bin; a test sets how it misbehaves and reads what was asked."""

    daemon_threads = True
    content = CONTENT
    etag: str | None = '"v1"'
    ranges = True
    cut_after: int | None = None  # bytes of each answer before the connection drops
    cuts = 10**9  # answers that are cut
    failures: list[int]  # status codes of the next answers
    lie: str | None = None  # a false Content-Range
    lengthless = False
    requests: list[str]  # the Range header of every request, "" if none

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/data.bin"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        server, asked = self.server, self.headers.get("Range", "")
        server.requests.append(asked)
        if server.failures or self.path != "/data.bin":
            self.send_error(server.failures.pop(0) if server.failures else 404)
            return
        start = 0
        match = re.fullmatch(r"bytes=(\d+)-", asked)
        if match and server.ranges and self.headers.get("If-Range") == server.etag:
            start = int(match[1])
            if start >= len(server.content):
                self.send_error(416)
                return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        if start:
            end = len(server.content)
            self.send_header("Content-Range", server.lie or f"bytes {start}-{end - 1}/{end}")
        if not server.lengthless:
            self.send_header("Content-Length", str(len(body)))
        if server.etag:
            self.send_header("ETag", server.etag)
        self.end_headers()
        if server.cut_after is not None and server.cuts > 0:
            server.cuts -= 1
            body = body[: server.cut_after]
        self.wfile.write(body)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server(("127.0.0.1", 0), Handler)
    server.failures, server.requests = [], []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def fetch(server: Server, dest: Path, **more: object) -> Path:
    more.setdefault("progress", False)
    return fetch_function("dlmc", dest, server.url, pause_s=0.0, **more)


def test_whole_file_with_recorded_checksum(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    path = fetch(server, tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert path == tmp_path / "data.bin"
    assert path.read_bytes() == CONTENT
    assert (tmp_path / "data.bin.sha256").read_text() == f"{DIGEST}  data.bin\n"
    assert seen[0] == (0, len(CONTENT))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert sorted(p.name for p in tmp_path.iterdir() if "part" in p.name) == []


def test_a_file_that_is_there_is_not_downloaded_again_but_checked(server: Server, tmp_path: Path) -> None:
    path = fetch(server, tmp_path / "new" / "name.bin")
    assert path.name == "name.bin"
    assert len(server.requests) == 1
    assert fetch(server, path) == path
    assert len(server.requests) == 1
    path.write_bytes(b"damaged")
    with pytest.raises(UserError, match="delete the file and fetch it again"):
        fetch(server, path)
    assert path.read_bytes() == b"damaged"


def test_dropped_connections_are_resumed_at_once(server: Server, tmp_path: Path) -> None:
    server.cut_after = 300_000
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.requests == ["", "bytes=300000-", "bytes=600000-", "bytes=900000-"]


def test_an_interrupted_program_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    def interrupt(done: int, _: int | None) -> None:
        if done >= 500_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(server, tmp_path, progress=interrupt)
    assert not (tmp_path / "data.bin").exists()
    kept = (tmp_path / "data.bin.part").stat().st_size
    assert kept >= 500_000
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.requests == ["", f"bytes={kept}-"]


def test_a_server_that_ignores_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    server.ranges, server.cut_after, server.cuts = False, 300_000, 2
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.requests == ["", "bytes=300000-", "bytes=300000-"]


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_a_strong_validator_it_starts_over(server: Server, tmp_path: Path, etag: str | None) -> None:
    server.etag, server.cut_after, server.cuts = etag, 300_000, 1
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.requests == ["", ""]


def test_a_file_that_changed_on_the_server_is_not_mixed(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data.bin.part").write_bytes(b"old" * 1000)
    (tmp_path / "data.bin.part.json").write_text(f'{{"url": "{server.url}", "validator": "\\"v0\\""}}')
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.requests == ["bytes=3000-"]


def test_a_part_longer_than_the_file_is_thrown_away(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data.bin.part").write_bytes(CONTENT + b"more")
    (tmp_path / "data.bin.part.json").write_text(f'{{"url": "{server.url}", "validator": "\\"v1\\""}}')
    assert fetch(server, tmp_path).read_bytes() == CONTENT


def test_a_wrong_range_in_the_answer_is_not_written(server: Server, tmp_path: Path) -> None:
    server.cut_after, server.cuts, server.lie = 300_000, 1, "bytes 5-999999/1000000"
    with pytest.raises(UserError, match=r"unusable Content-Range.*300000 bytes are kept"):
        fetch(server, tmp_path)


def test_an_answer_without_length_is_taken_as_it_ends(server: Server, tmp_path: Path) -> None:
    server.lengthless = True
    assert fetch(server, tmp_path, sha256=DIGEST.upper()).read_bytes() == CONTENT


def test_wrong_checksum_removes_the_download(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"sha256 {DIGEST}, expected {'0' * 64}: the download was removed"):
        fetch(server, tmp_path, sha256="0" * 64)
    assert [p.name for p in tmp_path.iterdir() if p.suffix != ".lock" and p.is_file()] == []
    (tmp_path / "data.bin.sha256").write_text(f"{'1' * 64}  data.bin\n")
    with pytest.raises(UserError, match="expected 1111"):
        fetch(server, tmp_path)


def test_no_such_address_is_said_at_once(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the server says 404 Not Found: check the address"):
        fetch_function("dlmc", tmp_path, server.url.replace("data", "nothing"), progress=False)
    assert len(server.requests) == 1


def test_passing_trouble_of_the_server_is_waited_out(server: Server, tmp_path: Path) -> None:
    server.failures = [503, 429, 500]
    assert fetch(server, tmp_path).read_bytes() == CONTENT


def test_lasting_trouble_ends_in_one_line(server: Server, tmp_path: Path) -> None:
    server.failures = [503] * 20
    with pytest.raises(UserError, match="503 Service Unavailable, 5 times in a row") as caught:
        fetch(server, tmp_path)
    assert "\n" not in str(caught.value)
    server.server_close()
    with pytest.raises(UserError, match="times in a row"):
        fetch_function("x", tmp_path, "http://127.0.0.1:9/x", progress=False, pause_s=0.0)


def test_a_full_disk_keeps_what_is_there(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil._ntuple_diskusage(10, 10, 10)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage)
        with pytest.raises(UserError, match="1000000 bytes to come, 10 free: free some"):
            fetch(server, tmp_path)
    calls = []

    def full(done: int, _: int | None) -> None:
        calls.append(done)
        if done > 400_000:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(UserError, match="No space left on device: free some and repeat"):
        fetch(server, tmp_path, progress=full)
    kept = (tmp_path / "data.bin.part").stat().st_size
    assert kept >= calls[-1]
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.requests[-1] == f"bytes={kept}-"


def test_names_and_addresses(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no collection 'other' to fetch: choose one of dlmc"):
        fetch_function("other", tmp_path)
    with pytest.raises(UserError, match="only http and https"):
        fetch_function("dlmc", tmp_path, "file:///etc/passwd")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="choose another place"):
        fetch_function("dlmc", tmp_path / "file" / "below", "http://127.0.0.1:9/x")


def test_a_bar_goes_to_stderr(server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    fetch(server, tmp_path, progress=True)
    printed = capfd.readouterr()
    assert printed.out == ""
    assert "data.bin" in printed.err


def test_what_is_fetched_can_be_opened(server: Server, tmp_path: Path, dlmc_folder: Path) -> None:
    server.content = pack(dlmc_folder, tmp_path / "dlmc.tar.gz").read_bytes()
    assert len(open_collection(f"dlmc:{fetch(server, tmp_path / 'got.tar.gz')}").infos()) == 6
