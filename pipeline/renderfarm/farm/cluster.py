"""A Ray cluster to work on: an existing one by address, or a private local one that ends with this process.

Ray's own output stays out of the terminal, its telemetry is off, and a node that is cut off is noticed in seconds.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import os
import signal
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from renderfarm import machine
from renderfarm.errors import FarmLost, JobError, Stopped
from renderfarm.farm import leftovers
from renderfarm.job import JobSettings
from renderfarm.job.settings import RenderersSettings
from renderfarm.logs import get_logger

log = get_logger()

STARTS_MAX = 3
"""A raylet can miss its fixed 30 s limit on a loaded machine (measured on Ray 2.60)."""
OBJECT_STORE_BYTES = 512 << 20
CONNECT_S = 10.0
HEALTH = {"health_check_period_ms": 1000, "health_check_timeout_ms": 2000, "health_check_failure_threshold": 3}


@dataclass(frozen=True, slots=True)
class WorkerPlan:
    """How many workers of each kind, and what each asks of Ray: GPUs and CPUs of a renderer, CPUs of a finisher."""

    renderers: int
    finishers: int
    gpus_each: float
    cpus_each: float
    cpus_finisher: float = 1.0


def plan_workers(job: JobSettings, gpus: int, cpus: int) -> WorkerPlan:
    """One renderer per GPU, or one on a machine without; the other cores check and store, at least one for two renderers.

    On a host with many GPUs and few cores all of them share the cores: each then asks Ray for less than one.
    """
    coming = job.model.device == "cuda" or isinstance(job.farm.renderers, RenderersSettings)  # an autoscaler brings what is asked for
    on_gpu = job.model.device != "cpu" and (gpus > 0 or coming)
    renderers = job.farm.renderers_most or (max(1, gpus) if on_gpu else 1)
    least = -(-renderers // 2) if on_gpu else 1
    finishers = max(1, job.farm.finishers) if isinstance(job.farm.finishers, int) else max(least, cpus - renderers)
    share = min(1.0, max(0.1, cpus / (renderers + finishers))) if on_gpu else 1.0
    share = math.floor(share * 100) / 100
    return WorkerPlan(renderers, finishers, 1.0 if on_gpu else 0.0, share, share)


@contextlib.contextmanager
def cluster(job: JobSettings, address: str | None) -> Iterator[WorkerPlan]:
    """Ray, started or joined, for the time of the block. Raises: FarmLost, Stopped, JobError (an address nobody answers at)."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    _hush()
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    try:
        with _signals_kept():
            workers = _join(job, address, quiet) if address is not None else _start(job, quiet)
        yield workers
    finally:
        ray.shutdown()
        if address is None:
            leftovers.end_own()


def _hush() -> None:
    """Ray prints what raylets complain of to *stdout*, where results lie, whatever `log_to_driver` says (2.60)."""
    from ray._private import worker

    def to_our_log(data: dict[str, Any], ignore_prefix: bool = False) -> None:
        log.debug("ray.said", lines=data.get("lines"))

    worker.print_to_stdstream = to_our_log


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """A signal that asks a run to stop is the run's, also while Ray starts (2.60).

    Ray puts a handler of its own on SIGTERM, which ends its processes and then the driver; and its processes are in the driver's group, so
    that `timeout` or a service manager, which signal the group, end them before the driver has drained. Here none is put, and they
    get a group of their own; they end with the driver all the same.

    Raises: Stopped when Ray's handler was faster.
    """
    from ray._private import services, utils

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    put, popen = utils.set_sigterm_handler, services.ConsolePopen
    vars(utils)["set_sigterm_handler"] = lambda handler: None
    vars(services)["ConsolePopen"] = functools.partial(popen, process_group=0)
    try:
        yield
    except SystemExit as error:
        raise Stopped("stopped while Ray was starting: run the same command again") from error
    finally:
        vars(utils)["set_sigterm_handler"], vars(services)["ConsolePopen"] = put, popen
        for number, handler in before.items():
            if handler is not None and threading.current_thread() is threading.main_thread():
                signal.signal(number, handler)


