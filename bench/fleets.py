"""The fleet that a user names: GPUs of this host, or workers of a Dask cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sparsity_roofline.bench.cluster import Fleet
from sparsity_roofline.kernels.protocol import Device
from sparsity_roofline.model.errors import UserError


@contextmanager
def open_fleet(devices: str | None, cluster: str | None, device: Device | None = None) -> Iterator[Fleet | None]:
    """A fleet, closed after the block; None where neither is named: one device of this machine.

    Args:
        devices: ``all`` or ``0,1``: GPUs of this host.
        cluster: see ``cluster_dask.open_cluster``.
        device: what the run is for, if that was said.

    Raises:
        UserError: both are named, or there is no such device or cluster.
    """
    if devices is not None and cluster is not None:
        raise UserError("--devices means GPUs of this host and --cluster other workers: choose one of them")
    if devices is not None:
        from sparsity_roofline.bench.cluster_local import HostFleet, choose, gpus

        if device == "cpu":
            raise UserError("--devices chooses among GPUs: leave out --device cpu")
        yield HostFleet(choose(devices, gpus()))
    elif cluster is not None:
        from sparsity_roofline.bench.cluster_dask import open_cluster

        with open_cluster(cluster, device) as fleet:
            yield fleet
    else:
        yield None
