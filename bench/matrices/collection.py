"""A collection of weights: a listing that costs little, and matrices loaded one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from sparsity_roofline.model.matrix import Matrix
from sparsity_roofline.model.pattern import UNSTRUCTURED, Pattern


@dataclass(frozen=True)
class MatrixInfo:
    """What is known of a matrix without loading it. Fields as in ``Matrix``; None where the source does not say.

    Attributes:
        nnz: as the listing states it (exact for DLMC), or what the target sparsity implies.
        unpruned: the weight before pruning is known, and nobody made it up: a dense kernel can multiply it.
        present: False for a matrix that the listing names but the disk lacks: a normal, reported state.
    """

    name: str
    rows: int
    cols: int
    nnz: int
    pattern: Pattern = UNSTRUCTURED
    network: str | None = None
    layer: str | None = None
    method: str | None = None
    target_sparsity: float | None = None
    columns_per_image: int | None = None
    synthetic: bool = False
    unpruned: bool = False
    present: bool = True


@runtime_checkable
class Collection(Protocol):
    """A source of matrices.

    Attributes:
        label: short name without any path; goes into records.
        uri: what ``open_collection`` takes to open the same collection again, in another process.
    """

    label: str
    uri: str

    def infos(self) -> Sequence[MatrixInfo]:
        """Every matrix, in a stable order."""

    def load(self, name: str) -> Matrix:
        """One matrix with values (seeded ones where the source holds a pattern only).

        Raises:
            UserError: unknown name, or a malformed file: file, line and reason.
        """
