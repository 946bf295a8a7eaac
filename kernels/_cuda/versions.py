"""Versions of the vendor libraries and their bindings, for ``doctor`` and for the environment of a run."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from sparsity_roofline.kernels._cuda import bindings

NVMATH_PACKAGES = ("nvmath-python",)
CUPY_PACKAGES = ("cupy-cuda13x", "cupy-cuda12x", "cupy-cuda11x", "cupy")
MISSING = "not available: "
"""What a text that is not a version starts with."""


def versions() -> dict[str, str]:
    """Version or reason of ``cusparse``, ``cusparselt``, ``nvmath`` and ``cupy``. Never raises.

    A value that starts with ``MISSING`` says why there is no version, and what to do where something can be done.
    """
    return {
        "cusparse": _library(bindings.cusparse(complete=False)),
        "cusparselt": _library(bindings.cusparselt()),
        "nvmath": _package(NVMATH_PACKAGES, bindings.INSTALL_NVMATH),
        "cupy": _package(CUPY_PACKAGES, "not installed (optional): pip install 'sparsity-roofline[gpu]'"),
    }


def _library(found: bindings.Binding | str) -> str:
    return MISSING + found if isinstance(found, str) else found.version_text


def _package(names: tuple[str, ...], remedy: str) -> str:
    for name in names:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return MISSING + remedy
