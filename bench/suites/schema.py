"""What a suite file may say. Every key is a field here; anything else in the file is refused by name."""

from __future__ import annotations

from dataclasses import dataclass, field

from sparsity_roofline.bench.timing.protocol import Regime, Stopping
from sparsity_roofline.model.case import Format, Layout

DEFAULT_COLLECTION = "default"
"""Stands for the collection given on the command line, else for the built-in one."""


@dataclass(frozen=True)
class Entry:
    """One part of a suite: which matrices, which columns of X, which kernels.

    Attributes:
        collection: ``default`` or what ``open_collection`` takes.
        devices: where this entry applies; empty means wherever the suite does.
        dtypes: overrides the suite's.
        networks, methods, layers, patterns: globs a matrix must match (one of each list); empty accepts all.
        target_sparsity: accepted target sparsities; empty accepts all.
        max_matrices: at most so many matrices for each (network, method, pattern, sparsity), spread evenly over the
            listing; 0 means all.
        unique_shapes: one matrix for each (network, method, pattern, sparsity, M, K, columns per image): for seeded
            patterns, where layers of one shape differ by their seed only.
        prune: patterns to make by magnitude pruning of the collection's layers, instead of its own matrices.
        sparsities: of ``prune``; empty means the target sparsities of the collection's matrices.
        kernels: globs of kernel names, sparse ones; the dense partner comes from ``dense``.
        dense: globs of the dense kernels each shape is compared with.
        formats: storage formats of sparse matrices; empty means the one made for the pattern.
        batches: N = batch x columns per image, for matrices that know their columns per image.
        tokens: N for matrices that do not.
        columns: N for every matrix.
        layouts: of X.
    """

    collection: str = DEFAULT_COLLECTION
    devices: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    target_sparsity: tuple[float, ...] = ()
    max_matrices: int = 0
    unique_shapes: bool = False
    prune: tuple[str, ...] = ()
    sparsities: tuple[float, ...] = ()
    kernels: tuple[str, ...] = ("*",)
    dense: tuple[str, ...] = ("dense.*",)
    formats: tuple[Format, ...] = ()
    batches: tuple[int, ...] = ()
    tokens: tuple[int, ...] = ()
    columns: tuple[int, ...] = ()
    layouts: tuple[Layout, ...] = ("row-major",)


@dataclass(frozen=True)
class Suite:
    """A named list of entries with what they share.

    Attributes:
        name, description: shown to the user.
        seed: of X, of dense weights and of matrices made by pruning.
        dtypes: for entries that name none.
        devices: where the suite can run.
        entries: its parts, planned in order.
        regime, stopping: conditions and length of every measurement.
        timer: name of the timer (see ``timing.timer_names``), None for the device's default.
        text: the file's content, kept in the run folder.
        origin: how to name the file in a message.
    """

    name: str
    description: str = ""
    seed: int = 0
    dtypes: tuple[str, ...] = ("fp32",)
    devices: tuple[str, ...] = ("cpu", "cuda")
    entries: tuple[Entry, ...] = ()
    regime: Regime = field(default_factory=Regime)
    stopping: Stopping = field(default_factory=Stopping)
    timer: str | None = None
    text: str = field(default="", repr=False, compare=False)
    origin: str = field(default="", repr=False, compare=False)
