"""Which kernels there are, how a user's own joins, and what is said when it cannot."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import torch

from sparsity_roofline.kernels import registry
from sparsity_roofline.kernels.protocol import BaseKernel, Kernel
from sparsity_roofline.kernels.reference import check, oracle
from sparsity_roofline.kernels.registry import load_kernels, select
from sparsity_roofline.model.case import Case
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.matrix import Matrix

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "user_kernel.py"
VENDORS = {"auto", "cublas", "cusparse", "cusparselt", "torch", "torch_tuned", "scipy"}


class Mine(BaseKernel):
    name = "csr.mine"
    format = "csr"


def test_every_built_in_kernel_keeps_the_protocol() -> None:
    kernels = load_kernels()
    assert {"dense.cublas", "dense.triton", "csr.cusparse", "csr.triton", "bsr.cusparse", "bsr.triton"} <= set(kernels)
    assert {"bsr.torch", "nm.cusparselt", "nm.triton", "dense.torch", "csr.torch", "csr.scipy", "bsr.scipy"} <= set(
        kernels
    )
    for name, kernel in kernels.items():
        assert isinstance(kernel, Kernel)
        assert kernel.name == name
        assert name.split(".")[0] == kernel.format
        for device in kernel.devices:
            for dtype in kernel.dtypes:
                assert kernel.unit(dtype, device) in (("cpu",) if device == "cpu" else ("tensor", "cuda"))
        assert kernel.ours == (name.split(".")[1] not in VENDORS)


def test_units_are_the_ones_that_do_the_arithmetic() -> None:
    kernels = load_kernels()
    assert kernels["csr.triton"].unit("fp16", "cuda") == "cuda"
    assert kernels["csr.torch"].unit("fp16", "cuda") == "cuda"
    assert kernels["bsr.triton"].unit("fp16", "cuda") == "tensor"
    assert kernels["bsr.triton"].unit("tf32", "cuda") == "tensor"
    assert kernels["bsr.triton"].unit("fp32", "cuda") == "cuda"
    assert kernels["dense.cublas"].unit("fp32", "cuda") == "cuda"
    assert kernels["csr.scipy"].unit("fp32", "cpu") == "cpu"


def test_listing_imports_no_heavy_library() -> None:
    code = (
        "import json, sys\n"
        "from sparsity_roofline.kernels.registry import load_kernels\n"
        "names = list(load_kernels())\n"
        "heavy = [m for m in ('torch', 'triton', 'scipy', 'cupy', 'nvmath') if m in sys.modules]\n"
        "print(json.dumps([names, heavy]))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
    names, heavy = json.loads(run.stdout)
    assert names == list(load_kernels())
    assert heavy == []


def test_availability_is_explained_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    kernels = load_kernels()
    assert "NVIDIA GPU" in kernels["dense.cublas"].available("cuda").reason
    assert kernels["dense.cublas"].available("cpu").reason == "runs on cuda only"
    assert "TRITON_INTERPRET=1" in kernels["csr.triton"].available("cpu").reason
    assert not kernels["csr.triton"].interpreted
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert kernels["csr.triton"].available("cpu")
    assert kernels["csr.triton"].interpreted


def test_select_by_glob() -> None:
    kernels = load_kernels()
    assert select([], kernels) == list(kernels.values())
    assert [kernel.name for kernel in select(["dense.t*"], kernels)] == ["dense.triton", "dense.torch"]
    assert [kernel.name for kernel in select(["nm.triton", "csr.scipy"], kernels)] == ["csr.scipy", "nm.triton"]
    with pytest.raises(UserError, match=r"no kernel matches 'cssr\.\*': there are dense\.cublas"):
        select(["dense.*", "cssr.*"], kernels)


@pytest.mark.parametrize(
    "spec", [f"{EXAMPLE}:ColumnGather", "examples/user_kernel.py:ColumnGather", "examples.user_kernel:ColumnGather"]
)
def test_the_example_joins_and_is_right(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(EXAMPLE.read_text().splitlines()) < 40
    monkeypatch.chdir(ROOT)
    path = list(sys.path)
    kernel = load_kernels([spec])["csr.gather"]
    assert sys.path == path
    rng = np.random.default_rng(0)
    matrix = Matrix.from_dense("w", (rng.standard_normal((30, 40)) * (rng.random((30, 40)) < 0.3)).astype(np.float32))
    case = Case.of(matrix, 7, "fp32")
    assert kernel.supports(case, "cpu")
    assert not kernel.supports(Case.of(matrix, 7, "fp16"), "cpu")
    x, y = torch.randn(40, 7), torch.full((30, 7), float("nan"))
    prepared = kernel.prepare(matrix, case, "cpu")
    prepared.launch(x, y)
    assert check(y, oracle(matrix, x, "fp32"), "fp32", 40).ok


def test_entry_points_join(monkeypatch: pytest.MonkeyPatch) -> None:
    def points(group: str) -> list[EntryPoint]:
        assert group == "sparsity_roofline.kernels"
        return [EntryPoint("mine", f"{__name__}:Mine", group)]

    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or type(sys)(__name__))
    monkeypatch.setattr(sys.modules[__name__], "Mine", Mine, raising=False)
    monkeypatch.setattr(registry, "entry_points", points)
    assert isinstance(load_kernels()["csr.mine"], Mine)
    monkeypatch.setattr(registry, "entry_points", lambda group: [EntryPoint("gone", "no_such_module:x", group)])
    with pytest.raises(UserError, match=r"entry point gone = no_such_module:x cannot be loaded: ModuleNotFoundError"):
        load_kernels()


def test_a_module_may_list_its_kernels(tmp_path: Path) -> None:
    text = "from sparsity_roofline.kernels.protocol import BaseKernel\n"
    text += (
        "class A(BaseKernel):\n    name, format = 'csr.a', 'csr'\nclass B(A):\n    name = 'csr.b'\nKERNELS = [A, B()]\n"
    )
    (tmp_path / "two.py").write_text(text)
    assert {"csr.a", "csr.b"} <= set(load_kernels([str(tmp_path / "two.py")]))


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("x = 1 +", "K", "importing .* failed: SyntaxError"),
        ("import no_such_thing", "K", "failed: ModuleNotFoundError: No module named 'no_such_thing'"),
        ("x = 1", "K", "has no 'K'; write module:name"),
        ("class K:\n    name = 'csr.k'", "K", "lacks format, version, devices"),
        ("class K:\n    def __init__(self, a): pass", "K", r"K\(\) failed: TypeError"),
        ("{base}class K(BaseKernel):\n    name, format = 'csr.k', 'coo'", "K", "has format 'coo': it must be one of"),
        ("{base}class K(BaseKernel):\n    name, format, dtypes = 'k', 'csr', ('fp61',)", "K", "unknown dtypes fp61"),
        (
            "{base}class K(BaseKernel):\n    name, format = 'csr.torch', 'csr'",
            "K",
            "two kernels are called 'csr.torch'",
        ),
    ],
)
def test_a_kernel_that_cannot_join_says_why(tmp_path: Path, text: str, name: str, message: str) -> None:
    path = tmp_path / "broken.py"
    path.write_text(text.replace("{base}", "from sparsity_roofline.kernels.protocol import BaseKernel\n"))
    with pytest.raises(UserError, match=message):
        load_kernels([f"{path}:{name}"])


def test_specs_that_lead_nowhere() -> None:
    with pytest.raises(UserError, match=r"there is no file nowhere/k\.py"):
        load_kernels(["nowhere/k.py:K"])
    with pytest.raises(UserError, match="importing no_such_module failed"):
        load_kernels(["no_such_module:K"])
