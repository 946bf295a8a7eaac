"""Operations and bytes of a case: one small function per format, used by the predictor and by the harness alike.

Formulas: the plain model of the Sparsity Roofline (Shinn et al., arXiv 2310.00496: work and compulsory traffic per
storage format). W is M x K, X is K x N, Y is M x N; ``b`` element bytes, ``i`` index bytes, ``p`` pointer bytes:

    format    operations       weight-side bytes
    dense     2 M N K          b M K
    csr       2 nnz N          (b + i) nnz + p (M + 1)
    bsr       2 nb r c N       b nb r c + i nb + p (ceil(M / r) + 1)
    nm        2 M K (n/m) N    b M K (n/m) + metadata
    bitmap    2 nnz N          b nnz + M K / 8

plus b K N for X and b M N for Y. bsr counts stored zeros and rounds M and K up to whole blocks; nm rounds K up to
whole groups. All arithmetic is float64: 2 M N K passes 2^63 for shapes that exist, and 53 bits are exact enough.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args, get_type_hints

import numpy as np
import numpy.typing as npt

from sparsity_roofline.model.dtype import DTYPES
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.table import BITMAP, BSR, CSR, DENSE, NM, CaseTable

Floats = npt.NDArray[np.float64]
Metadata = Literal["index", "combination", "vendor_2_4"]
NmWork = Literal["halved_at_dense_peak", "full_at_sparse_peak"]
Peak = Literal["dtype", "unit", "bound", "cuda", "tensor"]

_TENSOR = np.asarray([d.unit == "tensor" for d in DTYPES.values()])
_ELEMENT_BYTES = np.asarray([d.element_bytes for d in DTYPES.values()], dtype=np.float64)


@dataclass(frozen=True)
class CostOptions:
    """Every choice the model leaves open, by name; a prediction without its options cannot be reproduced.

    Attributes:
        weight_bytes, input_bytes, output_bytes_each: bytes of one element of W, X, Y; None takes the dtype's own.
            INT8 products are often written as INT32: set ``output_bytes_each=4`` for those.
        index_bytes, pointer_bytes: of csr and bsr indices and row offsets.
        positions: what says where the stored elements lie. ``stored``: the format's own indices, pointers and metadata;
            ``least``: the fewest bits in which any lossless layout can tell one mask of so many elements (blocks, or
            n of every m) from the others, so that no kernel's own layout undercuts it.
        metadata: of nm. ``index``: ceil(log2 m) bits per kept element; ``combination``: ceil(log2 C(m, n)) bits per
            group; ``vendor_2_4``: what NVIDIA's sparse tensor cores store, M K / 8 bytes for 2:4 and 4 bits per pair
            for 1:2 in 32-bit types, and ``index`` for every other n:m.
        bitmap_offsets: a bitmap kernel also reads M + 1 row offsets of ``pointer_bytes``.
        nm_work: ``halved_at_dense_peak`` charges n/m of the dense work at the dense peak; ``full_at_sparse_peak``
            charges the full work at the printed 2:4 peak (see ``at_sparse_peak``). Never both.
        compute_peak: whose peak the case runs at. ``dtype``: the dtype's peak whatever the format; ``unit``: that of
            the unit the kernel runs on; ``bound``: the same, and the largest of all units where the kernel is not
            known; ``cuda``, ``tensor``: that unit for every row.
        dense_peak: the same for the dense side of a speedup, whose own unit is the dtype's.
        input_rows: rows of X charged: ``all`` K, or only those ``used`` by a stored element (for bsr: block).
        output_bytes: ``full`` b M N; ``beyond_l2`` only what L2 cannot hold back, max(0, b M N - L2); ``none``.
        read_output: Y is read as well (beta != 0).
        conv_input: ``im2col`` charges K N elements, which is what a kernel given an explicit (K, N) operand reads;
            ``real`` charges the convolution's own input tensor where it is known.
    """

    weight_bytes: float | None = None
    input_bytes: float | None = None
    output_bytes_each: float | None = None
    index_bytes: int = 4
    pointer_bytes: int = 4
    positions: Literal["stored", "least"] = "stored"
    metadata: Metadata = "vendor_2_4"
    bitmap_offsets: bool = False
    nm_work: NmWork = "halved_at_dense_peak"
    compute_peak: Peak = "dtype"
    dense_peak: Peak = "dtype"
    input_rows: Literal["all", "used"] = "all"
    output_bytes: Literal["full", "beyond_l2", "none"] = "full"
    read_output: bool = False
    conv_input: Literal["im2col", "real"] = "im2col"

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for f in fields(self):
            value, choices = getattr(self, f.name), get_args(hints[f.name])
            if value is not None and isinstance(f.default, str) and value not in choices:
                raise UserError(f"cost option {f.name}={value!r}: choose one of {', '.join(choices)}")
        for name in ("index_bytes", "pointer_bytes"):
            if getattr(self, name) not in (2, 4, 8):
                raise UserError(f"cost option {name}={getattr(self, name)}: choose 2, 4 or 8")
        for name in ("weight_bytes", "input_bytes", "output_bytes_each"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise UserError(f"cost option {name}={value}: needs a positive number of bytes")
        if self.conv_input == "real" and self.input_rows == "used":
            raise UserError(
                "cost options conv_input=real and input_rows=used exclude each other: which entries of a "
                "convolution's input an unused column touches is not known"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, for JSON and file headers."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


PRESETS: dict[str, CostOptions] = {
    # What the paper charges: X and Y in full, one peak per dtype for dense and sparse alike.
    "paper": CostOptions(),
    # The same traffic against the peak of the unit that a kernel runs on: judges a kernel.
    "unit": CostOptions(compute_peak="unit"),
    # What no kernel can avoid from cold caches, whatever layout it stores W in. A kernel on CUDA cores cannot pass
    # their rate, so its own unit's peak is a true bound and the tightest one; where no kernel is named it is the
    # largest peak.
    "bound": CostOptions(compute_peak="bound", input_rows="used", output_bytes="beyond_l2", positions="least"),
}


def preset(name: str) -> CostOptions:
    """Look a preset up.

    Raises:
        UserError: a name that is not in ``PRESETS``.
    """
    try:
        return PRESETS[name]
    except KeyError:
        raise UserError(f"unknown cost preset {name!r}: choose one of {', '.join(PRESETS)}") from None


@dataclass(frozen=True, eq=False)
class Cost:
    """Operations and bytes, one float64 per case.

    Attributes:
        flops: multiply and add counted as two.
        weight_bytes, input_bytes, output_bytes: traffic of W with its metadata, of X, of Y.
    """

    flops: Floats
    weight_bytes: Floats
    input_bytes: Floats
    output_bytes: Floats

    @property
    def bytes(self) -> Floats:
        """All traffic."""
        return self.weight_bytes + self.input_bytes + self.output_bytes

    @property
    def intensity(self) -> Floats:
        """Operations per byte; 0 where nothing moves."""
        moved = self.bytes
        return np.divide(self.flops, moved, out=np.zeros_like(moved), where=moved > 0)


def dense(M: Floats, K: Floats, N: Floats, b: Floats) -> tuple[Floats, Floats]:
    """(operations, weight bytes) of a dense weight: 2 M N K and b M K."""
    return 2.0 * M * N * K, b * M * K


def csr(M: Floats, N: Floats, nnz: Floats, b: Floats, index: float, pointer: float) -> tuple[Floats, Floats]:
    """(operations, weight bytes) of CSR: 2 nnz N and (b + i) nnz + p (M + 1)."""
    return 2.0 * nnz * N, (b + index) * nnz + pointer * (M + 1.0)


def bsr(
    M: Floats, N: Floats, blocks: Floats, r: Floats, c: Floats, b: Floats, index: float, pointer: float
) -> tuple[Floats, Floats]:
    """(operations, weight bytes) of BSR with r x c blocks, stored zeros counted."""
    stored = blocks * r * c
    return 2.0 * stored * N, b * stored + index * blocks + pointer * (np.ceil(M / r) + 1.0)


def nm(M: Floats, K: Floats, N: Floats, n: Floats, m: Floats, b: Floats, bits: Floats) -> tuple[Floats, Floats]:
    """(operations, weight bytes) of n:m with ``bits`` of metadata per group of m; K counts whole groups."""
    groups = M * np.ceil(K / m)
    return 2.0 * groups * n * N, b * groups * n + groups * bits / 8.0


def bitmap(M: Floats, K: Floats, N: Floats, nnz: Floats, b: Floats, pointer: float) -> tuple[Floats, Floats]:
    """(operations, weight bytes) of a bitmap: one bit per entry of W, and M + 1 offsets of ``pointer`` bytes."""
    offsets = pointer * (M + 1.0) if pointer else 0.0
    return 2.0 * nnz * N, b * nnz + M * K / 8.0 + offsets


def choice_bits(of: Floats, chosen: Floats) -> Floats:
    """Fewest bits that tell a choice of ``chosen`` out of ``of`` from all others: a lower limit of log2 C(of, chosen).

    of H(p) - log2(8 of p (1 - p)) / 2 with p = chosen / of and H the binary entropy, at least 0 (Cover and Thomas,
    Elements of Information Theory, lemma 17.5.1).
    """
    p = np.divide(chosen, of, out=np.zeros_like(of), where=of > 0)
    inside = (p > 0) & (p < 1)
    q = np.where(inside, p, 0.5)
    entropy = -(q * np.log2(q) + (1 - q) * np.log2(1 - q))
    bits = of * entropy - 0.5 * np.log2(np.maximum(8 * of * q * (1 - q), 1.0))
    return np.where(inside, np.maximum(bits, 0.0), 0.0)


def nm_metadata_bits(n: int, m: int, element_bytes: float, metadata: Metadata) -> float:
    """Bits of metadata per group of m for one n:m pattern (see ``CostOptions.metadata``)."""
    if metadata == "combination":
        return float((math.comb(m, n) - 1).bit_length())
    if metadata == "vendor_2_4" and (n, m) == (1, 2) and element_bytes >= 4:
        return 4.0
    # 2:4 in the vendor's layout has 2 bits per kept element, the same as ``index``.
    return float(n * (m - 1).bit_length())


def at_sparse_peak(table: CaseTable, options: CostOptions) -> npt.NDArray[np.bool_]:
    """Rows whose full work is charged at a 2:4 peak: nm_work says so, the pattern is one that sparse tensor cores
    run (2:4, or 1:2, which is a case of it), and the dtype runs on tensor cores. Others keep n/m of the dense work."""
    if options.nm_work != "full_at_sparse_peak":
        return np.zeros(len(table), dtype=bool)
    pattern = (table.m == 2 * table.n) & ((table.m == 4) | (table.m == 2))
    chosen: npt.NDArray[np.bool_] = (table.format_code == NM) & pattern & _TENSOR[table.dtype_code]
    return chosen


def cost(
    table: CaseTable,
    options: CostOptions,
    *,
    l2_bytes: float = 0,
    conv_input: npt.ArrayLike | None = None,
) -> Cost:
    """Operations and bytes of every row.

    Args:
        table: the cases.
        options: see ``CostOptions``; ``PRESETS`` holds the three that records carry.
        l2_bytes: capacity that ``output_bytes="beyond_l2"`` keeps back.
        conv_input: with ``options.conv_input == "real"``, elements of each case's real input tensor
            (batch C_in H W); NaN for a case that is not a convolution, which is charged K N.

    Raises:
        UserError: ``conv_input="real"`` without the array, or one of another length.
    """
    M, K, N = (a.astype(np.float64) for a in (table.M, table.K, table.N))
    own = _ELEMENT_BYTES[table.dtype_code]
    b_w, b_x, b_y = (
        own if given is None else np.full_like(own, given)
        for given in (options.weight_bytes, options.input_bytes, options.output_bytes_each)
    )
    flops, weight = np.zeros_like(M), np.zeros_like(M)
    for code in np.unique(table.format_code):
        at = np.flatnonzero(table.format_code == code)
        flops[at], weight[at] = _weight_side(int(code), table.take(at), M[at], K[at], N[at], b_w[at], own[at], options)
    if options.positions == "least":
        weight = np.minimum(weight, b_w * table_elements(table) + least_positions(table) / 8.0)
    flops = np.where(at_sparse_peak(table, options), 2.0 * flops, flops)
    rows = table.used_columns.astype(np.float64) if options.input_rows == "used" else K
    elements = rows * N
    if options.conv_input == "real":
        elements = _real_input(elements, conv_input)
    output = b_y * M * N
    if options.output_bytes == "beyond_l2":
        written = np.maximum(output - l2_bytes, 0.0)
    else:
        written = output if options.output_bytes == "full" else np.zeros_like(output)
    if options.read_output:
        written = written + output
    return Cost(flops=flops, weight_bytes=weight, input_bytes=b_x * elements, output_bytes=written)


def table_elements(table: CaseTable) -> Floats:
    """Elements of W that each row's format stores, explicit zeros included."""
    M, K = table.M.astype(np.float64), table.K.astype(np.float64)
    blocks = table.stored_blocks.astype(np.float64) * table.block_rows * table.block_cols
    groups = M * np.ceil(K / np.maximum(table.m, 1)) * table.n
    by_code = {DENSE: M * K, CSR: table.nnz.astype(np.float64), BITMAP: table.nnz.astype(np.float64), BSR: blocks}
    return np.select([table.format_code == code for code in (*by_code, NM)], [*by_code.values(), groups])


