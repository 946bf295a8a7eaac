"""Puts prediction and measurement side by side: every sparse record beside its dense partner.

A pair is formed only between records of the same shape, dtype, layout, device, threads, timer, L2 state, clock state,
run and environment, under the same ceilings. Whatever differs in one of these stays unpaired, with the difference in
words; nothing is compared across regimes and nothing is dropped in silence.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.record import PRESETS
from sparsity_roofline.validation import flags
from sparsity_roofline.validation.amortisation import add_amortisation
from sparsity_roofline.validation.frame import add_ceilings, check_preset, normalise
from sparsity_roofline.validation.matched import MATCHED, family
from sparsity_roofline.validation.matched import partners as matched_partners

SHAPE = ("M", "K", "N", "dtype", "layout")
CONDITIONS = ("device", "threads", "timer", "regime_l2", "regime_clocks", "run_id", "environment", "ceilings_id")
KEYS = (*SHAPE, *CONDITIONS)
"""What the two sides of a pair have in common."""

_WORDS = {
    "device": "device",
    "threads": "threads",
    "timer": "timer",
    "regime_l2": "L2 state",
    "regime_clocks": "clocks",
    "run_id": "run",
    "environment": "environment",
    "ceilings_id": "ceilings",
}

_NO_THREADS = -1.0  # not a number is unequal to itself, so it cannot stand in a key

_CASE = (
    "run_id", "case", "collection", "matrix", "network", "layer", "method", "M", "K", "N", "batch", "pattern",
    "format", "dtype", "layout", "block_rows", "block_cols", "n", "m", "target_sparsity", "nnz", "density",
    "used_columns", "synthetic", "kernel", "kernel_version", "kernel_unit", "kernel_ours", "device", "threads",
    "timer", "regime_l2", "regime_clocks", "environment", "ceilings", "ceilings_id",
)  # fmt: skip

_SIDE = (
    "time_ns", "time_ci_low_ns", "time_ci_high_ns", "span_ns", "samples", "sm_clock_mhz", "setup_ns", "host_call_ns",
    *(f"sol_{preset}_ns" for preset in PRESETS), "sol_paper_held_ns", *(f"bound_{preset}" for preset in PRESETS),
    *(f"flops_{preset}" for preset in PRESETS), *(f"bytes_{preset}" for preset in PRESETS),
)  # fmt: skip

UNPAIRED_COLUMNS = (
    "run_id", "case", "kernel", "format", "pattern", "M", "K", "N", "dtype", "synthetic", "status", "reason", "why",
)  # fmt: skip


class Joined(NamedTuple):
    """What became of the records.

    Attributes:
        pairs: one row per sparse record with a time and a dense partner; the columns are those of docs/validate.md.
        unpaired: every other record that is not itself a dense partner, ``why`` in words.
    """

    pairs: pd.DataFrame
    unpaired: pd.DataFrame


def join(
    records: pd.DataFrame,
    *,
    preset: str = "paper",
    ceilings: str | None = None,
    dense_kernel: str | None = None,
    floor_ns: float | None = None,
) -> pd.DataFrame:
    """The pairs alone; see ``pair``."""
    return pair(records, preset=preset, ceilings=ceilings, dense_kernel=dense_kernel, floor_ns=floor_ns).pairs


def pair(
    records: pd.DataFrame,
    *,
    preset: str = "paper",
    ceilings: str | None = None,
    dense_kernel: str | None = None,
    floor_ns: float | None = None,
) -> Joined:
    """Join sparse records with their dense partners.

    The partner is the vendor's dense kernel (``dense.cublas`` on a GPU, ``dense.torch`` on a CPU). Among several
    dense records of one shape it is the one of the same matrix, else the one with the median time.

    Args:
        records: one row per (case, kernel), the columns of ``Record``.
        preset: cost preset whose speed-of-light latencies predict the speedup.
        ceilings: "datasheet", "measured", or None: the data sheet for a GPU of the table, else measured.
        dense_kernel: another dense kernel by name, "best" for the fastest one of each shape, or "matched" for the same
            kernel at density 1, else the dense kernel of its family (``matched``).
        floor_ns: a speed of light below this marks a pair ``below_floor``; None: 5 us on a GPU, none on a CPU.

    Raises:
        UserError: not a table of records, an unknown preset or kind of ceilings, or a dense kernel without a record.
        ValueError: the identity ln(measured / predicted) = ln(parity) does not hold in the result.
    """
    check_preset(preset)
    rows = add_ceilings(normalise(records), ceilings)
    rows["threads"] = rows["threads"].fillna(_NO_THREADS)
    usable = (rows["status"] == "ok") & (rows["time_ns"] > 0) & np.isfinite(rows["time_ns"])
    usable &= (rows[f"sol_{preset}_ns"] > 0) & np.isfinite(rows[f"sol_{preset}_ns"])
    is_dense = rows["format"] == "dense"
    _check_dense(rows.loc[is_dense, "kernel"].unique().tolist(), dense_kernel)

    sparse, dense = rows[usable & ~is_dense], rows[usable & is_dense]
    partner = (
        matched_partners(sparse, rows[usable], KEYS)
        if dense_kernel == MATCHED
        else _partners(sparse, dense, dense_kernel)
    )
    has = partner >= 0
    pairs = _columns(sparse[has], rows.loc[partner[has]], preset)
    pairs["threads"] = pairs["threads"].replace(_NO_THREADS, np.nan)
    pairs = add_amortisation(flags.add_flags(pairs, preset, floor_ns))
    _assert_identity(pairs)

    used = set(partner[has].tolist())
    left = rows[~rows.index.isin(used | set(sparse.index[has]))].copy()
    left["why"] = pd.Series(_why(left, usable, dense, preset, dense_kernel), left.index, dtype=object)
    return Joined(pairs, left[list(UNPAIRED_COLUMNS)].reset_index(drop=True))


def _check_dense(names: list[str], dense_kernel: str | None) -> None:
    if dense_kernel not in (None, "best", MATCHED, *names) and names:
        known = ", ".join([*sorted(names), "best", MATCHED])
        raise UserError(f"no record of a dense kernel {dense_kernel!r}: choose one of {known}")


def wanted_dense(row_unit: str, dense_kernel: str | None) -> str:
    """Name of the dense kernel that a record of this unit is compared with."""
    return dense_kernel or ("dense.torch" if row_unit == "cpu" else "dense.cublas")


def _partners(sparse: pd.DataFrame, dense: pd.DataFrame, dense_kernel: str | None) -> np.ndarray:
    """Index label of the dense partner of each sparse row, -1 where there is none."""
    if dense_kernel == "best":
        candidates = dense
    else:
        names = [wanted_dense(unit, dense_kernel) for unit in dense["kernel_unit"]]
        candidates = dense[dense["kernel"] == pd.Series(names, index=dense.index, dtype=object)]
    by_shape = _choose(candidates, KEYS, best=dense_kernel == "best")
    by_matrix = {} if dense_kernel == "best" else _choose(candidates, (*KEYS, "collection", "matrix"), best=False)
    out = np.full(len(sparse), -1, dtype=np.int64)
    short = list(sparse[list(KEYS)].itertuples(index=False, name=None))
    tail = list(sparse[["collection", "matrix"]].itertuples(index=False, name=None))
    for i, (key, rest) in enumerate(zip(short, tail, strict=True)):
        out[i] = by_matrix.get((*key, *rest), by_shape.get(key, -1))
    return out


def _choose(dense: pd.DataFrame, keys: tuple[str, ...], *, best: bool) -> dict[tuple[Any, ...], int]:
    """Key -> index label of one dense record: the median of each kernel's, and with ``best`` the fastest of those."""
    groups: dict[tuple[Any, ...], dict[str, list[tuple[float, int]]]] = {}
    for label, time, kernel, *key in zip(
        dense.index, dense["time_ns"], dense["kernel"], *(dense[k] for k in keys), strict=True
    ):
        groups.setdefault(tuple(key), {}).setdefault(str(kernel), []).append((float(time), int(label)))
    out = {}
    for key_of, kernels in groups.items():
        medians = [sorted(options)[(len(options) - 1) // 2] for options in kernels.values()]
        out[key_of] = (min(medians) if best else medians[0])[1]
    return out


def _columns(sparse: pd.DataFrame, dense: pd.DataFrame, preset: str) -> pd.DataFrame:
    """The joined columns: identity of the case, both sides, and every ratio."""
    out = sparse[list(_CASE)].reset_index(drop=True)
    out.insert(0, "preset", preset)
    out["sparsity"] = 1.0 - out["density"]
    out["dense_kernel"] = dense["kernel"].to_numpy()
    out["dense_case"] = dense["case"].to_numpy()
    out["dense_unit"] = dense["kernel_unit"].to_numpy()
    out["dense_record"] = dense.index.to_numpy()
    out["sparse_record"] = sparse.index.to_numpy()
    for side, rows in (("sparse", sparse), ("dense", dense)):
        for name in _SIDE:
            head, _, unit = name.rpartition("_ns")
            out[f"{head}_{side}_ns" if head and not unit else f"{name}_{side}"] = rows[name].to_numpy()
        time = out[f"time_{side}_ns"]
        for which in PRESETS:
            out[f"f_{side}_{which}"] = out[f"sol_{which}_{side}_ns"] / time
        out[f"f_{side}_held"] = out[f"sol_paper_held_{side}_ns"] / time
        out[f"sol_{side}_ns"] = out[f"sol_{preset}_{side}_ns"]
        out[f"bound_{side}"] = out[f"bound_{preset}_{side}"]
        out[f"f_{side}"] = out[f"f_{side}_{preset}"]
    out["predicted_speedup"] = out["sol_dense_ns"] / out["sol_sparse_ns"]
    out["measured_speedup"] = out["time_dense_ns"] / out["time_sparse_ns"]
    out["measured_speedup_low"], out["measured_speedup_high"] = _ratio_interval(out)
    out["parity"] = out["f_sparse"] / out["f_dense"]
    out["log_error"] = np.log(out["measured_speedup"].to_numpy() / out["predicted_speedup"].to_numpy())
    return out


def _ratio_interval(pairs: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """95 % interval of T_dense / T_sparse from the intervals of the two medians.

    The variance estimates are recovered from each side's limits on the log scale and added in quadrature (Zou and
    Donner 2008, doi 10.1002/sim.3095), which keeps asymmetric limits asymmetric. Not a number where a side has none.
    """
    log = {
        f"{which}_{side}": np.log(pairs[name.format(side)].to_numpy(np.float64))
        for side in ("dense", "sparse")
        for which, name in (("mid", "time_{}_ns"), ("low", "time_ci_low_{}_ns"), ("high", "time_ci_high_{}_ns"))
    }
    mid = log["mid_dense"] - log["mid_sparse"]
    down = np.hypot(log["mid_dense"] - log["low_dense"], log["high_sparse"] - log["mid_sparse"])
    up = np.hypot(log["high_dense"] - log["mid_dense"], log["mid_sparse"] - log["low_sparse"])
    return np.exp(mid - down), np.exp(mid + up)


def _assert_identity(pairs: pd.DataFrame) -> None:
    """ln(measured / predicted speedup) = ln(parity), always."""
    gap = np.abs(pairs["log_error"].to_numpy() - np.log(pairs["parity"].to_numpy()))
    if not bool(np.all(gap <= 1e-9)):
        worst = pairs.iloc[int(np.nanargmax(np.where(np.isnan(gap), np.inf, gap)))]
        raise ValueError(f"the parity identity fails for {worst['case']} with {worst['kernel']}: a fault of the join")


def _why(
    left: pd.DataFrame, usable: pd.Series[bool], dense: pd.DataFrame, preset: str, dense_kernel: str | None
) -> list[str]:
    """For each record that is in no pair: the reason, in words."""
    by_shape: dict[tuple[Any, ...], list[dict[Hashable, Any]]] = {}
    for row in dense.to_dict("records"):
        by_shape.setdefault(tuple(row[k] for k in SHAPE), []).append(row)
    out = []
    for row, fit in zip(left.to_dict("records"), usable[left.index], strict=True):
        if row["status"] != "ok":
            out.append(f"{row['status']}: {row['reason'] or 'no reason recorded'}")
        elif not fit:
            lacks = "time" if not row["time_ns"] > 0 else f"speed of light ({preset}, {row['ceilings']} ceilings)"
            out.append(f"no {lacks} in the record")
        elif row["format"] == "dense":
            out.append("dense, partner of no sparse record")
        else:
            out.append(_no_partner(row, by_shape.get(tuple(row[k] for k in SHAPE), []), dense_kernel))
    return out


def _no_partner(row: dict[Hashable, Any], same_shape: list[dict[Hashable, Any]], dense_kernel: str | None) -> str:
    """Why a sparse record with a time found no partner: what the nearest dense record differs in."""
    name = wanted_dense(str(row["kernel_unit"]), dense_kernel)
    if dense_kernel == MATCHED:
        kernel = str(row["kernel"])
        return f"no dense partner: neither {kernel} at density 1 nor {family(kernel)} for this shape, dtype and layout"
    candidates = [d for d in same_shape if name in ("best", d["kernel"])]
    if not candidates:
        wanted = "dense" if name == "best" else name
        return f"no dense partner: no {wanted} time for this shape, dtype and layout"
    differs = [[c for c in CONDITIONS if d[c] != row[c]] for d in candidates]
    nearest = min(range(len(candidates)), key=lambda i: len(differs[i]))
    partner = candidates[nearest]
    what = [f"{_WORDS[c]} {_show(partner[c])} instead of {_show(row[c])}" for c in differs[nearest]]
    return f"no dense partner: {partner['kernel']} was measured under other conditions ({'; '.join(what)})"


def _show(value: object) -> str:
    if value == _NO_THREADS:
        return "none"
    return f"{value:g}" if isinstance(value, float) else (str(value) or "none")
