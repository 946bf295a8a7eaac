"""``--devices`` and ``--cluster``: on which devices a run measures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sparsity_roofline.model.errors import UserError

if TYPE_CHECKING:
    from sparsity_roofline.bench.cluster import Fleet
    from sparsity_roofline.bench.plan import Plan


@contextmanager
def opened(given: dict[str, Any]) -> Iterator[Fleet | None]:
    """The fleet the options name, or None for one device of this machine. A dry run starts nothing."""
    devices, cluster = given["devices"], given["cluster"]
    if devices and cluster:
        raise UserError("--devices means GPUs of this host and --cluster other workers: choose one of them")
    if devices:
        from sparsity_roofline.bench.cluster_local import HostFleet, choose, gpus

        if given["device"] == "cpu":
            raise UserError("--devices chooses among GPUs: leave out --device cpu")
        yield HostFleet(choose(devices, gpus()))
    elif cluster and not (given["dry_run"] and cluster.partition(":")[0] in ("local", "slurm")):
        from sparsity_roofline.bench.cluster_dask import open_cluster

        with open_cluster(cluster, given["device"]) as fleet:
            yield fleet
    else:
        yield None


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
