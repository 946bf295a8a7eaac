"""Errors, lifetimes, handles, bindings and versions of the vendor libraries, without any of them."""

from __future__ import annotations

import gc
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sparsity_roofline.kernels import registry
from sparsity_roofline.kernels._cuda import bindings, handles
from sparsity_roofline.kernels._cuda.cupy_cusparse import CupyCusparse
from sparsity_roofline.kernels._cuda.errors import VendorError, VendorOutOfMemory, VendorUnsupported, translate
from sparsity_roofline.kernels._cuda.lifetime import Resources
from sparsity_roofline.kernels._cuda.operands import Operands, Scalars, scratch, workspace
from sparsity_roofline.kernels._cuda.versions import MISSING, versions
from sparsity_roofline.kernels.protocol import YES, Support

CPU = torch.device("cpu")


def library_error(name: str, status: int | None = None, text: str = "") -> Exception:
    error: Exception = type(name, (Exception,), {})(text)
    if status is not None:
        error.status = status  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (library_error("cuSPARSEError", 2), VendorOutOfMemory, "SpMM failed with status ALLOC_FAILED"),
        (library_error("cuSPARSELtError", 10), VendorUnsupported, "NOT_SUPPORTED"),
        (library_error("cuSPARSEError", 4), VendorUnsupported, "ARCH_MISMATCH"),
        (library_error("cuSPARSEError", 3), VendorError, "INVALID_VALUE"),
        (library_error("cuSPARSEError", 6), VendorError, "EXECUTION_FAILED"),
        (library_error("cuSPARSEError", 99, "odd (99)"), VendorError, "odd"),
        (library_error("CuSparseError", None, "CUSPARSE_STATUS_ALLOC_FAILED: no"), VendorOutOfMemory, "ALLOC_FAILED"),
        (library_error("FunctionNotFoundError", None, "function x is not found"), VendorUnsupported, "no SpMM here"),
    ],
)
def test_statuses_become_exceptions(error: Exception, kind: type[Exception], words: str) -> None:
    found = translate(error, "cuSPARSE", "SpMM")
    assert type(found) is kind
    assert words in str(found)
    assert "cuSPARSE" in str(found)
    assert isinstance(found, MemoryError) == (kind is VendorOutOfMemory)


def test_other_exceptions_stay_what_they_are() -> None:
    error = TypeError("an integer is required")
    assert translate(error, "cuSPARSE", "SpMM") is error
    memory = torch.OutOfMemoryError("CUDA out of memory")
    assert translate(memory, "cuSPARSE", "SpMM") is memory


def test_resources_are_destroyed_once_in_reverse_order() -> None:
    gone: list[int] = []
    resources = Resources()
    for address in (1, 2, 3):
        assert resources.own(address, gone.append) == address
    resources.close()
    resources.close()
    assert gone == [3, 2, 1]


def test_resources_are_destroyed_with_their_owner() -> None:
    gone: list[int] = []
    resources = Resources()
    resources.own(7, gone.append)
    del resources
    gc.collect()
    assert gone == [7]


def test_a_failing_destructor_does_not_stop_the_others() -> None:
    gone: list[int] = []

    def fail(address: int) -> None:
        raise RuntimeError("not in this version")

    resources = Resources()
    resources.own(1, gone.append)
    resources.own(2, fail)
    resources.close()
    assert gone == [1]


def test_a_handle_is_made_once_and_bound_when_the_stream_changes() -> None:
    handles.forget()
    made: list[int] = []
    bound: list[tuple[int, int]] = []

    def create() -> int:
        made.append(40 + len(made))
        return made[-1]

    def set_stream(address: int, stream: int) -> None:
        bound.append((address, stream))

    first = handles.handle("test", CPU, create, set_stream)
    assert handles.handle("test", CPU, create, set_stream) is first
    assert handles.handle("other", CPU, create, set_stream) is not first
    assert [first.use(stream) for stream in (0, 0, 9, 9, 0)] == [40] * 5
    assert bound == [(40, 0), (40, 9), (40, 0)]
    handles.forget()


