"""What is fuzzed: for each kind of file a few good ones, and a function that reads one as a user's command would.

A target passes if the file is refused by a ``UserError`` of one printable line, or read into something that keeps its
own rules. Anything else (another exception, a signal, a hang, memory beyond the bound) is a finding.
"""

from __future__ import annotations

import io
import json
import pickle
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.matrix import Matrix

SEEDS = 7


@dataclass(frozen=True)
class Target:
    """One kind of file.

    Attributes:
        seeds: makes good files.
        read: takes a folder of its own and the bytes to read.
    """

    seeds: Callable[[], list[bytes]]
    read: Callable[[Path, bytes], None]


def check_matrix(matrix: Matrix) -> None:
    """The rules of ``Matrix``, said once more."""
    rows, cols = matrix.shape
    assert rows >= 0
    assert cols >= 0
    assert matrix.indptr.shape == (rows + 1,)
    assert matrix.indptr[0] == 0
    assert matrix.indptr[-1] == len(matrix.indices) == len(matrix.values)
    assert (np.diff(matrix.indptr) >= 0).all()
    if len(matrix.indices):
        assert matrix.indices.min() >= 0
        assert matrix.indices.max() < cols
        rising = np.diff(matrix.indices) > 0
        starts = matrix.indptr[1:-1]
        rising[starts[(starts > 0) & (starts < len(matrix.indices))] - 1] = True
        assert rising.all()
    assert np.isfinite(matrix.values).all()


def guarded(read: Callable[[Path, bytes], None], folder: Path, data: bytes) -> str:
    """``read``, or ``refused``; a message must be one printable line."""
    from sparsity_roofline.model.text import printable

    try:
        read(folder, data)
    except UserError as error:
        message = str(error)
    else:
        return "read"
    assert printable(message).isprintable()
    assert len(message) < 5000, f"a message of {len(message)} characters"
    return "refused"


# -- matrices


@cache
def _matrix() -> Matrix:
    rng = np.random.default_rng(SEEDS)
    dense = rng.standard_normal((6, 8)).astype(np.float32)
    dense[rng.random((6, 8)) < 0.6] = 0
    dense[2] = 0
    return Matrix.from_dense("seed", dense)


def _written(suffix: str) -> bytes:
    from sparsity_roofline.bench.matrices.files import write_matrix

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"m{suffix}"
        write_matrix(_matrix(), path)
        return path.read_bytes()


def _file(suffix: str) -> Callable[[Path, bytes], None]:
    def read(folder: Path, data: bytes) -> None:
        from sparsity_roofline.bench.matrices.files import peek, read_matrix
        from sparsity_roofline.bench.matrices.opening import open_collection

        path = folder / f"m{suffix}"
        path.write_bytes(data)
        collection = open_collection(str(path))
        names = [info.name for info in collection.infos()]
        for name in names:
            check_matrix(collection.load(name))
        if len(names) > 1:
            return  # a checkpoint of several weights: one has to be named
        found = peek(path)
        matrix = read_matrix(path)
        check_matrix(matrix)
        assert (found.rows, found.cols) == matrix.shape
        assert matrix.nnz <= found.nnz

    return read


def _smtx() -> list[bytes]:
    return [_written(".smtx"), b"% comment\n6 8 3\n0 1 1 2 2 2 3\n0 4 7\n", b"2, 3, 0\n0 0 0 \n\n"]


def _mtx() -> list[bytes]:
    return [
        _written(".mtx"),
        b"%%MatrixMarket matrix coordinate pattern symmetric\n%c\n3 3 2\n1 1\n3 2\n",
        b"%%MatrixMarket matrix array real skew-symmetric\n3 3\n1.5\n-2\n3e2\n",
        b"%%MatrixMarket matrix coordinate integer general\n2 2 1\n1 2 7\n",
    ]


def _mtx_gz() -> list[bytes]:
    import gzip

    return [gzip.compress(data, 9, mtime=0) for data in _mtx()]


def _npz() -> list[bytes]:
    import scipy.sparse as sp

    csr = sp.csr_array((_matrix().values, _matrix().indices, _matrix().indptr), shape=_matrix().shape)
    out = []
    for made in (csr, csr.tocsc(), csr.tocoo(), sp.bsr_array(csr, blocksize=(2, 2)), csr.todia()):
        buffer = io.BytesIO()
        sp.save_npz(buffer, made, compressed=len(out) % 2 == 0)
        out.append(buffer.getvalue())
    return out


def _npy() -> list[bytes]:
    out = []
    for array in (
        np.eye(4, dtype=np.float32),
        np.ones((2, 3, 2), dtype=">f8"),
        np.asfortranarray(np.eye(3, dtype="f2")),
    ):
        buffer = io.BytesIO()
        np.save(buffer, array)
        out.append(buffer.getvalue())
    return out


