"""Tensors of a checkpoint file by name: safetensors, or a torch file read weights-only. No pickle is ever executed."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from sparsity_roofline.bench.matrices.bounded import Within
from sparsity_roofline.bench.matrices.structure import Malformed
from sparsity_roofline.model.errors import UserError

SAFETENSORS = (".safetensors",)
TORCH = (".pt", ".pth", ".bin", ".ckpt")

_FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")


class TensorFile(Protocol):
    """Named tensors of one file.

    Attributes:
        shapes: of every floating-point tensor, and of every mask (name ends in ``_mask``, any type).
    """

    shapes: dict[str, tuple[int, ...]]

    def get(self, name: str) -> npt.NDArray[Any]:
        """One tensor as float32 (float64 stays float64), a mask as it is."""


def open_tensors(path: Path) -> TensorFile:
    """Open a checkpoint, told apart by content.

    Raises:
        UserError: not a checkpoint, truncated, or a torch file that holds more than weights.
    """
    with path.open("rb") as file:
        head = file.read(16)
    if len(head) > 8 and head[8:9] == b"{":
        return _Safetensors(path)
    return _Torch(path)


class _Safetensors:
    def __init__(self, path: Path) -> None:
        import safetensors

        library: Any = safetensors
        try:
            self._file = library.safe_open(path, framework="pt")
        except (safetensors.SafetensorError, OSError) as error:
            raise Malformed(path, f"not a valid safetensors file: {_first_line(error)}") from None
        self.shapes = {}
        for name in self._file.keys():  # noqa: SIM118 - not a dict: it has keys() and no iteration
            view = self._file.get_slice(name)
            if view.get_dtype() in _FLOATS or name.endswith("_mask"):
                self.shapes[name] = tuple(view.get_shape())

    def get(self, name: str) -> npt.NDArray[Any]:
        return _to_numpy(self._file.get_tensor(name))


class _Torch:
    def __init__(self, path: Path) -> None:
        self._tensors = _flatten(_load_weights_only(path))
        if not self._tensors:
            raise Malformed(path, "no tensor in it")
        for name, tensor in self._tensors.items():
            # A crafted file can claim any shape over a few bytes by a stride of 0.
            if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
                raise Malformed(path, f"{name}: shape {tuple(tensor.shape)} is larger than its stored data")
        self.shapes = {
            name: tuple(tensor.shape)
            for name, tensor in self._tensors.items()
            if tensor.is_floating_point() or name.endswith("_mask")
        }

    def get(self, name: str) -> npt.NDArray[Any]:
        return _to_numpy(self._tensors[name])


def _load_weights_only(path: Path) -> Any:
    import zipfile

    import torch

    def load(source: Any, mmap: bool) -> Any:
        return torch.load(source, map_location="cpu", weights_only=True, mmap=mmap)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Only the zip format, torch's own since 1.6, can be mapped.
            if zipfile.is_zipfile(path):
                _stored_whole(path)
                return load(path, mmap=True)
            with path.open("rb") as file:
                return load(Within(file, path.stat().st_size), mmap=False)
    except Malformed:
        raise
    except Exception as error:
        # The unpickler raises whatever the file makes it raise; all of it means that this file is not read.
        text = str(error)
        if found := re.search(r"GLOBAL (\S+)", text):
            raise UserError(
                f"{path}: refused: it refers to {found[1]}, so reading it would execute code; "
                "save its state_dict alone, or as safetensors"
            ) from None
        # torch's own text goes on to advise loading with code execution allowed; only what it found is passed on.
        lines = text.rpartition("WeightsUnpickler error: ")[2].strip().splitlines()
        reason = lines[0][:200] if lines else type(error).__name__
        raise Malformed(path, f"not loadable as weights only: {reason}") from None


def _stored_whole(path: Path) -> None:
    """torch stores its members as they are; packed ones could grow a thousandfold when they are read."""
    import zipfile

    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.compress_type != zipfile.ZIP_STORED or info.file_size > info.compress_size:
                raise Malformed(path, f"{info.filename}: a packed member, which torch does not write")


def _flatten(found: Any) -> dict[str, Any]:
    """Tensors of nested dictionaries and lists under dotted names; anything else is left out."""
    import torch

    tensors: dict[str, Any] = {}
    seen: set[int] = set()
    stack: list[tuple[str, Any]] = [("", found)]
    while stack:
        name, value = stack.pop()
        if isinstance(value, torch.Tensor):
            if value.layout == torch.strided and not value.is_meta and not value.is_quantized:
                tensors[name or "weight"] = value.detach()
        elif isinstance(value, (dict, list, tuple)) and id(value) not in seen:
            seen.add(id(value))  # a pickle can hold itself
            items = value.items() if isinstance(value, dict) else enumerate(value)
            stack.extend((f"{name}.{key}" if name else str(key), child) for key, child in reversed(list(items)))
    return tensors


def _to_numpy(tensor: Any) -> npt.NDArray[Any]:
    import torch

    if tensor.dtype in (torch.float64, torch.float32) or not tensor.is_floating_point():
        return np.asarray(tensor.contiguous().numpy())
    return np.asarray(tensor.to(torch.float32).numpy())


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
