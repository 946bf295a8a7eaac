"""Where weights come from: collections, files, pruning, seeded layers."""

from __future__ import annotations

from sparsity_roofline.bench.matrices.collection import Collection, MatrixInfo
from sparsity_roofline.bench.matrices.opening import open_collection
from sparsity_roofline.bench.matrices.prune import prune, prune_global, synthetic

__all__ = ["Collection", "MatrixInfo", "open_collection", "prune", "prune_global", "synthetic"]
