"""The process of one worker of the local engine: `python -P -m renderfarm.workers.process FD`.

It reads an order and then tasks from the pipe FD, and answers each as soon as it is done; up to `overlap` at a time, each in its thread. It
ends when the pipe closes, so that nothing outlives a driver that was killed. It says of each kind of work when it is ready for it, the
first as soon as it can; what it was not told to make ready is made ready when the first task of that kind comes.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Literal

from renderfarm import processes
from renderfarm.errors import UserError
from renderfarm.workers.worker import FinisherWorker, Order, RendererWorker

Kind = Literal["render", "finish"]


@dataclass(frozen=True, slots=True)
class Begin:
    """The first message: what workers are made from, which kinds are made ready one after the other, tasks at a time."""

    order: Order
    kinds: tuple[Kind, ...]
    overlap: int


@dataclass(frozen=True, slots=True)
class Task:
    """One call: a method of `RendererWorker` or `FinisherWorker`."""

    number: int
    kind: Kind
    method: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Ready:
    """One kind of work is made ready; `batch`: how many images it takes together, or why the worker refuses what the job asks of it."""

    kind: Kind
    batch: int | UserError


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a task: `value` is a `UserError` where the worker refuses what the job asks of it."""

    number: int
    value: Any


Makers = Mapping[Kind, Callable[[Order], Any]]


def _renderer(order: Order) -> RendererWorker:
    return RendererWorker(order.weights, order.job, order.keys.mark_key.secret)


def _finisher(order: Order) -> FinisherWorker:
    return FinisherWorker(order.job, order.plan_digest, order.keys)


WORKERS: Makers = {"render": _renderer, "finish": _finisher}


class WorkerProcess:
    """One worker: a renderer, a finisher, or both."""

    def __init__(self, connection: Connection, begin: Begin, makers: Makers) -> None:
        self._connection, self._order, self._makers = connection, begin.order, makers
        self._made: dict[Kind, Any] = {}
        self._making: dict[Kind, threading.Lock] = {kind: threading.Lock() for kind in makers}
        self._sending = threading.Lock()

    def _worker(self, kind: Kind) -> Any:
        with self._making[kind]:
            if kind not in self._made:
                self._made[kind] = self._makers[kind](self._order)
            return self._made[kind]

    def begin(self, kinds: Sequence[Kind]) -> None:
        """Say of each kind that it is ready. What is raised here or in `run` is a fault of ours, and ends the process as a crash would."""
        try:
            for kind in kinds:
                self.answer(Ready(kind, self._worker(kind).ready()))
        except BaseException:
            _crash()

    def run(self, task: Task) -> None:
        """Answer a task."""
        try:
            worker = self._worker(task.kind)
            refusal = worker.ready()
            self.answer(Done(task.number, refusal if isinstance(refusal, UserError) else getattr(worker, task.method)(*task.arguments)))
        except BaseException:
            _crash()

    def answer(self, answer: Done | Ready) -> None:
        """Send it; the driver may be gone."""
        try:
            with self._sending:
                self._connection.send(answer)
        except OSError:
            os._exit(0)


def _crash() -> None:
    sys.excepthook(*sys.exc_info())
    os._exit(1)


def main(descriptor: str, makers: Makers = WORKERS) -> None:
    """Work until the pipe closes. Signals are the driver's, which drains."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    connection = processes.pipe_of(descriptor)
    begin: Begin = connection.recv()
    worker = WorkerProcess(connection, begin, makers)
    pool = ThreadPoolExecutor(begin.overlap)
    threading.Thread(target=worker.begin, args=(begin.kinds,), daemon=True).start()
    try:
        while True:
            pool.submit(worker.run, connection.recv())
    except (EOFError, OSError):
        os._exit(0)


if __name__ == "__main__":
    from renderfarm.workers import process  # what is pickled names the module, not __main__

    process.main(sys.argv[1])
