"""Where work is done: on processes of this machine, or on a Ray cluster."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from renderfarm import machine
from renderfarm.audit.fanout import FanOut
from renderfarm.errors import JobError
from renderfarm.farm.ray_engine import ray_engine
from renderfarm.job import JobSettings
from renderfarm.run import here
from renderfarm.run.engine import OpenEngine


def engine_for(job: JobSettings, address: str | None) -> OpenEngine:
    """As `farm.engine` and the address of a cluster say; `auto` is local without an address and with at most one GPU.

    Raises: JobError for an address and `farm.engine: local`.
    """
    if job.farm.engine == "local" and address is not None:
        raise JobError("farm.engine: local joins no cluster", f"--address {address}", "leave --address out, or set farm.engine: ray")
    local_alone = job.farm.engine == "auto" and address is None and (job.model.device == "cpu" or len(machine.gpus()) < 2)
    return here.open_engine if job.farm.engine == "local" or local_alone else ray_engine(address)


def fan_out_on(address: str | None) -> AbstractContextManager[FanOut | None]:
    """Where an audit or a search spreads: the cluster at this address, if one is named. Raises: JobError when nobody answers there."""
    if address is None:
        return nullcontext()
    from renderfarm.farm.spread import on_cluster

    return on_cluster(address)
