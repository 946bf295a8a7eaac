"""``--devices`` and ``--cluster``: on which devices a run measures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparsity_roofline.bench.cluster import Fleet
    from sparsity_roofline.bench.plan import Plan


@contextmanager
def opened(given: dict[str, Any]) -> Iterator[Fleet | None]:
    """The fleet the options name, or None for one device of this machine. A dry run starts no worker."""
    from sparsity_roofline.bench.fleets import open_fleet

    cluster = given["cluster"]
    if given["dry_run"] and (cluster or "").partition(":")[0] in ("local", "slurm"):
        cluster = None
    with open_fleet(given["devices"], cluster, given["device"]) as fleet:
        yield fleet


def planned(given: dict[str, Any], fleet: Fleet | None) -> Plan:
    """The plan, made where it will be carried out: the kernels that are available there count."""
    from sparsity_roofline.commands._measuring import make_plan

    size = 1 if fleet is None else fleet.size
    kind = (given["cluster"] or "").partition(":")[0]
    if fleet is None or not kind or kind == "local":
        return make_plan(given, size)
    from sparsity_roofline.bench.cluster_dask import DaskFleet

    assert isinstance(fleet, DaskFleet)
    plan: Plan = fleet.call(make_plan, given, size)
    return plan
