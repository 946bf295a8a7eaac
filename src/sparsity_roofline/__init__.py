"""Can this sparse weight be fast on that hardware? Predict it, measure it, compare the two.

    import sparsity_roofline as sr

    table = sr.predict("4096x4096x2048", pattern="block64", sparsity=0.9, dtype="fp16", device="h100")
    print(table[["sol_dense_us", "sol_us", "bound", "speedup"]])

Names are imported on first use, so that importing the package costs little.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from sparsity_roofline.api import measure, predict
    from sparsity_roofline.bench.compare import compare
    from sparsity_roofline.bench.matrices import (
        fetch,
        open_collection,
        prune,
        prune_global,
        read_matrix,
        synthetic,
        write_matrix,
    )
    from sparsity_roofline.bench.store import read_records, read_samples, write_records
    from sparsity_roofline.endtoend import end_to_end
    from sparsity_roofline.kernels.protocol import BaseKernel, Kernel, Prepared, Support
    from sparsity_roofline.kernels.registry import load_kernels
    from sparsity_roofline.model.case import Case
    from sparsity_roofline.model.cost import CostOptions
    from sparsity_roofline.model.errors import UserError
    from sparsity_roofline.model.hardware import Ceilings, datasheet
    from sparsity_roofline.model.matrix import Matrix
    from sparsity_roofline.model.pattern import Pattern
    from sparsity_roofline.model.record import Record
    from sparsity_roofline.validation.external import validate_measurements
    from sparsity_roofline.validation.page.report import report
    from sparsity_roofline.validation.report import validate

_HOME = {
    "predict": "api",
    "measure": "api",
    "end_to_end": "endtoend",
    "report": "validation.page.report",
    "validate": "validation.report",
    "compare": "bench.compare",
    "validate_measurements": "validation.external",
    "fetch": "bench.matrices",
    "open_collection": "bench.matrices",
    "prune": "bench.matrices",
    "prune_global": "bench.matrices",
    "read_matrix": "bench.matrices",
    "synthetic": "bench.matrices",
    "write_matrix": "bench.matrices",
    "read_records": "bench.store",
    "read_samples": "bench.store",
    "write_records": "bench.store",
    "BaseKernel": "kernels.protocol",
    "Kernel": "kernels.protocol",
    "Prepared": "kernels.protocol",
    "Support": "kernels.protocol",
    "load_kernels": "kernels.registry",
    "Case": "model.case",
    "CostOptions": "model.cost",
    "UserError": "model.errors",
    "Ceilings": "model.hardware",
    "datasheet": "model.hardware",
    "Matrix": "model.matrix",
    "Pattern": "model.pattern",
    "Record": "model.record",
}

__all__ = [
    "BaseKernel",
    "Case",
    "Ceilings",
    "CostOptions",
    "Kernel",
    "Matrix",
    "Pattern",
    "Prepared",
    "Record",
    "Support",
    "UserError",
    "__version__",
    "compare",
    "datasheet",
    "end_to_end",
    "fetch",
    "load_kernels",
    "measure",
    "open_collection",
    "predict",
    "prune",
    "prune_global",
    "read_matrix",
    "read_records",
    "read_samples",
    "report",
    "synthetic",
    "validate",
    "validate_measurements",
    "write_matrix",
    "write_records",
]


def __getattr__(name: str) -> Any:
    """Import a public name from where it lives (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'sparsity_roofline' has no attribute {name!r}")
    return getattr(importlib.import_module(f"sparsity_roofline.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
