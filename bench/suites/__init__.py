"""Named lists of cases, as data: TOML files beside this module, or a user's own."""

from sparsity_roofline.bench.suites.load import load_suite, suite_names
from sparsity_roofline.bench.suites.schema import Entry, Suite

__all__ = ["Entry", "Suite", "load_suite", "suite_names"]