def test_scalars_lie_beside_each_other() -> None:
    import ctypes

    scalars = Scalars()
    assert ctypes.c_float.from_address(scalars.alpha).value == 1.0
    assert ctypes.c_float.from_address(scalars.beta).value == 0.0


def test_workspace_is_never_a_null_pointer() -> None:
    assert workspace(0, CPU).data_ptr() != 0
    assert workspace(1000, CPU).numel() == 1000


def test_scratch_is_seeded() -> None:
    first, second = (scratch(8, 16, "fp16", CPU, seed=3) for _ in range(2))
    assert torch.equal(first, second)
    assert first.dtype == torch.float16
    assert not torch.equal(first, scratch(8, 16, "fp16", CPU, seed=4))
    assert 0.5 < float(first.float().std()) < 1.5


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (torch.zeros(4, 3), torch.zeros(2, 3), None),
        (torch.zeros(3, 3), torch.zeros(2, 3), "x must be a contiguous"),
        (torch.zeros(4, 3), torch.zeros(2, 3, dtype=torch.float16), "y must be a contiguous"),
        (torch.zeros(3, 4).t(), torch.zeros(2, 3), "strides"),
        (torch.zeros(4, 3), torch.zeros(2, 3, device="meta"), "must be on cpu"),
        (torch.zeros(13)[1:].view(4, 3), torch.zeros(2, 3), "multiple of 16 bytes"),
    ],
)
def test_operands_are_checked(x: torch.Tensor, y: torch.Tensor, words: str | None) -> None:
    operands = Operands(2, 4, 3, "fp32", CPU, alignment=16)
    if words is None:
        operands.check(x, y)
    else:
        with pytest.raises(ValueError, match=words):
            operands.check(x, y)


