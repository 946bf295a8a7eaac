"""Anyone's measurements against the model: read latencies, predict every row, say how wrong each model is."""

from __future__ import annotations

from sparsity_roofline.validation.external.report import ExternalValidation, validate_measurements

__all__ = ["ExternalValidation", "validate_measurements"]
