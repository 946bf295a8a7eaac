"""Which kernels there are: the table of built-in ones, installed ones, and a user's own.

Every module named here exposes ``KERNELS``, a list of kernels, and imports neither torch nor triton until a kernel is
asked something that needs them, so that listing is quick and works without a GPU.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from sparsity_roofline.kernels.protocol import Kernel
from sparsity_roofline.model.case import FORMATS
from sparsity_roofline.model.dtype import DTYPES
from sparsity_roofline.model.errors import UserError

BUILT_IN = (
    "dense.cublas",
    "dense.triton",
    "dense.torch",
    "csr.cusparse",
    "csr.bitmap",
    "csr.wgmma",
    "csr.decode",
    "csr.panel",
    "csr.triton",
    "csr.torch",
    "csr.scipy",
    "bsr.cusparse",
    "bsr.triton",
    "bsr.wgmma",
    "bsr.mma",
    "bsr.torch",
    "bsr.torch_tuned",
    "bsr.scipy",
    "nm.cusparselt",
    "nm.wgmma",
    "nm.mma",
    "nm.triton",
    "auto.kernels",
)
"""Modules below ``sparsity_roofline.kernels``, in the order of listings."""

GROUP = "sparsity_roofline.kernels"
"""Entry point group of installed third-party kernels."""

_MEMBERS = ("name", "format", "version", "devices", "dtypes", "ours", "unit", "available", "supports", "prepare")


def load_kernels(extra: Sequence[str] = ()) -> dict[str, Kernel]:
    """Every kernel by name: built in, then entry points of ``GROUP``, then ``extra``.

    Args:
        extra: ``package.module:name``, ``path/to/file.py:name``, or either without ``:name`` for a module with a list
            ``KERNELS``. ``name`` is a kernel, a class without constructor arguments, or a list of either.

    Raises:
        UserError: one that cannot be imported, lacks members, or takes a name that exists.
    """
    kernels: dict[str, Kernel] = {}
    for path in BUILT_IN:
        _add(kernels, _module_kernels(f"sparsity_roofline.kernels.{path}"), path)
    for point in entry_points(group=GROUP):
        where = f"entry point {point.name} = {point.value}"
        try:
            loaded = point.load()
        except Exception as error:
            raise UserError(f"kernel {where} cannot be loaded: {_short(error)}; repair or uninstall it") from error
        _add(kernels, loaded, where)
    for spec in extra:
        _add(kernels, _from_spec(spec), spec)
    return kernels


def select(globs: Sequence[str], kernels: Mapping[str, Kernel]) -> list[Kernel]:
    """The kernels whose name matches any of ``globs`` (``*``, ``?``, ``[]``), in registry order; all for no globs.

    Raises:
        UserError: for a glob that matches nothing.
    """
    if not globs:
        return list(kernels.values())
    for glob in globs:
        if not any(fnmatchcase(name, glob) for name in kernels):
            raise UserError(f"no kernel matches {glob!r}: there are {', '.join(kernels)}")
    return [kernel for name, kernel in kernels.items() if any(fnmatchcase(name, glob) for glob in globs)]


def _module_kernels(path: str) -> Any:
    return importlib.import_module(path).KERNELS


def _from_spec(spec: str) -> Any:
    module_text, _, name = spec.rpartition(":")
    if not module_text or name.endswith(".py") or "/" in name or "\\" in name:
        module_text, name = spec, ""
    module = _load_module(module_text, spec)
    name = name or "KERNELS"
    if not hasattr(module, name):
        raise UserError(f"--kernel {spec}: {module_text} has no {name!r}; write module:name")
    return getattr(module, name)


def _load_module(text: str, spec: str) -> ModuleType:
    try:
        if not text.endswith(".py"):
            with _current_directory():
                return importlib.import_module(text)
        path = Path(text)
        if not path.is_file():
            raise UserError(f"--kernel {spec}: there is no file {text}")
        name = f"sparsity_roofline_user_{path.stem}"
        found = importlib.util.spec_from_file_location(name, path)
        if found is None or found.loader is None:
            raise UserError(f"--kernel {spec}: {text} is not a Python file")
        module = importlib.util.module_from_spec(found)
        sys.modules[name] = module  # dataclasses and Triton look their module up by name
        found.loader.exec_module(module)
        return module
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"--kernel {spec}: importing {text} failed: {_short(error)}") from error


@contextmanager
def _current_directory() -> Iterator[None]:
    """Modules beside the user are importable too; last, so that they hide nothing that is installed."""
    here = str(Path.cwd())
    if here in sys.path:
        yield
        return
    sys.path.append(here)
    try:
        yield
    finally:
        sys.path.remove(here)


def _add(kernels: dict[str, Kernel], found: Any, where: str) -> None:
    for item in found if isinstance(found, Iterable) and not isinstance(found, (str, type)) else [found]:
        kernel = _checked(item, where)
        if kernel.name in kernels:
            raise UserError(f"two kernels are called {kernel.name!r}, the second from {where}: rename it")
        kernels[kernel.name] = kernel


def _checked(item: Any, where: str) -> Kernel:
    if inspect.isclass(item):
        try:
            item = item()
        except Exception as error:
            raise UserError(f"kernel {where}: {item.__name__}() failed: {_short(error)}") from error
    missing = [member for member in _MEMBERS if not hasattr(item, member)]
    if missing:
        raise UserError(
            f"kernel {where} lacks {', '.join(missing)}: inherit from sparsity_roofline.kernels.protocol.BaseKernel"
        )
    if item.format not in FORMATS:
        raise UserError(f"kernel {where} has format {item.format!r}: it must be one of {', '.join(FORMATS)}")
    unknown = [name for name in item.dtypes if name not in DTYPES]
    if unknown:
        raise UserError(f"kernel {where} names unknown dtypes {', '.join(unknown)}: there are {', '.join(DTYPES)}")
    kernel: Kernel = item
    return kernel


def _short(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
