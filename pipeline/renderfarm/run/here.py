"""The local engine, opened: as many workers as this machine, and its free GPUs, can hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from renderfarm import machine
from renderfarm.run.crew import BYTES_PER_WEIGHT, plan_crew
from renderfarm.run.engine import Opened
from renderfarm.run.local import LocalEngine
from renderfarm.workers.gpus import claimed
from renderfarm.workers.worker import Order


@contextmanager
def open_engine(order: Order, stopped: Callable[[], bool]) -> Iterator[Opened]:
    """As `run.engine.OpenEngine`."""
    with claimed(machine.gpus() if order.job.model.device != "cpu" else (), order.job.farm.renderers_most, stopped) as gpus:
        weights_bytes = BYTES_PER_WEIGHT * sum(count for _, count in order.weights.parameters)
        crew = plan_crew(order.job, len(gpus), machine.cores(), weights_bytes, machine.free_bytes())
        engine = LocalEngine(order, crew, gpus=gpus)
        try:
            yield Opened(engine, crew.renderers, engine.start(stopped), crew.priced)
        finally:
            engine.close()
