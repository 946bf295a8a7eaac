"""Refinements of the speed of light: what a real kernel on a real device adds to it, one term a file.

Each term is a small function of arrays that can be evaluated alone; ``model.refined`` composes them. Data: what each
kernel does is in ``kernels.toml``, figures of devices and kernels, with unit and source, in ``constants.csv``.
"""
