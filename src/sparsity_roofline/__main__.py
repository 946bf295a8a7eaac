"""``python -m sparsity_roofline``."""

from sparsity_roofline.cli import entry

entry()