def _safetensors() -> list[bytes]:
    import torch
    from safetensors.torch import save

    return [
        save(
            {"a.weight": torch.eye(3), "a.weight_mask": torch.eye(3) > 0, "b": torch.ones(2, 2, dtype=torch.bfloat16)}
        ),
        save({"conv.weight": torch.ones(2, 3, 1, 1, dtype=torch.float16)}),
    ]


def _torch() -> list[bytes]:
    import torch

    out = []
    for legacy in (False, True):
        buffer = io.BytesIO()
        state = {"fc.weight": torch.eye(3), "deep": {"x": [torch.ones(2, 2)]}, "step": 3}
        torch.save(state, buffer, _use_new_zipfile_serialization=not legacy)
        out.append(buffer.getvalue())
    return out


# Damage inside a container that is sound itself: random edits of the container seldom pass its checksums.


def _packed_text(folder: Path, data: bytes) -> None:
    import gzip

    _file(".mtx.gz")(folder, gzip.compress(data, 1))


_NPZ_NAMES = {"csr": ("format", "shape", "data", "indices", "indptr"), "coo": ("format", "shape", "data", "row", "col")}


def _npz_arrays() -> list[bytes]:
    out = []
    for data in _npz()[0], _npz()[2]:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = _NPZ_NAMES["coo" if "row.npy" in archive.namelist() else "csr"]
            out.append(b"".join(archive.read(f"{name}.npy") for name in names))
    return out


def _zipped_arrays(folder: Path, data: bytes) -> None:
    pieces = data.split(b"\x93NUMPY")[1:]
    names = _NPZ_NAMES["coo" if b"coo" in data else "csr"]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, piece in zip(names, pieces, strict=False):
            archive.writestr(f"{name}.npy", b"\x93NUMPY" + piece)
    _file(".npz")(folder, buffer.getvalue())


def _torch_pickles() -> list[bytes]:
    with zipfile.ZipFile(io.BytesIO(_torch()[0])) as archive:
        return [archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))]


def _zipped_pickle(folder: Path, data: bytes) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(_torch()[0])) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            new.writestr(name, data if name.endswith("data.pkl") else old.read(name))
    _file(".pt")(folder, buffer.getvalue())


def _mended(data: bytes) -> bytes:
    """A tar archive with the checksums its headers should have."""
    out = bytearray(data)
    for at in range(0, len(out) - 511, 512):
        if out[at + 257 : at + 262] == b"ustar":
            header = out[at : at + 512]
            header[148:156] = b" " * 8
            out[at + 148 : at + 156] = f"{sum(header):06o}\0 ".encode()
    return bytes(out)


def _tar_headers() -> list[bytes]:
    long = {"x" * 150 + "/" + "y" * 90: b"1", "dlmc/rn50/a/0.5/é.smtx": b"1, 1, 0\n0 0 \n\n"}
    return [_mended(tar(_tree())), tar(_tree() | long), tar(_tree() | long, format=tarfile.GNU_FORMAT)]


def _mended_tar(folder: Path, data: bytes) -> None:
    import gzip

    data = _mended(data)
    if sum(data[:512]) % 2:
        _archive(".tar")(folder, data)
    else:
        _archive(".tar.gz")(folder, gzip.compress(data, 1))


# -- archives and lists


def _tree() -> dict[str, bytes]:
    return {
        "dlmc/dlmc.csv": b"path,name,nrows,ncols,nnz\ndlmc/rn50/magnitude_pruning/0.5/conv.smtx,x,2,3,2\n"
        b"dlmc/rn50/magnitude_pruning/0.9/gone.smtx,x,4,4,1.0\n",
        "dlmc/rn50_batchsizes.txt": b"conv,49\n",
        "dlmc/rn50/magnitude_pruning/0.5/conv.smtx": b"2, 3, 2\n0 1 2 \n0 2 \n",
    }


