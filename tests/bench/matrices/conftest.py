"""A cache folder of its own for every test, and a small collection in the published layout of DLMC."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest

CSV_HEAD = (
    "model,quality,path,name,nrows,ncols,nnz,mean_nnz_per_row,std_nnz_per_row,mean_nnz_per_col,std_nnz_per_col,sparsity"
)
MATRICES = {
    "rn50/magnitude_pruning/0.5/initial_conv": (8, 12, 0.5),
    "rn50/magnitude_pruning/0.9/initial_conv": (8, 12, 0.1),
    "rn50/magnitude_pruning/0.9/final_dense": (10, 20, 0.1),
    "transformer/magnitude_pruning/0.9/body_encoder_layer_0_ffn_conv1_fully_connected": (16, 8, 0.1),
    "transformer/variational_dropout/0.98/body_encoder_layer_0_ffn_conv1": (16, 8, 0.0),
}
ABSENT = "rn50/magnitude_pruning/0.5/final_dense"


def smtx_text(mask: np.ndarray) -> str:
    """An .smtx file written the plain way, number by number."""
    offsets, columns = [0], []
    for row in mask:
        columns += [int(j) for j in range(len(row)) if row[j]]
        offsets.append(len(columns))
    lines = [f"{mask.shape[0]}, {mask.shape[1]}, {len(columns)}"]
    lines += ["".join(f"{number} " for number in numbers) for numbers in (offsets, columns)]
    return "\n".join(lines) + "\n"


def masks() -> dict[str, np.ndarray]:
    """The masks of the small collection."""
    random = np.random.default_rng(5)
    return {name: random.random((rows, cols)) < density for name, (rows, cols, density) in MATRICES.items()}


@pytest.fixture(autouse=True)
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "cache-home"
    monkeypatch.setenv("SPARSITY_ROOFLINE_HOME", str(home))
    return home


@pytest.fixture
def dlmc_folder(tmp_path: Path) -> Path:
    """A copy of the layout: five matrices, one of them empty, and one that is listed but not there."""
    root = tmp_path / "data" / "dlmc"
    rows = [CSV_HEAD]
    for number, (name, mask) in enumerate(masks().items()):
        file = root / f"{name}.smtx"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(smtx_text(mask).encode())
        nnz = f"{mask.sum()}.0" if number % 2 else f"{mask.sum()}"  # the published file prints both
        rows.append(f"x,1,dlmc/{name}.smtx,{name},{mask.shape[0]},{mask.shape[1]},{nnz},0,0,0,0,0")
    rows.append(f"x,1,dlmc/{ABSENT}.smtx,{ABSENT},10,20,100.0,0,0,0,0,0")
    (root / "dlmc.csv").write_text("\n".join(rows) + "\n")
    (root / "rn50_batchsizes.txt").write_text("initial_conv,12544\nfinal_dense,1\n")
    (root / "README").write_text("text\n")
    return root


def pack(folder: Path, archive: Path) -> Path:
    """Pack ``folder`` under its own name; the suffix chooses the compression."""
    mode = {".tar": "w", ".gz": "w:gz", ".xz": "w:xz", ".bz2": "w:bz2"}[archive.suffix]
    with tarfile.open(archive, mode) as tar:
        tar.add(folder, arcname=folder.name)
    return archive
