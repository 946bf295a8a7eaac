"""A case: what is predicted and measured. One (matrix, pattern, format, dtype, N)."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.matrix import Matrix
from sparsity_roofline.model.pattern import Pattern

Format = Literal["dense", "csr", "bsr", "nm"]
FORMATS: tuple[Format, ...] = ("dense", "csr", "bsr", "nm")
Layout = Literal["row-major", "token-major"]


@dataclass(frozen=True)
class Case:
    """Y (M, N) = W (M, K) @ X (K, N) for one stored weight, dtype and N. Holds numbers, never arrays.

    Attributes:
        collection: label of the matrix collection, without any path.
        matrix: the matrix's name within it.
        M, K, N: shape, written M x K x N.
        pattern: the mask's pattern as text (see ``Pattern.parse``).
        format: how W is stored: dense, csr, bsr or nm.
        dtype: arithmetic type by name (see ``DTYPES``).
        nnz: stored elements of the mask (M K for a dense case).
        block_rows, block_cols: r and c of a bsr case, else 0.
        n, m: of an nm case, else 0.
        stored_blocks: blocks a bsr case stores, else 0.
        used_columns: rows of X that some stored element (for bsr: some stored block) needs; K for a dense case.
        layout: ``row-major`` (X is (K, N)) or ``token-major`` (X stored as (N, K)).
        network, layer, method, target_sparsity, batch: labels, or None.
        synthetic: mask or layer made here.
        seed: of the values of X and of invented values of W.
        digest: of the matrix's structure, "" while it is not loaded.
        weight: of a dense partner: the matrix whose weight before pruning it multiplies, or ``seeded``. No part of its
            identity: the partner of a shape is one case, whatever it multiplies.
        realised: True if nnz, stored_blocks and used_columns were counted on the loaded matrix; False while they are
            what the collection's listing expects.
    """

    collection: str
    matrix: str
    M: int
    K: int
    N: int
    pattern: str
    format: Format
    dtype: str
    nnz: int
    block_rows: int = 0
    block_cols: int = 0
    n: int = 0
    m: int = 0
    stored_blocks: int = 0
    used_columns: int = 0
    layout: Layout = "row-major"
    network: str | None = None
    layer: str | None = None
    method: str | None = None
    target_sparsity: float | None = None
    batch: int | None = None
    synthetic: bool = False
    seed: int = 0
    digest: str = ""
    weight: str | None = None
    realised: bool = False

    @property
    def key(self) -> str:
        """Identity of the case within a run: stable text, unique, the same before and after the matrix is loaded."""
        store: str = self.format
        if self.format == "bsr":
            store += f"{self.block_rows}x{self.block_cols}"
        elif self.format == "nm":
            store += f"{self.n}:{self.m}"
        parts = [self.collection, self.matrix, f"{self.M}x{self.K}x{self.N}", self.pattern, store, self.dtype]
        return "|".join([*parts, self.layout, f"seed{self.seed}"])

    @property
    def density(self) -> float:
        """nnz / (M K)."""
        size = self.M * self.K
        return self.nnz / size if size else 0.0

    @property
    def stored_elements(self) -> int:
        """Elements the format stores, explicit zeros included."""
        if self.format == "bsr":
            return self.stored_blocks * self.block_rows * self.block_cols
        if self.format == "nm":
            return self.M * (-(-self.K // self.m)) * self.n
        return self.M * self.K if self.format == "dense" else self.nnz

    def realise(self, matrix: Matrix) -> Case:
        """The same case with every count taken from the loaded matrix.

        Raises:
            UserError: if the matrix has another shape than the case.
        """
        if matrix.shape != (self.M, self.K):
            raise UserError(
                f"{self.collection}/{self.matrix} is {matrix.shape[0]} x {matrix.shape[1]}, "
                f"but the case says {self.M} x {self.K}: the collection changed; start a new run"
            )
        if self.format == "dense":
            return replace(self, nnz=self.M * self.K, used_columns=self.K, realised=True)
        used, blocks = matrix.used_columns, 0
        if self.format == "bsr":
            _, cols = matrix.blocks(self.block_rows, self.block_cols)
            blocks = len(cols)
            first = sorted(set(cols.tolist()))
            used = sum(min(self.block_cols, self.K - j * self.block_cols) for j in first)
        return replace(
            self, nnz=matrix.nnz, stored_blocks=blocks, used_columns=used, digest=matrix.digest, realised=True
        )

    @classmethod
    def of(
        cls,
        matrix: Matrix,
        N: int,
        dtype: str,
        format: Format | None = None,
        *,
        collection: str = "api",
        **more: Any,
    ) -> Case:
        """A realised case for a matrix in hand; ``format`` defaults to the one made for the matrix's pattern."""
        pattern = matrix.pattern
        case = cls(
            collection=collection,
            matrix=matrix.name,
            M=matrix.shape[0],
            K=matrix.shape[1],
            N=N,
            pattern=str(pattern),
            format=format or format_of(pattern),
            dtype=dtype,
            nnz=matrix.nnz,
            block_rows=more.pop("block_rows", pattern.r),
            block_cols=more.pop("block_cols", pattern.c),
            n=more.pop("n", pattern.n),
            m=more.pop("m", pattern.m),
            network=matrix.network,
            layer=matrix.layer,
            method=matrix.method,
            target_sparsity=matrix.target_sparsity,
            synthetic=matrix.synthetic,
            **more,
        )
        return case.realise(matrix)

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, for JSON."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Case:
        """Inverse of ``to_dict``; unknown keys are an error."""
        return cls(**data)


def format_of(pattern: Pattern) -> Format:
    """The storage format made for a pattern."""
    formats: dict[str, Format] = {"dense": "dense", "unstructured": "csr", "block": "bsr", "nm": "nm"}
    return formats[pattern.kind]
