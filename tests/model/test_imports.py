"""The model stands on NumPy and the standard library alone, and its data files travel with it."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import sparsity_roofline.model.networks as networks_package
from sparsity_roofline.model import hardware

MODEL = Path(hardware.__file__).resolve().parent
FILES = sorted(MODEL.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(MODEL)))
def test_imports_numpy_and_the_standard_library_only(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names = [node.module or ""]
        for name in names:
            top, _, rest = name.partition(".")
            if top == "sparsity_roofline":
                assert rest.split(".")[0] == "model", f"{path.name} imports {name}"
            else:
                assert top == "numpy" or top in sys.stdlib_module_names, f"{path.name} imports {name}"


def test_the_walk_sees_the_model() -> None:
    found = {path.name for path in FILES}
    assert {"cost.py", "table.py", "hardware.py", "roofline.py", "ceilings.py", "layers.py"} <= found


def test_predicting_loads_nothing_else() -> None:
    code = (
        "import sys; from sparsity_roofline.model import roofline, hardware, networks; hardware.datasheet('h100'); "
        "networks.load('resnet50'); print([m for m in ('torch', 'scipy', 'pandas', 'triton') if m in sys.modules])"
    )
    source = MODEL.parent.parent if MODEL.parent.name == "sparsity_roofline" else MODEL.parent / "src"
    environment = {**os.environ, "PYTHONPATH": str(source)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.stdout.strip() == "[]", done.stderr


def test_data_files_lie_beside_the_code() -> None:
    assert (MODEL / "hardware.csv").is_file()
    folder = Path(networks_package.__file__).resolve().parent
    assert len(list(folder.glob("*.csv"))) == len(networks_package.names()) == 15
