"""Kernels that fail in every way a kernel can, loaded by path (``_fakes.py:KERNELS``) into the worker under test."""

from __future__ import annotations

import ctypes
import os
import time
from pathlib import Path
from typing import Any

from sparsity_roofline.kernels import convert
from sparsity_roofline.kernels.protocol import BaseKernel, no_step


class Good:
    """Multiplies, by a dense product."""

    config: dict[str, Any]

    def __init__(self, matrix, case):
        build = convert.dense_operand if case.format == "dense" else convert.stored_as_dense
        self.w = build(matrix, case.dtype, "cpu")
        self.config = {"tile": 16}

    def launch(self, x, y):
        y.copy_(self.w @ x)


class Wrong(Good):
    def launch(self, x, y):
        super().launch(x, y)
        y[0, 0] += 100


class Unwritten(Good):
    def launch(self, x, y):
        y[:-1].copy_((self.w @ x)[:-1])


class Stale(Good):
    """Right once; afterwards it returns what it remembers."""

    def launch(self, x, y):
        if not hasattr(self, "kept"):
            self.kept = self.w @ x
        y.copy_(self.kept)


class LaterWrong(Good):
    """Right when it is checked, wrong while it is timed."""

    calls = 0

    def launch(self, x, y):
        super().launch(x, y)
        self.calls += 1
        if self.calls > 1:
            y.mul_(1.5)


class Segfault(Good):
    def launch(self, x, y):
        ctypes.string_at(0)


class Hang(Good):
    def launch(self, x, y):
        time.sleep(600)


class Exit(Good):
    def launch(self, x, y):
        os._exit(7)


class Raise(Good):
    def launch(self, x, y):
        raise ValueError(f"tile of {Path.home() / 'secret' / 'tile.cu'} is odd\nsecond line")


class Memory(Good):
    def launch(self, x, y):
        import torch

        torch.empty(1 << 60, dtype=torch.uint8)


class Slow(Good):
    def launch(self, x, y):
        time.sleep(float(os.environ.get("FAKE_SLOW_S", "0.02")))
        super().launch(x, y)


class Fake(BaseKernel):
    devices = ("cpu",)
    dtypes = ("fp32",)

    def __init__(self, name, prepared):
        self.name, self.format, self._prepared = name, name.split(".")[0], prepared

    def prepare(self, matrix, case, device, step=no_step):
        with step("convert"):
            return self._prepared(matrix, case)


class Elsewhere(Fake):
    devices = ("cuda",)


class Refusing(Fake):
    def supports(self, case, device):
        from sparsity_roofline.kernels.protocol import Support

        return Support("M must be a multiple of 1000") if case.M % 1000 else super().supports(case, device)


class Interpreted(Fake):
    interpreted = True


FAULTS = {
    "wrong": Wrong, "unwritten": Unwritten, "stale": Stale, "later": LaterWrong, "segv": Segfault, "hang": Hang,
    "exit": Exit, "raise": Raise, "memory": Memory,
}  # fmt: skip
KERNELS = [
    Fake("dense.fake", Good),
    Fake("csr.fake_a", Good),
    *(Fake(f"csr.fault_{name}", prepared) for name, prepared in FAULTS.items()),
    Interpreted("csr.fault_interpreted", Good),
    Fake("csr.fake_z", Good),
    Fake("csr.fake_slow", Slow),
    Elsewhere("csr.fake_gpu", Good),
    Refusing("csr.fake_refusing", Good),
]
