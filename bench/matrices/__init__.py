"""Where weights come from: collections, files, pruning, seeded layers."""

from __future__ import annotations

from sparsity_roofline.bench.matrices.collection import Collection, MatrixInfo
from sparsity_roofline.bench.matrices.fetch import fetch
from sparsity_roofline.bench.matrices.files import read_matrix, write_matrix
from sparsity_roofline.bench.matrices.opening import open_collection
from sparsity_roofline.bench.matrices.prune import prune, prune_global, synthetic

__all__ = [
    "Collection",
    "MatrixInfo",
    "fetch",
    "open_collection",
    "prune",
    "prune_global",
    "read_matrix",
    "synthetic",
    "write_matrix",
]
