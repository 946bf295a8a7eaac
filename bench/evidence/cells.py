"""The kernels on which timers are compared: 2 us to 2 ms, one and several activities a call, every format."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sparsity_roofline.bench.matrices import prune
from sparsity_roofline.kernels.registry import load_kernels
from sparsity_roofline.model.case import Case, Format
from sparsity_roofline.model.matrix import Matrix

Shape = tuple[int, int, int]

CELLS: tuple[tuple[str, str, str, Shape], ...] = (
    *(("dense.cublas", "fp16", "dense", (n, n, n)) for n in (256, 512, 1024, 2048, 4096)),
    ("dense.cublas", "fp16", "dense", (4096, 4096, 16)),
    ("dense.cublas", "fp16", "dense", (14336, 4096, 16)),
    ("dense.cublas", "fp16", "dense", (4096, 4096, 2048)),
    ("dense.cublas", "fp16", "dense", (8192, 4096, 4096)),
    *(("dense.cublas", "fp32", "dense", (n, n, n)) for n in (256, 512, 1024, 2048)),
    ("dense.cublas", "fp32", "dense", (512, 4608, 784)),
    ("dense.triton", "fp16", "dense", (4096, 4096, 2048)),
    *(
        (kernel, dtype, "unstructured", shape)
        for kernel in ("csr.cusparse", "csr.triton")
        for dtype in ("fp16", "fp32")
        for shape in ((512, 512, 256), (512, 4608, 1568), (2048, 512, 2048), (4096, 4096, 64))
    ),
    ("csr.torch", "fp16", "unstructured", (512, 4608, 1568)),
    *(
        ("bsr.triton", "fp16", "block64", shape)
        for shape in ((512, 512, 256), (2048, 2048, 2048), (4096, 4096, 2048), (4096, 4096, 16384))
    ),
    ("bsr.cusparse", "fp32", "block32", (4096, 4096, 2048)),
    ("nm.cusparselt", "fp16", "2:4", (4096, 4096, 16)),
    ("nm.cusparselt", "fp16", "2:4", (4096, 4096, 2048)),
)
FORMATS: dict[str, Format] = {"dense": "dense", "unstructured": "csr", "block64": "bsr", "block32": "bsr", "2:4": "nm"}
SPARSITY = 0.9


@dataclass(frozen=True)
class Cell:
    """One kernel ready to launch.

    Attributes:
        name: kernel, dtype and shape M x K x N.
        launch: enqueue one call.
    """

    name: str
    launch: Any


def prepared_cells(seed: int = 0) -> Iterator[Cell]:
    """Each cell in turn, prepared on the GPU with seeded data; those of kernels that are not there are passed."""
    import numpy as np
    import torch

    kernels = load_kernels()
    rng = np.random.default_rng(seed)
    for kernel, dtype, pattern, (M, K, N) in CELLS:
        if not kernels[kernel].available("cuda"):
            continue
        weight = rng.standard_normal((M, K), dtype=np.float32)
        matrix = Matrix.dense("w", weight) if pattern == "dense" else prune(weight, pattern, _sparsity(pattern))
        case = Case.of(matrix, N, dtype, FORMATS[pattern])
        prepared = kernels[kernel].prepare(matrix, case, "cuda")
        element = {"fp16": torch.float16, "fp32": torch.float32}[dtype]
        generator = torch.Generator("cuda").manual_seed(seed)
        x = torch.randn(K, N, device="cuda", generator=generator).to(element)
        y = torch.empty(M, N, device="cuda", dtype=element)
        yield Cell(f"{kernel} {dtype} {M}x{K}x{N}", _bound(prepared, x, y))


def empty_cell() -> Cell:
    """The least a kernel can do, whose time is the constant that a timer adds."""
    import torch

    one = torch.ones(1, device="cuda")
    return Cell("one element", lambda: torch.neg(one, out=one))


def _sparsity(pattern: str) -> float | None:
    return None if ":" in pattern else SPARSITY


def _bound(prepared: Any, x: Any, y: Any) -> Any:
    return lambda: prepared.launch(x, y)
