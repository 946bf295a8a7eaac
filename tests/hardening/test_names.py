"""Names come from files. None may act on a terminal, a table, a spreadsheet, a plot or a path."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from _targets import evil_files, records, tar
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsity_roofline.cli import main
from sparsity_roofline.model.text import printable
from sparsity_roofline.validation import tables

EVIL = [
    "\x1b[2J\x1b]0;owned\x07conv",
    "a\r\nb\x00c\x08",
    "\u202egpj.exe\u2066",
    "[red]x[/red][link=file:///etc/passwd]y[/link]",
    "[/nothing]",
    ":skull:",
    "=cmd|' /C calc'!A0",
    "+1+1",
    "@SUM(A1)",
    "-2+3",
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "![x](http://x/y.png) [x](javascript:alert(1))",
    "a|b\\|c `code` *bold*",
    "$\\frac{1}{$ $x^$",
    "../../../../tmp/escape",
    "/tmp/absolute",
    "\udc80lone",
    "--><script>",
    "%s {0} {name} %n",
    "x" * 3000,
]

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@given(st.text())
@settings(max_examples=300)
def test_printable_prints_and_says_what_was_there(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    if text.isprintable():
        assert shown == text
    assert len(printable(text, 5)) <= 5 * 10 + 3


def renamed(name: str) -> list[dict[str, Any]]:
    """Records whose every free text is ``name``."""
    out = []
    for record in records():
        new = dict(record)
        for field in ("matrix", "network", "layer", "method", "collection", "reason", "pattern"):
            new[field] = name
        new["case"] = f"{name}|{record['case']}"
        if record["format"] != "dense":
            new["kernel"] = f"csr.{name}"
        out.append(new)
    return out


@pytest.mark.parametrize("name", EVIL, ids=range(len(EVIL)))
def test_tables_of_a_run_with_such_names(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    run.mkdir()
    lines = b"".join(json.dumps(r).encode() + b"\n" for r in renamed(name))
    (run / "records.jsonl").write_bytes(lines)
    if "\udc80" in name:  # no text at all
        assert main(["validate", str(run)]) == 2
        assert "not a record" in capsys.readouterr().err
        return
    assert main(["validate", str(run)]) == 0
    out = capsys.readouterr().out
    assert not CONTROL.search(out)
    assert "\x1b" not in out
    for path in run.rglob("*.md"):
        text = path.read_text()
        assert not CONTROL.search(text), path
        assert "<script" not in text, path
        assert "<img" not in text, path
        assert not re.search(r"(?<!\\)\[", text), path
        rows = [line for line in text.splitlines() if line.startswith("|")]
        widths = {len(re.findall(r"(?<!\\)(?:\\\\)*\|", row)) for row in rows}
        assert len(widths) <= 1, f"{path}: a cell ended its row"
    for path in run.rglob("*.csv"):
        for row in csv.reader(io.StringIO(path.read_text())):
            for cell in row:
                assert cell[:1] not in ("=", "+", "@", "\t", "\r"), (path, cell)
                assert not CONTROL.search(cell), (path, cell)
                assert not cell.startswith("-") or re.fullmatch(r"-[\d.e+inf-]*", cell), (path, cell)
    for path in run.rglob("*.svg"):
        text = path.read_text()
        assert "<script" not in text, path
        assert not CONTROL.search(text), path
    names = {p.relative_to(tmp_path).parts[0] for p in tmp_path.rglob("*")}
    assert names == {"run"}


@pytest.mark.parametrize("name", [n for n in EVIL if "\x00" not in n], ids=str.__len__)
def test_listing_layers_with_such_names(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if "\udc80" in name:
        pytest.skip("not UTF-8: the format refuses it")
    from safetensors.numpy import save_file

    file = tmp_path / "model.safetensors"
    save_file({f"{name}.weight": np.eye(4, dtype=np.float32) * 2}, file)
    for words in (["matrices", "list", str(file)], ["matrices", "info", f"checkpoint:{file}", name],
                  ["matrices", "info", f"checkpoint:{file}", name + "!"]):  # fmt: skip
        main(words)
        said = capsys.readouterr()
        for text in said:
            assert not CONTROL.search(text)
    assert main(["matrices", "list", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["name"] == name


def test_errors_about_such_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, name in enumerate(EVIL):
        if "\x00" in name or "\udc80" in name:
            continue
        manifest = tmp_path / f"m{number}.toml"
        manifest.write_text(f"[[matrix]]\npath = {json.dumps(name)}\nlayer = {json.dumps(name)}\npattern = 'nothing'\n")
        assert main(["matrices", "list", f"manifest:{manifest}"]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1, "one line"
        assert not CONTROL.search(error)


def test_progress_takes_such_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with markup in it used to end the bar with a traceback of its own thread."""
    from types import SimpleNamespace

    from rich.console import Console

    from sparsity_roofline.bench.events import Event
    from sparsity_roofline.commands import _progress

    screen = io.StringIO()
    real = Console
    monkeypatch.setattr(
        _progress,
        "Console",
        lambda **more: real(file=screen, force_terminal=True, width=200, **more | {"stderr": False}),
    )
    with _progress.RunProgress() as progress:
        for name in EVIL:
            job: Any = SimpleNamespace(kernel="csr.x", case=SimpleNamespace(matrix=name))
            progress(Event("started", 0, 9, job=job))
            progress(Event("note", 0, 9, text=name))
            assert progress._bar is not None
            progress._bar.refresh()
    text = screen.getvalue()
    assert "\x1b]0;" not in text
    assert "\x1b[2J" not in text
    assert "\x1b]8;" not in text, "a link"


