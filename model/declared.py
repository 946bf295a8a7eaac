"""Patterns nobody has implemented: declared in a few lines, what is stored, what is computed, and at which peak.

    ["64:2:8"]                                     # the name, as --pattern takes it
    description = "V:N:M: 4 columns of every 8 for 64 rows, and 2:4 in those"
    density = 0.25                                 # its own; leave it out for a pattern of any density
    storage = "b d M K + 2 d M K / 8 + ..."        # bytes of the stored weight
    operations = "2 d M K N"                       # multiply and add counted as two
    peak = "dtype"                                 # dtype, tensor, cuda, or sparse (the printed 2:4 rate)

Expressions know M, K, N (shape), d (density), b (bytes of an element), i and p (bytes of an index and of a pointer),
``+ - * / // **``, and ceil, floor, log2, sqrt, min, max. X and Y are charged as for every other format.
"""

from __future__ import annotations

import ast
import operator
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from sparsity_roofline.model.ceilings import Ceilings
from sparsity_roofline.model.cost import Cost, CostOptions, Floats, cost
from sparsity_roofline.model.dtype import dtype as lookup_dtype
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.pattern import Pattern
from sparsity_roofline.model.roofline import Sol, sol
from sparsity_roofline.model.table import CaseTable

RunsAt = Literal["dtype", "tensor", "cuda", "sparse"]

NAMES = ("M", "K", "N", "d", "b", "i", "p")

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: np.true_divide,
    ast.FloorDiv: np.floor_divide, ast.Pow: np.power,
}  # fmt: skip
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {ast.USub: operator.neg, ast.UAdd: operator.pos}
_CALLS: dict[str, tuple[Callable[..., Any], int]] = {
    "ceil": (np.ceil, 1), "floor": (np.floor, 1), "log2": (np.log2, 1), "sqrt": (np.sqrt, 1),
    "min": (np.minimum, 2), "max": (np.maximum, 2),
}  # fmt: skip


@dataclass(frozen=True)
class Declared:
    """A pattern by what it stores and computes.

    Attributes:
        name: as ``--pattern`` takes it.
        storage: expression of the stored weight's bytes.
        operations: expression of the operations.
        peak: the rate they run at: the dtype's own (``dtype``), tensor cores, CUDA cores, or the printed 2:4 rate
            (``sparse``), which counts the zeros of a 2:4 weight as work.
        density: share of the weight that is kept, or None where it is free.
        max_density: the largest it can keep.
        description: in a line.
    """

    name: str
    storage: str
    operations: str = "2 * d * M * K * N"
    peak: RunsAt = "dtype"
    density: float | None = None
    max_density: float = 1.0
    description: str = ""

    def __post_init__(self) -> None:
        if not self.name or _native(self.name):
            raise UserError(f"pattern {self.name!r}: the name is taken or empty; choose another")
        if self.peak not in get_args(RunsAt):
            raise UserError(f"pattern {self.name}: peak {self.peak!r}: choose one of {', '.join(get_args(RunsAt))}")
        for what in ("density", "max_density"):
            value = getattr(self, what)
            if value is not None and not (isinstance(value, int | float) and 0 < value <= 1):
                raise UserError(f"pattern {self.name}: {what} is {value!r}, not a number in (0, 1]")
        for what in ("storage", "operations"):
            try:
                _check(_parse(str(getattr(self, what))))
            except UserError as error:
                raise UserError(f"pattern {self.name}: {what}: {error}") from None

    def cost(
        self, M: npt.ArrayLike, K: npt.ArrayLike, N: npt.ArrayLike, density: npt.ArrayLike, dtype: str,
        options: CostOptions | None = None, l2_bytes: float = 0,
    ) -> Cost:  # fmt: skip
        """Operations and bytes; arrays or numbers.

        Raises:
            UserError: an expression that gives a negative figure or none.
        """
        chosen = options or CostOptions()
        base = cost(_dense(M, K, N, dtype), chosen, l2_bytes=l2_bytes)
        size = len(base.flops)
        names = {name: np.broadcast_to(np.asarray(value, dtype=np.float64), size)
                 for name, value in (("M", M), ("K", K), ("N", N), ("d", density))}  # fmt: skip
        element = lookup_dtype(dtype).element_bytes if chosen.weight_bytes is None else chosen.weight_bytes
        known = {**names, "b": float(element), "i": float(chosen.index_bytes), "p": float(chosen.pointer_bytes)}
        figures = []
        for what in ("operations", "storage"):
            with np.errstate(all="ignore"):  # what is not finite is refused below
                value = np.broadcast_to(np.asarray(_value(_parse(getattr(self, what)), known), np.float64), size)
            if not (np.isfinite(value).all() and (value >= 0).all()):
                raise UserError(f"pattern {self.name}: {what} is negative or no number for some shape")
            figures.append(value)
        return Cost(figures[0], figures[1], base.input_bytes, base.output_bytes)

    def rate(self, dtype: str, ceilings: Ceilings) -> float:
        """Operations per second it runs at.

        Raises:
            UserError: a peak the device does not have.
        """
        own = ceilings.own_unit(dtype)
        if own == "cpu":
            return ceilings.peak(dtype, "cpu")
        if self.peak in ("tensor", "cuda"):
            return ceilings.peak(dtype, "cuda" if self.peak == "cuda" else "tensor")
        return ceilings.peak(dtype, own, sparse=self.peak == "sparse")

    def sol(
        self, M: npt.ArrayLike, K: npt.ArrayLike, N: npt.ArrayLike, density: npt.ArrayLike, dtype: str,
        ceilings: Ceilings, options: CostOptions | None = None,
    ) -> Sol:  # fmt: skip
        """Speed of light of every case."""
        found = self.cost(M, K, N, density, dtype, options, ceilings.l2_bytes)
        return sol(found, self.rate(dtype, ceilings), ceilings.dram_bandwidth)