class Machine:
    """Which packages and libraries the faked machine has."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.modules: dict[str, Any] = {}
        monkeypatch.setattr(bindings, "needs_cuda", lambda: YES)
        monkeypatch.setattr(bindings, "has_module", lambda name: any(m.split(".")[0] == name for m in self.modules))
        monkeypatch.setattr(bindings, "_import", self.find)
        self.forget()

    def find(self, name: str) -> Any:
        module = self.modules[name]
        if isinstance(module, Exception):
            raise module
        return module

    @staticmethod
    def forget() -> None:
        bindings._nvmath.cache_clear()
        bindings._cupy_cusparse.cache_clear()


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    found = Machine(monkeypatch)
    yield found
    Machine.forget()


def nvmath_library(*version: int) -> Any:
    return SimpleNamespace(get_property=lambda part: version[part])


def cupy_modules(number: int = 12603) -> dict[str, Any]:
    low = SimpleNamespace(
        create=lambda: 5,
        destroy=lambda handle: None,
        getVersion=lambda handle: number,
        **dict.fromkeys(("destroySpMat", "destroyDnMat", "dnMatSetValues", "createCsr", "createDnMat")),
    )
    return {"cupy": SimpleNamespace(), "cupy_backends.cuda.libs.cusparse": low}


def test_without_a_gpu_nothing_is_imported(monkeypatch: pytest.MonkeyPatch, machine: Machine) -> None:
    monkeypatch.setattr(bindings, "needs_cuda", lambda: Support("no GPU"))
    machine.modules["nvmath.bindings.cusparse"] = AssertionError("imported")
    assert bindings.cusparse() == "no GPU"
    assert bindings.cusparselt() == "no GPU"


def test_a_missing_binding_is_named_with_its_remedy(machine: Machine) -> None:
    for reason in (bindings.cusparse(), bindings.cusparselt(), bindings.cusparse(complete=False)):
        assert isinstance(reason, str)
        assert "pip install 'sparsity-roofline[gpu]'" in reason


def test_a_broken_install_says_what_broke(machine: Machine) -> None:
    machine.modules["nvmath.bindings.cusparse"] = ImportError("cuda.core is too old\nmore")
    reason = bindings.cusparse()
    assert isinstance(reason, str)
    assert "cannot be imported (ImportError: cuda.core is too old)" in reason
    assert reason.endswith("pip install -U nvmath-python")


def test_a_library_that_does_not_load_is_named(machine: Machine) -> None:
    def fail(part: int) -> int:
        raise RuntimeError("libcusparseLt.so.0 not found")

    machine.modules["nvmath.bindings.cusparseLt"] = SimpleNamespace(get_property=fail)
    reason = bindings.cusparselt()
    assert isinstance(reason, str)
    assert "cannot load libcusparseLt" in reason
    assert "nvidia-cusparselt-cu13" in reason


def test_nvmath_is_preferred_and_cupy_serves_what_it_can(machine: Machine) -> None:
    machine.modules.update(cupy_modules())
    found = bindings.cusparse(complete=False)
    assert isinstance(found, bindings.Binding)
    assert (found.name, found.version, found.complete) == ("cupy", (12, 6, 3), False)
    assert isinstance(bindings.cusparse(), str)
    machine.modules["nvmath.bindings.cusparse"] = nvmath_library(12, 7, 20)
    machine.forget()
    for complete in (True, False):
        found = bindings.cusparse(complete=complete)
        assert isinstance(found, bindings.Binding)
        assert (found.name, found.version_text, found.complete) == ("nvmath", "12.7.20", True)


def test_cupy_version_number_is_taken_apart(machine: Machine) -> None:
    machine.modules.update(cupy_modules(12720))
    found = bindings.cusparse(complete=False)
    assert isinstance(found, bindings.Binding)
    assert found.version == (12, 7, 20)


@pytest.mark.parametrize("modern", [True, False], ids=["from_external", "ExternalStream"])
def test_cupy_enqueues_on_the_stream_it_was_given(modern: bool) -> None:
    current: list[int] = [0]
    seen: list[tuple[str, int, tuple[int, ...]]] = []

    class Stream:
        def __init__(self, address: int) -> None:
            self.address = address

        def __enter__(self) -> None:
            current.append(self.address)

        def __exit__(self, *exc: object) -> None:
            current.pop()

    class Modern(Stream):
        @classmethod
        def from_external(cls, other: Any) -> Stream:
            version, address = other.__cuda_stream__()
            assert version == 0
            return cls(address)

    low = cupy_modules()["cupy_backends.cuda.libs.cusparse"]
    low.spMM_bufferSize = lambda *args: seen.append(("size", current[-1], args)) or 64
    low.spMM = lambda *args: seen.append(("spMM", current[-1], args))
    old = SimpleNamespace(Stream=object, ExternalStream=Stream)
    api = CupyCusparse(SimpleNamespace(cuda=SimpleNamespace(Stream=Modern) if modern else old), low)
    api.set_stream(5, 77)
    assert api.sp_mm_buffer_size(5, 0) == 64
    api.sp_mm(5, 0, 1)
    assert seen == [("size", 77, (5, 0)), ("spMM", 77, (5, 0, 1))]
    assert current == [0]


def test_versions_name_every_library_and_never_raise(machine: Machine) -> None:
    found = versions()
    assert set(found) == {"cusparse", "cusparselt", "nvmath", "cupy"}
    assert found["cusparse"].startswith(MISSING)
    machine.modules["nvmath.bindings.cusparse"] = nvmath_library(12, 6, 3)
    machine.modules["nvmath.bindings.cusparseLt"] = nvmath_library(0, 8, 0)
    machine.forget()
    assert versions()["cusparse"] == "12.6.3"
    assert versions()["cusparselt"] == "0.8.0"


def test_vendor_kernels_are_listed_with_a_reason() -> None:
    kernels = registry.load_kernels()
    for name in ("csr.cusparse", "csr.cusparse.alg1", "csr.cusparse.alg2", "bsr.cusparse", "nm.cusparselt"):
        assert not kernels[name].ours
        assert "cuda only" in kernels[name].available("cpu").reason
        if not torch.cuda.is_available():
            assert "GPU" in kernels[name].available("cuda").reason
