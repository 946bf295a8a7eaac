"""Matrices made by pruning the layers of another collection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sparsity_roofline.bench.matrices.collection import MatrixInfo
from sparsity_roofline.bench.matrices.prune import implied_nnz, nm_sparsity, prune
from sparsity_roofline.bench.matrices.values import seeded_weight
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.matrix import FloatArray, Matrix
from sparsity_roofline.model.pattern import Pattern


class Base(Protocol):
    """A collection that can say whether its matrices have weights of their own."""

    label: str
    uri: str

    def infos(self) -> Sequence[MatrixInfo]: ...

    def load(self, name: str) -> Matrix: ...

    def has_weights(self, name: str) -> bool:
        """True if the matrix has trained values, False if its file holds a pattern only."""


class Pruned:
    """Instead of a collection's matrices: its layers, pruned by magnitude to other patterns.

    A layer is a (network, layer) of the base collection, however many methods and sparsities that has of it. Where
    the base holds real weights they are pruned; where it holds patterns without values, a seeded weight of the
    layer's shape is, and the result is labelled synthetic. Layers that the base lists but does not have are left
    out, and so is a target that would keep nothing of a layer (one block of nine at sparsity .95): an empty weight
    says nothing about a pattern. A matrix is called ``<layer>@<pattern>@<sparsity>``.
    """

    def __init__(self, base: Base, patterns: Sequence[str], sparsities: Sequence[float], seed: int) -> None:
        """Derive lazily.

        Args:
            patterns: texts as ``Pattern.parse`` takes them.
            sparsities: targets for every pattern but n:m, which is made once per layer; by default those of the base
                collection's matrices of the same layer.

        Raises:
            UserError: a bad pattern or sparsity, or a base without sparsities and none given.
        """
        self.label, self.uri = base.label, base.uri
        self._base, self._seed = base, seed
        self._recipes: dict[str, tuple[MatrixInfo, str, Pattern, float]] = {}
        parsed = [Pattern.parse(text) for text in patterns]
        for sparsity in sparsities:
            if not 0.0 <= sparsity < 1.0:
                raise UserError(f"a sparsity to prune to lies between 0 and 1, not at {sparsity:g}")
        seen: dict[str, MatrixInfo] = {}
        for info in base.infos():
            if not info.present:
                continue
            layer = base_name(info)
            first = seen.setdefault(layer, info)
            if (first.rows, first.cols) != (info.rows, info.cols):
                raise UserError(
                    f"{base.label}: layer {layer} is {first.rows} x {first.cols} in {first.name}, "
                    f"but {info.rows} x {info.cols} in {info.name}"
                )
            for pattern in parsed:
                for target in _targets(pattern, info, sparsities):
                    if target < 1.0 and not implied_nnz((info.rows, info.cols), pattern, target):
                        continue
                    name = layer if pattern.kind == "dense" else f"{layer}@{pattern}@{target:g}"
                    self._recipes.setdefault(name, (first, layer, pattern, target))

    def infos(self) -> Sequence[MatrixInfo]:
        """Every derived matrix, in the order of the base collection's layers."""
        return [
            MatrixInfo(
                name,
                info.rows,
                info.cols,
                implied_nnz((info.rows, info.cols), pattern, target),
                pattern=pattern,
                network=info.network,
                layer=info.layer,
                method="magnitude",
                target_sparsity=target,
                columns_per_image=info.columns_per_image,
                synthetic=info.synthetic or not self._base.has_weights(info.name),
                unpruned=self._knows_unpruned(info),
            )
            for name, (info, _, pattern, target) in self._recipes.items()
        ]

    def _knows_unpruned(self, info: MatrixInfo) -> bool:
        """A base weight that was pruned already is no longer the one before pruning."""
        whole = info.unpruned or info.nnz == info.rows * info.cols
        return whole and not info.synthetic and self._base.has_weights(info.name)

    def has_weights(self, name: str) -> bool:
        """As the base says of the layer."""
        return self._base.has_weights(self._recipe(name)[0].name)

    def load(self, name: str) -> Matrix:
        """Prune the layer's weight now.

        Raises:
            UserError: unknown name, or what the base collection raises.
        """
        info, layer, pattern, target = self._recipe(name)
        real = self._base.has_weights(info.name)
        weight: FloatArray
        if real:
            weight = self._base.load(info.name).dense_operand()
        else:
            weight = seeded_weight((info.rows, info.cols), self._seed, layer)
        return prune(
            weight,
            pattern,
            None if pattern.kind == "nm" else target,
            name=name,
            network=info.network,
            layer=info.layer,
            method="magnitude",
            columns_per_image=info.columns_per_image,
            synthetic=info.synthetic or not real,
            target_sparsity=target,
        )

    def _recipe(self, name: str) -> tuple[MatrixInfo, str, Pattern, float]:
        try:
            return self._recipes[name]
        except KeyError:
            raise UserError(f"{self.uri}: no matrix {name!r}; list them to see the names") from None


def base_name(info: MatrixInfo) -> str:
    """``network/layer`` where both are known, else the matrix's own name without an earlier ``@pattern@sparsity``."""
    if info.network and info.layer:
        return f"{info.network}/{info.layer}"
    return info.name.split("@")[0]


def _targets(pattern: Pattern, info: MatrixInfo, sparsities: Sequence[float]) -> Sequence[float]:
    if pattern.kind == "nm":
        return [nm_sparsity(pattern)]
    if pattern.kind == "dense":
        return [0.0]
    if sparsities:
        return sparsities
    if info.target_sparsity is not None:
        return [info.target_sparsity]
    realised = 1.0 - info.nnz / (info.rows * info.cols) if info.rows * info.cols else 0.0
    if realised < 0.01:
        raise UserError(f"{info.name} is dense, so there is no sparsity to take over: give one, for example 0.9")
    return [round(realised, 4)]