def least_positions(table: CaseTable) -> Floats:
    """Fewest bits that say where the stored elements of each row lie (``CostOptions.positions``)."""
    M, K = table.M.astype(np.float64), table.K.astype(np.float64)
    places = np.ceil(M / np.maximum(table.block_rows, 1)) * np.ceil(K / np.maximum(table.block_cols, 1))
    blocks = choice_bits(places, np.minimum(table.stored_blocks.astype(np.float64), places))
    elements = choice_bits(M * K, np.minimum(table.nnz.astype(np.float64), M * K))
    pairs, which = np.unique(np.stack([table.n, table.m]), axis=1, return_inverse=True)
    each = np.array([math.log2(max(math.comb(int(m), int(n)), 1)) for n, m in pairs.T])
    groups = M * np.ceil(K / np.maximum(table.m, 1)) * each[which.reshape(-1)]
    unstructured = (table.format_code == CSR) | (table.format_code == BITMAP)
    return np.select([unstructured, table.format_code == BSR, table.format_code == NM], [elements, blocks, groups], 0.0)


def _weight_side(
    code: int, t: CaseTable, M: Floats, K: Floats, N: Floats, b: Floats, own: Floats, options: CostOptions
) -> tuple[Floats, Floats]:
    """(operations, weight bytes) of rows that share one format."""
    index, pointer = float(options.index_bytes), float(options.pointer_bytes)
    if code == DENSE:
        return dense(M, K, N, b)
    if code == CSR:
        return csr(M, N, t.nnz.astype(np.float64), b, index, pointer)
    if code == BSR:
        blocks, r, c = (a.astype(np.float64) for a in (t.stored_blocks, t.block_rows, t.block_cols))
        return bsr(M, N, blocks, r, c, b, index, pointer)
    if code == BITMAP:
        return bitmap(M, K, N, t.nnz.astype(np.float64), b, pointer if options.bitmap_offsets else 0.0)
    assert code == NM
    triples, which = np.unique(np.stack([t.n, t.m, own.astype(np.int64)]), axis=1, return_inverse=True)
    bits = [nm_metadata_bits(int(n), int(m), float(e), options.metadata) for n, m, e in triples.T]
    per_group = np.asarray(bits, dtype=np.float64)[which.reshape(-1)]
    return nm(M, K, N, t.n.astype(np.float64), t.m.astype(np.float64), b, per_group)


def _real_input(elements: Floats, conv_input: npt.ArrayLike | None) -> Floats:
    if conv_input is None:
        raise UserError("cost option conv_input=real needs the input elements of each case (NaN where it is no conv)")
    real = np.asarray(conv_input, dtype=np.float64)
    if real.shape != elements.shape:
        raise UserError(f"conv_input has shape {real.shape}, expected {elements.shape}: one figure per case")
    return np.where(np.isnan(real), elements, real)
