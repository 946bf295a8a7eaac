"""Which Python bindings of cuSPARSE and cuSPARSELt this machine has, and why one is missing.

nvmath-python's low-level bindings offer every call that the kernels need. CuPy's own offer CSR SpMM, but neither its
preprocessing step nor BSR. So nvmath-python is used where it is installed; where only CuPy is, it serves the one
algorithm that needs no preprocessing. Which binding ran is part of a kernel's config.
"""

from __future__ import annotations

import importlib
import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any

from sparsity_roofline.kernels.support import has_module, needs_cuda

INSTALL_NVMATH = "needs nvmath-python: pip install 'sparsity-roofline[gpu]'"
INSTALL_ANY = "needs nvmath-python or CuPy: pip install 'sparsity-roofline[gpu]'"


@dataclass(frozen=True)
class Binding:
    """One way to call a library.

    Attributes:
        name: ``nvmath`` or ``cupy``.
        api: object with nvmath-python's function names.
        version: the library's (major, minor, patch).
        complete: False if preprocessing and BSR are missing.
    """

    name: str
    api: Any
    version: tuple[int, int, int]
    complete: bool = True

    @property
    def version_text(self) -> str:
        """The library's version as ``12.6.3``."""
        return ".".join(map(str, self.version))


def cusparse(*, complete: bool = True) -> Binding | str:
    """The cuSPARSE binding, or the reason why there is none.

    Args:
        complete: preprocessing or BSR is needed.
    """
    if reason := needs_cuda().reason:
        return reason
    found = _nvmath("cusparse")
    if isinstance(found, Binding) or complete:
        return found
    spare = _cupy_cusparse()
    if isinstance(spare, Binding) or found == INSTALL_NVMATH:
        return spare
    return found


def cusparselt() -> Binding | str:
    """The cuSPARSELt binding, or the reason why there is none."""
    return needs_cuda().reason or _nvmath("cusparseLt")


@cache
def _nvmath(library: str) -> Binding | str:
    if not has_module("nvmath"):
        return INSTALL_NVMATH
    try:
        api = _import(f"nvmath.bindings.{library}")
    except Exception as error:
        return f"nvmath-python is installed but cannot be imported ({_short(error)}): pip install -U nvmath-python"
    try:
        version = tuple(int(api.get_property(part)) for part in range(3))
    except Exception as error:
        package = "nvidia-cusparselt-cu13" if library == "cusparseLt" else "nvidia-cusparse"
        return f"nvmath-python cannot load lib{library} ({_short(error)}): pip install {package}"
    return Binding("nvmath", api, (version[0], version[1], version[2]))


@cache
def _cupy_cusparse() -> Binding | str:
    if not has_module("cupy_backends"):
        return INSTALL_ANY
    try:
        from sparsity_roofline.kernels._cuda.cupy_cusparse import CupyCusparse

        api = CupyCusparse(_import("cupy"), _import("cupy_backends.cuda.libs.cusparse"))
        number = api.library_version()
    except Exception as error:
        return f"CuPy is installed but its cuSPARSE cannot be used ({_short(error)}): {INSTALL_NVMATH}"
    return Binding("cupy", api, (number // 1000, number % 1000 // 100, number % 100), complete=False)


def _import(name: str) -> Any:
    with warnings.catch_warnings():  # what a vendor package warns of at import is not this program's business
        warnings.simplefilter("ignore")
        return importlib.import_module(name)


def _short(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