def tar(files: dict[str, bytes], mode: str = "w", format: int = tarfile.PAX_FORMAT) -> bytes:
    """An archive of these files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, format=format) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def _tar() -> list[bytes]:
    return [tar(_tree())]


def _tar_gz() -> list[bytes]:
    return [tar(_tree(), "w:gz"), tar(_tree(), "w:xz")]


def _archive(suffix: str) -> Callable[[Path, bytes], None]:
    def read(folder: Path, data: bytes) -> None:
        from sparsity_roofline.bench.matrices.opening import open_collection

        path = folder / "in" / f"a{suffix}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        collection = open_collection(f"dlmc:{path}")
        for info in collection.infos():
            if info.present:
                check_matrix(collection.load(info.name))
        assert [p.name for p in folder.iterdir() if p.name not in ("in", "home")] == [], "written outside"

    return read


def _listing(folder: Path, data: bytes) -> None:
    from sparsity_roofline.bench.matrices.opening import open_collection

    for name, content in _tree().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    head, _, rest = data.partition(b"\n\n")
    (folder / "dlmc/dlmc.csv").write_bytes(head)
    (folder / "dlmc/rn50_batchsizes.txt").write_bytes(rest)
    collection = open_collection(f"dlmc:{folder / 'dlmc'}")
    for info in collection.infos():
        if info.present:
            check_matrix(collection.load(info.name))


def _listings() -> list[bytes]:
    return [_tree()["dlmc/dlmc.csv"] + b"\n" + _tree()["dlmc/rn50_batchsizes.txt"]]


def _manifests() -> list[bytes]:
    return [
        b'name = "p"\nroot = "files"\n[defaults]\nnetwork = "n"\n[columns_per_image]\nc = 7\n'
        b'[[matrix]]\npath = "c.smtx"\nlayer = "c"\nsparsity = 0.5\npattern = "unstructured"\nrows = 2\n',
        b'root = "files"\n[[rule]]\nglob = "**/*.smtx"\nregex = \'(?P<layer>.+)\\.smtx\'\n[rule.map.layer]\nc = "C"\n',
        b'root = "files"\ncsv = "rows.csv"\n',
    ]


def _manifest(folder: Path, data: bytes) -> None:
    from sparsity_roofline.bench.matrices.opening import open_collection

    (folder / "files").mkdir(exist_ok=True)
    (folder / "files" / "c.smtx").write_bytes(_tree()["dlmc/rn50/magnitude_pruning/0.5/conv.smtx"])
    (folder / "rows.csv").write_bytes(b"path,layer\nc.smtx,c\n")
    (folder / "m.toml").write_bytes(data)
    collection = open_collection(f"manifest:{folder / 'm.toml'}")
    for info in collection.infos():
        if info.present:
            check_matrix(collection.load(info.name))


def _suites() -> list[bytes]:
    from sparsity_roofline.bench import suites

    return [p.read_bytes() for p in sorted(Path(str(suites.__file__)).parent.glob("*.toml"))]


def _suite(folder: Path, data: bytes) -> None:
    from sparsity_roofline.bench.suites import load_suite

    (folder / "s.toml").write_bytes(data)
    load_suite(str(folder / "s.toml"))


# -- the record store


@cache
def records() -> list[dict[str, object]]:
    from sparsity_roofline.model.case import Case
    from sparsity_roofline.model.record import TIMING_FIELDS, Record

    out = []
    for N in (16, 32):
        for format, kernel in (("dense", "dense.torch"), ("csr", "csr.scipy")):
            dense = format == "dense"
            case = Case("c", f"m{N}", 8, 8, N, "dense" if dense else "unstructured", format, "fp32", 64 if dense else 9)
            record = Record(
                "ok", case=case.key, kernel=kernel, error_rms=1e-7, device="CPU", environment="e", run_id="r"
            )
            for name in ("collection", "matrix", "M", "K", "N", "pattern", "format", "dtype", "nnz", "density"):
                setattr(record, name, getattr(case, name))
            for name in TIMING_FIELDS:
                setattr(record, name, 1000.0)
            record.samples, record.kernels_per_call, record.stop_reason = 3, 1, "samples"
            record.sol_paper_measured_ns = record.sol_unit_measured_ns = record.sol_bound_measured_ns = 100.0
            record.ceilings_measured, record.timer, record.regime_l2 = "x", "monotonic", "cold-clean"
            record.raw_samples_ns = [1000.0] * 3
            out.append(record.to_dict())
    return out


def _jsonl_seeds() -> list[bytes]:
    lines = b"".join(json.dumps(r).encode() + b"\n" for r in records())
    return [lines, lines[:-20]]


def _jsonl(folder: Path, data: bytes) -> None:
    """Read it, and go on with its run."""
    from sparsity_roofline.bench.folder import RunFolder
    from sparsity_roofline.bench.store import read_records, read_samples

    run = folder / "run"
    run.mkdir(exist_ok=True)
    (run / "records.jsonl").write_bytes(data)
    (run / "run.json").write_text(json.dumps({"plan": "p", "run_id": "r"}))
    frame = read_records(run)
    read_samples(run)
    with RunFolder.open(run, {"plan": "p"}, resume=True) as opened:
        assert len(opened.done()) <= len(opened.records) == len(frame)
        opened.finish()
    assert read_records(run / "records.parquet").equals(frame)


def _validated(folder: Path, data: bytes) -> None:
    """Tables and figures of whatever can be read."""
    from sparsity_roofline.bench.store import read_records
    from sparsity_roofline.validation.report import validate

    (folder / "records.jsonl").write_bytes(data)
    validate(read_records(folder), folder / "out", resamples=10, plots=False)


def _parquet_seeds() -> list[bytes]:
    from sparsity_roofline.bench.frames import records_frame, records_table, samples_table, write_parquet

    out = []
    with tempfile.TemporaryDirectory() as folder:
        for table in (records_table(records_frame(records())), samples_table(records())):
            write_parquet(table, Path(folder) / "t.parquet")
            out.append((Path(folder) / "t.parquet").read_bytes())
    return out


def _parquet(folder: Path, data: bytes) -> None:
    from sparsity_roofline.bench.store import read_records, read_samples

    path = folder / "t.parquet"
    path.write_bytes(data)
    for read in (read_records, read_samples):
        try:
            read(path)
        except UserError as error:
            last = error
        else:
            return
    raise last


def _run_json_seeds() -> list[bytes]:
    return [b'{"plan": "p", "run_id": "r", "version": "1", "device_kind": "cpu", "seconds": 1.5}', b"{}"]


def _run_json(folder: Path, data: bytes) -> None:
    """The file that says what run it is."""
    from sparsity_roofline.bench.folder import RunFolder

    run = folder / "run"
    run.mkdir(exist_ok=True)
    (run / "records.jsonl").write_bytes(_jsonl_seeds()[0])
    (run / "run.json").write_bytes(data)
    (run / "environment.json").write_bytes(data)
    asked = {"plan": "p", "version": "1", "device_kind": "cpu"}
    with RunFolder.open(run, asked, resume=True) as opened:
        opened.devices()
        opened.update(seconds=2.0)
        opened.write_evidence({"device": {}}, "e", None, None)


def _ceilings_seeds() -> list[bytes]:
    from sparsity_roofline.model.ceilings import Ceilings

    return [Ceilings("GPU", "measured", {"fp32_flops": 1e12}, 1e11).to_json().encode()]


def _ceilings(folder: Path, data: bytes) -> None:
    from sparsity_roofline.model.ceilings import Ceilings

    try:
        text = data.decode()
    except UnicodeDecodeError:
        return
    Ceilings.from_json(text)


TARGETS: dict[str, Target] = {
    "smtx": Target(_smtx, _file(".smtx")),
    "mtx": Target(_mtx, _file(".mtx")),
    "mtx.gz": Target(_mtx_gz, _file(".mtx.gz")),
    "mtx.gz text": Target(_mtx, _packed_text),
    "npz": Target(_npz, _file(".npz")),
    "npz arrays": Target(_npz_arrays, _zipped_arrays),
    "npy": Target(_npy, _file(".npy")),
    "safetensors": Target(_safetensors, _file(".safetensors")),
    "torch": Target(_torch, _file(".pt")),
    "torch pickle": Target(_torch_pickles, _zipped_pickle),
    "unnamed": Target(lambda: [*_smtx(), *_mtx(), *_npy(), *_safetensors(), *_torch()], _file("")),
    "tar": Target(_tar, _archive(".tar")),
    "tar.gz": Target(_tar_gz, _archive(".tar.gz")),
    "tar headers": Target(_tar_headers, _mended_tar),
    "dlmc listing": Target(_listings, _listing),
    "manifest": Target(_manifests, _manifest),
    "suite": Target(_suites, _suite),
    "records.jsonl": Target(_jsonl_seeds, _jsonl),
    "validate": Target(_jsonl_seeds, _validated),
    "records.parquet": Target(_parquet_seeds, _parquet),
    "run.json": Target(_run_json_seeds, _run_json),
    "ceilings": Target(_ceilings_seeds, _ceilings),
}


class Evil:
    """What it would do if it were ever unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.mark,)


def evil_files(mark: Path) -> dict[str, bytes]:
    """Files that run code in any reader that unpickles without care; ``mark`` then exists."""
    import torch

    evil = pickle.dumps(Evil(mark))
    zipped = io.BytesIO()
    torch.save({"w": torch.eye(2), "x": Evil(mark)}, zipped)
    legacy = io.BytesIO()
    torch.save({"w": torch.eye(2), "x": Evil(mark)}, legacy, _use_new_zipfile_serialization=False)
    objects = io.BytesIO()
    np.save(objects, np.array([[Evil(mark)]], dtype=object), allow_pickle=True)
    npz = io.BytesIO()
    with zipfile.ZipFile(npz, "w") as archive:
        for name in ("format", "shape", "data", "indices", "indptr"):
            archive.writestr(f"{name}.npy", objects.getvalue())
    return {
        "plain.pt": evil,
        "plain.pth": evil,
        "plain.bin": evil,
        "zip.pt": zipped.getvalue(),
        "legacy.ckpt": legacy.getvalue(),
        "objects.npy": objects.getvalue(),
        "objects.npz": npz.getvalue(),
        "pickle.npy": evil,
        "pickle.npz": evil,
        "pickle.safetensors": evil,
    }
