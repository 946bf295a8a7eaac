"""The public functions behind the verbs: plain types in, DataFrames out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from sparsity_roofline.model import assumed, declared, roofline
from sparsity_roofline.model.case import Case, Format
from sparsity_roofline.model.cost import CostOptions, cost
from sparsity_roofline.model.cost import preset as lookup_preset
from sparsity_roofline.model.declared import Declared
from sparsity_roofline.model.dtype import Unit
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.expect import expected_case, parse_shape
from sparsity_roofline.model.hardware import Ceilings
from sparsity_roofline.model.matrix import Matrix
from sparsity_roofline.model.pattern import Pattern
from sparsity_roofline.model.table import CaseTable
from sparsity_roofline.rows import add_reuses, declared_rows

if TYPE_CHECKING:
    from sparsity_roofline.bench.events import OnEvent, RunSummary
    from sparsity_roofline.bench.timing.protocol import L2State

_LABELS = [
    "collection",
    "network",
    "layer",
    "matrix",
    "M",
    "K",
    "N",
    "batch",
    "pattern",
    "target_sparsity",
    "format",
    "dtype",
]
_COUNTS = ["nnz", "density", "stored_elements", "used_columns", "synthetic"]


def predict(
    what: str | Case | Matrix | Iterable[str | Case | Matrix],
    *,
    device: str | Ceilings = "h100",
    N: int | Sequence[int] | None = None,
    pattern: str | Declared | Sequence[str | Declared] = "unstructured",
    sparsity: float | Sequence[float] = 0.9,
    dtype: str | Sequence[str] = "fp16",
    format: Format | None = None,
    preset: str = "paper",
    options: CostOptions | None = None,
    unit: Unit | None = None,
    conv_input: Sequence[float] | None = None,
) -> pd.DataFrame:
    """Speed-of-light latency, bound and predicted speedup. Needs no GPU and no tensor library.

    Args:
        what: shapes as text (``"4096x4096x2048"``, M x K x N), cases, or matrices (their counts are then the real
            ones), one or many.
        device: a name of ``hardware list`` (any unambiguous spelling), a TOML file (``model.assumed``) or ceilings.
        N: columns of X, for matrices.
        pattern, sparsity: of shapes; every combination is predicted. A pattern may be declared (``model.declared``).
        dtype: arithmetic types of shapes and matrices; every one is predicted.
        format: storage format; by default the one made for the pattern.
        preset: ``paper``, ``unit`` or ``bound``: which cost options and peak.
        options: cost options in place of the preset's.
        unit: the unit the sparse kernel runs on, for the presets ``unit`` and ``bound``.
        conv_input: for options with ``conv_input="real"``: elements of each case's real input tensor, NaN where it is
            no convolution.

    Returns:
        One row per case: its labels and counts; ``sol_dense_us`` and ``sol_us`` (speed-of-light latency, dense and
        sparse, microseconds); ``bound_dense`` and ``bound`` (compute or memory); ``speedup`` (predicted); operations
        and bytes of both; ``stored_bytes`` of the sparse weight; ``convert_us`` and ``reuses`` (least time to convert
        the dense weight, and the calls with one pattern that earn it back, see ``model.reuse``). ``frame.attrs`` holds
        the device, the kind of its ceilings and the preset.

    Raises:
        UserError: an unknown device, pattern, dtype or shape; a matrix without ``N``.
    """
    native, more = _split(pattern)
    cases = list(_cases(what, N, native, sparsity, dtype, format))
    ceilings = assumed.find(device) if isinstance(device, str) else device
    chosen, table = options or lookup_preset(preset), CaseTable.of(cases)
    prediction = roofline.predict(table, ceilings, preset, options=options, unit=unit, conv_input=conv_input)
    columns = prediction.columns()
    labels = pd.DataFrame([{name: getattr(case, name) for name in _LABELS + _COUNTS} for case in cases])
    if labels.empty:
        labels = pd.DataFrame(columns=_LABELS + _COUNTS)
    figures = pd.DataFrame(
        {
            "sol_dense_us": columns["sol_dense_s"] * 1e6,
            "sol_us": columns["sol_s"] * 1e6,
            "bound_dense": columns["bound_dense"],
            "bound": columns["bound"],
            "speedup": columns["speedup"],
            "flops_dense": columns["flops_dense"],
            "flops": columns["flops"],
            "bytes_dense": columns["bytes_dense"],
            "bytes": columns["bytes"],
            "stored_bytes": cost(table, chosen, conv_input=conv_input).weight_bytes,
        }
    )
    frame = pd.concat([labels, figures], axis=1)
    if more:
        rows = declared_rows(_shapes(what), more, _many(sparsity), _many(dtype), ceilings, chosen)
        frame = pd.concat([frame, rows], ignore_index=True) if len(frame) else rows
    add_reuses(frame, ceilings, chosen)
    frame.attrs.update(device=ceilings.device, ceilings=ceilings.kind, preset=preset)
    return frame


def _split(pattern: Any) -> tuple[list[str], list[Declared]]:
    """Patterns that masks of this program can have, and declared ones."""
    found = [item if isinstance(item, Declared) else declared.find(str(item)) for item in _many(pattern)]
    return [str(p) for p in found if isinstance(p, Pattern)], [p for p in found if isinstance(p, Declared)]


def _shapes(what: Any) -> list[tuple[int, int, int]]:
    items: list[Any] = [what] if isinstance(what, (str, Case, Matrix)) else list(what)
    if not all(isinstance(item, str) for item in items):
        raise UserError("a declared pattern has no masks: predict it for shapes, not for cases or matrices")
    return [parse_shape(item) for item in items]


def _many(value: Any) -> list[Any]:
    return [value] if isinstance(value, (str, int, float)) or not isinstance(value, Iterable) else list(value)


def _cases(what: Any, N: Any, pattern: Any, sparsity: Any, dtype: Any, format: Format | None) -> Iterable[Case]:
    items = [what] if isinstance(what, (str, Case, Matrix)) else list(what)
    for item in items:
        if isinstance(item, Case):
            yield item
        elif isinstance(item, Matrix):
            if N is None:
                raise UserError(f"{item.name}: N is needed to predict a matrix (columns of X)")
            for columns in _many(N):
                for name in _many(dtype):
                    yield Case.of(item, columns, name, format)
        elif isinstance(item, str):
            rows, cols, columns = parse_shape(item)
            for text in _many(pattern):
                parsed = Pattern.parse(text)
                # n:m has one sparsity of its own
                for level in [0.0] if parsed.kind in ("nm", "dense") else _many(sparsity):
                    for name in _many(dtype):
                        yield expected_case(rows, cols, columns, parsed, float(level), name, format=format)
        else:
            raise UserError(f"cannot predict a {type(item).__name__}: pass shapes as text, cases or matrices")


def network_cases(
    name: str, *, batch: int = 1, pattern: str, sparsity: float, dtype: str = "fp16"
) -> tuple[list[Case], list[float]]:
    """Every product of a network at one batch size, its prunable layers pruned; and how often each happens.

    Attention products and depthwise convolutions have no weight that is pruned in practice: they stay dense, so that a
    sum over the cases is the network's and not only its prunable layers'.

    Raises:
        UserError: an unknown network, pattern or dtype.
    """
    from sparsity_roofline.model import networks

    layers = networks.load(name)
    arrays = networks.shapes(layers, batch)
    dense, sparse = Pattern("dense"), Pattern.parse(pattern)
    cases = [
        expected_case(
            layer.M,
            layer.K,
            int(N),
            sparse if layer.prunable else dense,
            sparsity if layer.prunable else 0.0,
            dtype,
            collection="network",
            matrix=layer.layer,
            network=layer.network,
            layer=layer.layer,
            batch=batch,
        )
        for layer, N in zip(layers, arrays["N"], strict=True)
    ]
    return cases, [float(times) for times in arrays["times"]]


def predict_network(
    name: str,
    *,
    batch: int = 1,
    pattern: str = "2:4",
    sparsity: float = 0.9,
    dtype: str = "fp16",
    device: str | Ceilings = "h100",
    preset: str = "paper",
    options: CostOptions | None = None,
) -> tuple[pd.DataFrame, list[float]]:
    """Every product of a network predicted, and how often each happens (see ``network_cases``).

    Convolutions are charged their real input tensor, as an implicit GEMM reads it, unless ``options`` says
    ``im2col``; the column ``conv_input`` says which. What the harness measures is the product with the im2col matrix:
    never compare the two.

    Raises:
        UserError: see ``network_cases`` and ``predict``.
    """
    from sparsity_roofline.model import networks

    cases, times = network_cases(name, batch=batch, pattern=pattern, sparsity=sparsity, dtype=dtype)
    # The rows of X that an empty column spares are known for an im2col matrix only: a real input is charged in full.
    chosen = options or replace(lookup_preset(preset), conv_input="real", input_rows="all")
    real = networks.shapes(networks.load(name), batch)["conv_input"]
    frame = predict(cases, device=device, preset=preset, options=chosen, conv_input=real.tolist())
    frame["conv_input"] = ["" if np.isnan(elements) else chosen.conv_input for elements in real]
    return frame, times


def collection_cases(
    uri: str,
    *,
    prune: Sequence[str] = (),
    sparsities: Sequence[float] = (),
    match: str = "*",
    batches: Sequence[int] = (),
    columns: Sequence[int] = (),
    dtypes: Sequence[str] = ("fp16",),
    on_matrix: Callable[[str], None] | None = None,
) -> Iterable[Case]:
    """Cases of a matrix collection, with the counts of its real masks.

    Args:
        uri, prune, sparsities: see ``open_collection``.
        match: only matrices whose name matches this glob.
        batches: N = batch x columns per image, for matrices that know their columns per image.
        columns: N itself, for all.
        dtypes: arithmetic types.
        on_matrix: called with each name before it is read.

    Raises:
        UserError: the collection cannot be opened, nothing matches, or no N follows for any matrix.
    """
    from sparsity_roofline.bench.matrices import open_collection

    collection = open_collection(uri, prune=prune, sparsities=sparsities)
    infos = [info for info in collection.infos() if info.present and fnmatchcase(info.name, match)]
    if not infos:
        raise UserError(f"no matrix of {uri} has a name that matches {match!r}")
    if not columns and not any(info.columns_per_image for info in infos if batches):
        raise UserError(f"{uri}: say N with --columns, or --batch where the layers know their output pixels")
    for info in infos:
        sizes = [batch * info.columns_per_image for batch in batches] if info.columns_per_image else []
        if not sizes and not columns:
            continue
        if on_matrix is not None:
            on_matrix(info.name)
        matrix = collection.load(info.name)
        for N in dict.fromkeys([*sizes, *columns]):
            for name in dtypes:
                yield Case.of(matrix, N, name, collection=collection.label)


def totals(frame: pd.DataFrame, times: Sequence[float] | None = None) -> dict[str, float]:
    """Sums of a prediction over its rows: dense and sparse SoL latency (us) and the speedup of the sums.

    ``times`` says how often each row happens; once by default.
    """
    weight = 1.0 if times is None else pd.Series(times, index=frame.index, dtype=float)
    dense, sparse = float((frame["sol_dense_us"] * weight).sum()), float((frame["sol_us"] * weight).sum())
    return {"sol_dense_us": dense, "sol_us": sparse, "speedup": dense / sparse if sparse else float("nan")}


def measure(
    suite: str | Path = "main",
    *,
    out: str | Path,
    collection: str | None = None,
    device: Literal["cuda", "cpu"] | None = None,
    kernels: Sequence[str] = (),
    select: Sequence[str] = (),
    dtypes: Sequence[str] = (),
    timer: str | None = None,
    l2: L2State | None = None,
    budget_s: float | None = None,
    case_timeout_s: float = 120.0,
    resume: bool = False,
    on_event: OnEvent | None = None,
    devices: str | None = None,
    cluster: str | None = None,
) -> RunSummary:
    """Time a suite's kernels on this machine; every finished case is on disk at once.

    Args:
        suite: a suite by name, or a TOML file.
        out: run folder; new or empty unless ``resume``.
        collection: what the suite's matrices come from, see ``open_collection``; the built-in collection by default.
        device: by default a GPU if there is one.
        kernels: kernels of your own, ``module:name`` or ``file.py:name``.
        select: globs of kernel names; only these are measured.
        dtypes: only these arithmetic types.
        timer: ``cupti-kineto``, ``cuda-graph`` or ``cuda-events``, on a CPU ``monotonic``; by default the suite's, else
            the first of these for the device.
        l2: ``cold-clean``, ``cold-dirty`` or ``hot``; by default the suite's.
        budget_s: keep to this wall time by the sampling rule of docs/sampling.md.
        case_timeout_s: a case that takes longer is ended and recorded as ``timeout``.
        resume: go on with the run in ``out``.
        on_event: called with every step (``bench.events.Event``).
        devices: share the run among GPUs of this host: ``all``, or ``0,1``.
        cluster: share it among Dask workers: a scheduler's address or file, ``slurm:N`` or ``local:N``.

    Returns:
        What was done and where; read the records with ``read_records(summary.folder)``.

    Raises:
        UserError: see ``bench.plan.make_plan`` and ``bench.run.run``.
    """
    from sparsity_roofline.bench import plan as planning
    from sparsity_roofline.bench.environment import pick_device
    from sparsity_roofline.bench.fleets import open_fleet
    from sparsity_roofline.bench.run import run
    from sparsity_roofline.bench.suites import load_suite
    from sparsity_roofline.kernels.registry import load_kernels

    plan = planning.make_plan(
        load_suite(suite),
        kernels=load_kernels(kernels),
        device=device or pick_device(),
        collection=collection,
        extra_kernels=kernels,
        dtypes=dtypes,
        select=select,
        timer=timer,
        l2=l2,
    )
    with open_fleet(devices, cluster, device) as fleet:
        if budget_s is not None:
            plan = planning.sample(plan, budget_s, fleet.size if fleet is not None else 1)
        return run(
            plan,
            out,
            resume=resume,
            case_timeout_s=case_timeout_s,
            budget_s=budget_s,
            on_event=on_event,
            fleet=fleet,
        )
