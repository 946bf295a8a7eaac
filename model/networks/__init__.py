"""Layer tables of real networks as plain data: ``names()``, ``load(name)``, and their arrays, ``shapes(layers)``."""

from __future__ import annotations

from sparsity_roofline.model.networks.layers import Layer, Op, find, load, names, shapes

__all__ = ["Layer", "Op", "find", "load", "names", "shapes"]
