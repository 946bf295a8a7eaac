"""What each term contributes to the error: alone, switched on one after the other, and left out of the full model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pandas as pd

from sparsity_roofline.model.refined import Terms
from sparsity_roofline.model.terms.constants import KernelConstants
from sparsity_roofline.validation.refined.pairs import ape
from sparsity_roofline.validation.refined.predict import predict

GROUPS = ("cuBLAS", "our csr", "our bsr", "our nm")


def group_of(records: pd.DataFrame) -> pd.Series[str]:
    """cuBLAS, or our sparse kernels by format; "" for everything else."""
    ours = records["kernel_ours"].astype(bool) & (records["format"] != "dense")
    out = ("our " + records["format"].astype(str)).where(ours, "")
    return out.mask(records["kernel"] == "dense.cublas", "cuBLAS")


def ablation_table(
    records: pd.DataFrame, constants: Mapping[tuple[str, str], KernelConstants] | None = None
) -> pd.DataFrame:
    """MAPE in percent by group: a row for the plain model, one per term and way, and one for the full model.

    Constants stay as they were fitted with every term on: what is shown is how much of the prediction a term carries,
    not how well the others could be bent to replace it.
    """
    group = group_of(records)
    rows = records[group != ""]
    labels = group[group != ""]
    out = [_row("plain model", "none", rows, labels, constants, Terms.none())]
    chosen = Terms.none()
    for name in Terms.names():
        chosen = replace(chosen, **{name: True})
        out.append(_row(name, "and all above", rows, labels, constants, chosen))
    out += [
        _row(name, "left out", rows, labels, constants, replace(Terms(), **{name: False})) for name in Terms.names()
    ]
    out += [_row(name, "alone", rows, labels, constants, Terms.only(name)) for name in Terms.names()]
    return pd.DataFrame(out)


def _row(
    term: str,
    way: str,
    records: pd.DataFrame,
    groups: pd.Series[str],
    constants: Mapping[tuple[str, str], KernelConstants] | None,
    terms: Terms,
) -> dict[str, str | float]:
    error = ape(predict(records, terms, constants)["refined_ns"], records["time_ns"])
    means = 100 * error.groupby(groups).mean()
    return {"term": term, "way": way, **{name: float(means.get(name, float("nan"))) for name in GROUPS}}
