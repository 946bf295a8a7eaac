"""Which cases a suite's entries stand for: filters, strata, storage formats and N, from listings alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from sparsity_roofline.bench.inputs import SEEDED, dense_name
from sparsity_roofline.bench.matrices.collection import Collection, MatrixInfo
from sparsity_roofline.bench.suites.schema import DEFAULT_COLLECTION, Entry, Suite
from sparsity_roofline.kernels.protocol import Device, Kernel
from sparsity_roofline.kernels.registry import select as select_kernels
from sparsity_roofline.model.case import Case, Format, Layout, format_of
from sparsity_roofline.model.pattern import DENSE
from sparsity_roofline.model.text import encodable


@dataclass(frozen=True)
class Source:
    """How to open a collection again in another process: the arguments of ``open_collection``. Never written to disk,
    since ``uri`` may hold a path."""

    uri: str
    prune: tuple[str, ...]
    sparsities: tuple[float, ...]
    seed: int

    def open(self) -> Collection:
        """The collection."""
        from sparsity_roofline.bench.matrices import open_collection

        return open_collection(self.uri, prune=self.prune, sparsities=self.sparsities, seed=self.seed)


@dataclass(frozen=True)
class Candidate:
    """A case, where its matrix comes from, the kernels asked for, the dense kernels it is compared with, and whether
    its matrix knows the weight before pruning, which is then what those multiply."""

    case: Case
    source: int
    kernels: tuple[str, ...]
    dense: tuple[str, ...] = ()
    unpruned: bool = False


def expand(
    suite: Suite,
    usable: Mapping[str, Kernel],
    known: Mapping[str, Kernel],
    device: Device,
    collection: str | None,
    dtypes: tuple[str, ...],
    only: tuple[str, ...],
    notes: list[str],
) -> tuple[list[Candidate], list[Source]]:
    """Candidates in suite order and the sources they refer to; ``notes`` is added to.

    Raises:
        UserError: see ``plan.make_plan``.
    """
    out: list[Candidate] = []
    sources: list[Source] = []
    opened: dict[Source, tuple[int, Collection]] = {}
    if only:
        select_kernels(only, known)  # refuses a glob that matches nothing
    for number, entry in enumerate(suite.entries, 1):
        if entry.devices and device not in entry.devices:
            continue
        sparse = _names(entry.kernels, usable, only)
        dense = [n for n in _names(entry.dense, usable, ()) if usable[n].format == "dense"]
        if any(glob.startswith("dense") for glob in only):
            dense = [n for n in dense if any(fnmatchcase(n, glob) for glob in only)]
        uri = (collection or "builtin") if entry.collection == DEFAULT_COLLECTION else entry.collection
        source = Source(uri, entry.prune, entry.sparsities, suite.seed)
        if source not in opened:
            opened[source] = (len(sources), source.open())
            sources.append(source)
        index, matrices = opened[source]
        infos = _chosen(matrices.infos(), entry, f"entry {number}", notes)
        out += _cases(suite, entry, infos, matrices.label, index, usable, sparse, dense, dtypes, notes)
    return out, sources


def dense_partner(candidate: Candidate, seed: int) -> Candidate:
    """The dense case a sparse one is compared with, shared by every sparsity of the shape.

    It multiplies the matrix's weight before pruning where that is known, else a seeded one of the shape.
    """
    case = candidate.case
    dense = Case(
        collection=case.collection,
        matrix=dense_name(case.M, case.K),
        M=case.M,
        K=case.K,
        N=case.N,
        pattern=str(DENSE),
        format="dense",
        dtype=case.dtype,
        nnz=case.M * case.K,
        used_columns=case.K,
        layout=case.layout,
        batch=case.batch,
        weight=case.matrix if candidate.unpruned else SEEDED,
        synthetic=not candidate.unpruned,
        seed=seed,
    )
    return Candidate(
        dense, candidate.source if candidate.unpruned else -1, candidate.dense, unpruned=candidate.unpruned
    )


def _names(globs: Sequence[str], usable: Mapping[str, Kernel], only: Sequence[str]) -> list[str]:
    names = [n for n in usable if any(fnmatchcase(n, g) for g in globs)]
    narrowed = [g for g in only if not g.startswith("dense")]
    return [n for n in names if not narrowed or any(fnmatchcase(n, g) for g in narrowed)]


def _chosen(infos: Sequence[MatrixInfo], entry: Entry, where: str, notes: list[str]) -> list[MatrixInfo]:
    absent = odd = 0
    strata: dict[tuple[object, ...], list[int]] = {}
    seen: set[tuple[object, ...]] = set()
    for place, info in enumerate(infos):
        if not _matches(info, entry):
            continue
        if not info.present:
            absent += 1
            continue
        if not all(map(encodable, filter(None, (info.name, info.network, info.layer, info.method)))):
            odd += 1
            continue
        stratum = (info.network, info.method, str(info.pattern), info.target_sparsity)
        shape = (*stratum, info.rows, info.cols, info.columns_per_image)
        if entry.unique_shapes and shape in seen:
            continue
        seen.add(shape)
        strata.setdefault(stratum, []).append(place)
    if absent:
        notes.append(f"{where}: {absent} matrices are listed but not there")
    if odd:
        notes.append(f"{where}: {odd} matrices have names that are not UTF-8: rename them to have them measured")
    kept = sorted(place for places in strata.values() for place in _spread(places, entry.max_matrices))
    if not kept:
        notes.append(f"{where}: no matrix matches")
    return [infos[place] for place in kept]


def _spread(places: list[int], most: int) -> list[int]:
    """At most ``most`` of them, evenly over the listing, the first among them; all for 0."""
    if not most or len(places) <= most:
        return places
    return [places[i * len(places) // most] for i in range(most)]


def _matches(info: MatrixInfo, entry: Entry) -> bool:
    texts = (
        (entry.networks, info.network),
        (entry.methods, info.method),
        (entry.layers, info.layer),
        (entry.patterns, str(info.pattern)),
    )
    if any(globs and not any(fnmatchcase(text or "", g) for g in globs) for globs, text in texts):
        return False
    wanted = entry.target_sparsity
    target = info.target_sparsity
    return not wanted or (target is not None and any(abs(target - s) < 1e-6 for s in wanted))


def _columns(info: MatrixInfo, entry: Entry) -> list[tuple[int, int | None]]:
    """(N, batch) of one matrix, without repeats."""
    out: dict[int, int | None] = {}
    if info.columns_per_image is not None:
        for batch in entry.batches:
            out.setdefault(batch * info.columns_per_image, batch)
    else:
        for tokens in entry.tokens:
            out.setdefault(tokens, None)
    for columns in entry.columns:
        out.setdefault(columns, None)
    return list(out.items())


def _cases(
    suite: Suite,
    entry: Entry,
    infos: Sequence[MatrixInfo],
    label: str,
    source: int,
    usable: Mapping[str, Kernel],
    sparse: Sequence[str],
    dense: Sequence[str],
    dtypes: tuple[str, ...],
    notes: list[str],
) -> list[Candidate]:
    out: list[Candidate] = []
    without_n, without_kernel = 0, set()
    for info in infos:
        columns = _columns(info, entry)
        without_n += not columns
        pattern = info.pattern
        own: Format = format_of(pattern)
        formats = entry.formats or (own,)
        for format in formats if own != "dense" else ():
            if (format == "bsr" and pattern.kind != "block") or (format == "nm" and pattern.kind != "nm"):
                continue
            names = tuple(n for n in sparse if usable[n].format == format)
            if not names:
                without_kernel.add(format)
                continue
            for N, batch in columns:
                for layout in entry.layouts:
                    for dtype in dtypes or entry.dtypes or suite.dtypes:
                        case = _case(info, label, N, batch, dtype, format, layout, suite.seed)
                        out.append(Candidate(case, source, names, tuple(dense), info.unpruned))
    if without_n:
        notes.append(f"{without_n} matrices of {label} fit none of the batches, tokens or columns asked for")
    for format in sorted(without_kernel):
        notes.append(f"no kernel for {format} among those asked for and available here: its cases are left out")
    return out


def _case(
    info: MatrixInfo, label: str, N: int, batch: int | None, dtype: str, format: Format, layout: Layout, seed: int
) -> Case:
    """The case with what the listing expects of the matrix: whole blocks, every row of X used."""
    pattern = info.pattern
    bsr, nm = format == "bsr", format == "nm"
    blocks = -(-info.nnz // (pattern.r * pattern.c)) if bsr else 0
    return Case(
        collection=label,
        matrix=info.name,
        M=info.rows,
        K=info.cols,
        N=N,
        pattern=str(pattern),
        format=format,
        dtype=dtype,
        nnz=info.nnz,
        block_rows=pattern.r if bsr else 0,
        block_cols=pattern.c if bsr else 0,
        n=pattern.n if nm else 0,
        m=pattern.m if nm else 0,
        stored_blocks=blocks,
        used_columns=info.cols,
        layout=layout,
        network=info.network,
        layer=info.layer,
        method=info.method,
        target_sparsity=info.target_sparsity,
        batch=batch,
        synthetic=info.synthetic,
        seed=seed,
    )