AnyPattern = Pattern | Declared


def _native(name: str) -> bool:
    try:
        Pattern.parse(name)
    except UserError:
        return False
    return True


@cache
def library() -> dict[str, Declared]:
    """The declared patterns that come with the program (``patterns.toml``), by name."""
    text = files("sparsity_roofline.model").joinpath("patterns.toml").read_text(encoding="utf-8")
    return _patterns(tomllib.loads(text))


def read(path: Path) -> dict[str, Declared]:
    """Patterns from a TOML file, by name (see the module's text).

    Raises:
        UserError: the file cannot be read, is no TOML, or declares something that is no pattern.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: {error}") from error
    try:
        return _patterns(data)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def find(name: str, more: Mapping[str, Declared] | None = None) -> AnyPattern:
    """A pattern by name: of ``more``, one that is built in (``Pattern.parse``), or of the library.

    Raises:
        UserError: an unknown name.
    """
    known = {**library(), **(more or {})}
    if name in known:
        return known[name]
    if _native(name):
        return Pattern.parse(name)
    raise UserError(
        f"unknown pattern {name!r}: write dense, unstructured, block16, block16x32 or 2:4, or name a declared one: "
        f"{', '.join(known)}"
    )


def _patterns(data: Mapping[str, Any]) -> dict[str, Declared]:
    known = {f.name for f in fields(Declared)} - {"name"}
    found = {}
    for name, about in data.items():
        if not isinstance(about, dict):
            raise UserError(f"{name} must be a table: ['{name}'] with storage and operations under it")
        if unknown := set(about) - known:
            raise UserError(f"pattern {name}: unknown key {sorted(unknown)[0]!r}; keys are {', '.join(sorted(known))}")
        if "storage" not in about:
            raise UserError(f"pattern {name}: storage is missing (bytes of the stored weight)")
        found[name] = Declared(name, **about)
    return found


def _dense(M: npt.ArrayLike, K: npt.ArrayLike, N: npt.ArrayLike, dtype: str) -> CaseTable:
    return CaseTable.from_columns(M=M, K=K, N=N, format="dense", dtype=dtype)


@cache
def _parse(text: str) -> ast.expr:
    try:
        return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise UserError(f"{text!r} is no expression; write for example 2 * d * M * K * N") from None


def _check(node: ast.expr) -> None:
    """Refuse whatever is not arithmetic on the names known here."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return
    if isinstance(node, ast.Name):
        if node.id not in NAMES:
            raise UserError(f"unknown name {node.id!r}; known are {', '.join(NAMES)}")
        return
    inner: Sequence[ast.expr]
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        inner = (node.left, node.right)
    elif isinstance(node, ast.UnaryOp) and type(node.op) in _UNARY:
        inner = (node.operand,)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _CALLS:
        if node.keywords or len(node.args) != _CALLS[node.func.id][1]:
            raise UserError(f"{node.func.id} takes {_CALLS[node.func.id][1]} argument(s)")
        inner = node.args
    else:
        raise UserError(f"only + - * / // ** and {', '.join(_CALLS)} are known here")
    for part in inner:
        _check(part)


def _value(node: ast.expr, known: Mapping[str, Any]) -> Any:
    """Value of an expression that ``_check`` let through."""
    if isinstance(node, ast.Constant):
        return float(node.value)  # type: ignore[arg-type]
    if isinstance(node, ast.Name):
        return known[node.id]
    if isinstance(node, ast.BinOp):
        return _BINARY[type(node.op)](_value(node.left, known), _value(node.right, known))
    if isinstance(node, ast.UnaryOp):
        return _UNARY[type(node.op)](_value(node.operand, known))
    assert isinstance(node, ast.Call)
    assert isinstance(node.func, ast.Name)
    return _CALLS[node.func.id][0](*(_value(part, known) for part in node.args))


__all__ = ["AnyPattern", "Declared", "Floats", "find", "library", "read"]