def join(address: str, **quiet: Any) -> None:
    """Connects to the cluster at this address, `auto` or HOST:PORT.

    Raises: JobError when nobody listens there, which Ray itself (2.60) finds out after minutes.
    """
    import ray

    where = f"--address {address}"
    _require_listener(address, where)
    try:
        ray.init(address=address, job_config=_job_config(), **quiet)
    except (ConnectionError, ValueError, RuntimeError, OSError, TimeoutError, ray.exceptions.RayError) as error:
        if "Version mismatch" in str(error):
            same = "install the same Ray and Python here as on the cluster (constraints.txt)"
            raise JobError(f"the cluster runs another version: {' '.join(str(error).split())[:500]}", where, same) from error
        remedy = "start one, or leave --address out; a cluster with a token wants RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH here as well"
        raise JobError(f"no Ray cluster answers: {last_line(error)}", where, remedy) from error


def _join(job: JobSettings, address: str, quiet: dict[str, Any]) -> WorkerPlan:
    join(address, **quiet)
    resources = _resources()
    return plan_workers(job, int(resources.get("GPU", 0)), int(resources.get("CPU", 1)))


class _Installed(list[str]):
    """A list of folders to import from that stays as it is."""

    def extend(self, folders: Iterable[str]) -> None:
        """Workers import what is installed."""


def _job_config() -> Any:
    """Ray (2.60) puts the folder that the driver was started in before everything else that its workers import from: a user's own
    `renderfarm` or `json.py` there would be run in their place."""
    from ray.job_config import JobConfig

    config = JobConfig()
    config._py_driver_sys_path = _Installed()
    return config


def _require_listener(address: str, where: str) -> None:
    """Ray itself looks for a head that is not there for minutes (2.60); a connection tells within seconds. Raises: JobError."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if address == "auto":
        return
    if not host or not port.isdigit():
        raise JobError("this is no address of a Ray cluster", where, "write auto, HOST:PORT or ray://HOST:PORT")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S):
            return
    except (OSError, OverflowError, UnicodeError) as error:
        raise JobError(f"nobody answers there: {error}", where, "start the cluster, check the address, or leave --address out") from error


def last_line(error: BaseException) -> str:
    """What Ray says, without the page around it: it puts a traceback into one text, the exception last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]


def _start(job: JobSettings, quiet: dict[str, Any]) -> WorkerPlan:
    import ray

    leftovers.sweep()
    cpus = machine.cores()
    wanted = sum(n if isinstance(n, int) else 1 for n in (job.farm.renderers_most, job.farm.finishers))
    for start in range(1, STARTS_MAX + 1):
        try:
            with leftovers.marked_children():
                ray.init(
                    address="local",  # whatever RAY_ADDRESS says: a cluster is joined by --address only
                    num_cpus=max(cpus, wanted),
                    include_dashboard=False,
                    object_store_memory=OBJECT_STORE_BYTES,
                    _system_config=HEALTH,
                    job_config=_job_config(),
                    **quiet,
                )
            return plan_workers(job, int(_resources().get("GPU", 0)), max(cpus, wanted))
        except (RuntimeError, OSError, TimeoutError) as error:
            ray.shutdown()
            if start == STARTS_MAX:
                raise FarmLost(f"Ray did not start in {STARTS_MAX} tries: {error}") from error
            time.sleep(2.0 * start)
    raise AssertionError("unreachable")


def available_cpus() -> float:
    """CPUs that no worker asked for."""
    import ray

    resources: dict[str, float] = ray.available_resources()
    return resources.get("CPU", 0.0)


def draining_hosts() -> frozenset[str]:
    """Ray's names of the hosts that were told to go away: by a cloud's notice, an autoscaler, or SIGTERM to their `ray start` (2.60).

    Ray says this to its own libraries only. A driver that cannot ask (`ray://`) sees such hosts when they are gone.
    """
    from ray._private.state import state

    try:
        hosts: dict[str, int] = state.get_draining_nodes()
    except Exception as error:  # a hint that costs nothing to miss: their units come back when they die
        log.debug("notices.unknown", reason=type(error).__name__)
        return frozenset()
    return frozenset(hosts)


def _resources() -> dict[str, float]:
    """What the cluster holds in all, by Ray's resource names."""
    import ray

    resources: dict[str, float] = ray.cluster_resources()
    return resources