def test_csv_text_that_is_a_formula_is_text(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": ["=1+1", "plain", None], "b": [-1.5, 2.0, 3.0]})
    path = tables.write_csv(frame, tmp_path / "t.csv")
    assert path.read_text() == "a,b\n'=1+1,-1.5\nplain,2\n,3\n"


# -- archives and checkpoints

OUTSIDE = ["../out", "/tmp/hardening-out", "a/../../out", "..", "./../out", "a/b/../../../out", "C:\\out", "\\..\\out"]


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", "w:bz2"])
@pytest.mark.parametrize("name", OUTSIDE)
def test_archives_write_nothing_outside(name: str, mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sparsity_roofline.bench.matrices.opening import open_collection
    from sparsity_roofline.model.errors import UserError

    home = tmp_path / "cache" / "deep" / "home"
    monkeypatch.setenv("SPARSITY_ROOFLINE_HOME", str(home))
    archive = tmp_path / "in" / "a.tar"
    archive.parent.mkdir()
    good = {"dlmc/rn50/m/0.5/conv.smtx": b"1, 1, 0\n0 0 \n\n"}
    archive.write_bytes(tar({name: b"bad", **good}, mode))
    try:
        collection = open_collection(f"dlmc:{archive}")
        for info in collection.infos():
            collection.load(info.name)
    except UserError:
        pass
    found = [p for p in tmp_path.rglob("*") if p.is_file() and p.read_bytes() == b"bad"]
    assert all(home in p.parents for p in found)
    assert not Path("/tmp/hardening-out").exists()


@pytest.mark.parametrize("kind", ["symlink", "hardlink", "device", "fifo"])
def test_archives_make_nothing_but_files(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link to somewhere, then a file through it."""
    import tarfile

    from sparsity_roofline.bench.matrices.opening import open_collection

    home = tmp_path / "home"
    monkeypatch.setenv("SPARSITY_ROOFLINE_HOME", str(home))
    target = tmp_path / "target"
    target.mkdir()
    (target / "secret").write_text("secret")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as out:
        link = tarfile.TarInfo("dlmc/link")
        types = {"symlink": tarfile.SYMTYPE, "hardlink": tarfile.LNKTYPE}
        link.type = types.get(kind, tarfile.CHRTYPE if kind == "device" else tarfile.FIFOTYPE)
        link.linkname = str(target if kind == "symlink" else target / "secret")
        out.addfile(link)
        for name in ("dlmc/link/inside.smtx", "dlmc/rn50/m/0.5/conv.smtx"):
            data = b"1, 1, 0\n0 0 \n\n"
            member = tarfile.TarInfo(name)
            member.size = len(data)
            out.addfile(member, io.BytesIO(data))
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(buffer.getvalue())
    collection = open_collection(f"dlmc:{archive}")
    assert [info.name for info in collection.infos()] == ["rn50/m/0.5/conv"]
    assert [p.name for p in target.iterdir()] == ["secret"]
    for path in home.rglob("*"):
        assert path.is_dir() or path.is_file()
        assert not path.is_symlink()


def test_no_reader_runs_what_a_file_says(tmp_path: Path) -> None:
    from sparsity_roofline.bench.matrices import open_collection, read_matrix
    from sparsity_roofline.bench.matrices.files import peek
    from sparsity_roofline.model.errors import UserError

    mark = tmp_path / "executed"
    files = evil_files(mark)
    for name, data in files.items():
        path = tmp_path / name
        path.write_bytes(data)
        for read in (
            read_matrix,
            peek,
            lambda p: open_collection(str(p)).infos(),
            lambda p: open_collection(f"checkpoint:{p}"),
        ):
            with pytest.raises(UserError):
                read(path)
        assert not mark.exists(), name
    assert len(files) >= 10


def test_names_that_are_no_text_are_left_out(tmp_path: Path) -> None:
    from sparsity_roofline.bench.plan import make_plan
    from sparsity_roofline.bench.suites.load import parse_suite
    from sparsity_roofline.kernels.registry import load_kernels

    folder = tmp_path / "files"
    folder.mkdir()
    for name in (b"good.smtx", b"half\xff.smtx"):
        (folder / name.decode(errors="surrogateescape")).write_bytes(b"2, 3, 2\n0 1 2 \n0 2 \n")
    suite = parse_suite("[[entries]]\ncolumns = [4]\nkernels = ['csr.scipy']\ndtypes = ['fp32']\n", "test")
    plan = make_plan(suite, kernels=load_kernels(), device="cpu", collection=str(folder))
    assert {job.case.matrix for job in plan.jobs} == {"good", "dense/2x3"}
    assert any("1 matrices have names that are not UTF-8" in note for note in plan.notes)
