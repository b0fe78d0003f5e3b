"""Processes of ours on this machine: a Python that imports only what is installed, and a pipe to it.

Neither the folder that one stands in nor that of a script is imported from, and no script of a user is run again in a child, as
`multiprocessing` would. A child ends when its pipe closes, so that nothing outlives a parent that was killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.connection import Connection
from typing import IO, Any

END_S = 5.0
"""What a child gets to end after its pipe was closed."""


@dataclass(eq=False, slots=True)
class Child:
    """One process, this end of its pipe, and what it says on stderr."""

    process: subprocess.Popen[bytes]
    pipe: Any
    complaints: IO[bytes]
    ended: str = ""

    def end(self) -> str:
        """Close the pipe and wait, then kill; how it ended, with its last words. Once more: the same words."""
        if self.ended:
            return self.ended
        self.pipe.close()
        try:
            code = self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self.complaints.seek(max(0, self.complaints.seek(0, os.SEEK_END) - 4096))
        lines = self.complaints.read().decode(errors="replace").strip().splitlines()
        self.complaints.close()
        self.ended = f"exit {code}" + (f": {lines[-1].strip()[:300]}" if lines else "")
        return self.ended


def start(module: str, environment: Mapping[str, str] | None = None) -> Child:
    """Run `python -m module FD` in a process group of its own, so that a terminal's or service manager's signals are the parent's alone."""
    ours, theirs = connection.Pipe()
    complaints = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the child
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", module, str(theirs.fileno())],
        pass_fds=(theirs.fileno(),),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=complaints,
        process_group=0,
        env={**_environment(), **(environment or {})},
    )
    theirs.close()
    return Child(process, ours, complaints)


def pipe_of(descriptor: str) -> Connection:
    """In a child: the pipe to its parent, from the last argument."""
    return Connection(int(descriptor))


def _environment() -> dict[str, str]:
    """This process's, with one thread a child; a path to import from is kept where it names a folder wherever one stands."""
    kept = os.pathsep.join(entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if os.path.isabs(entry))
    one = {name: os.environ.get(name, "1") for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    return {**os.environ, "PYTHONPATH": kept, "PYTHONSAFEPATH": "1", **one}


def answer_of(child: Child) -> Any:
    """What `main` in a child made of the task and chunk that it was sent.

    Raises: what the task raised; RuntimeError when the child died.
    """
    try:
        value, error, trace = child.pipe.recv()
    except (EOFError, OSError):
        raise RuntimeError(f"a process of ours died: {child.end()}") from None
    if error is not None:
        error.add_note(trace)
        raise error
    return value


def main(descriptor: str) -> None:
    """Call what comes with its argument, until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pipe = pipe_of(descriptor)
    while True:
        try:
            task, chunk = pipe.recv()
        except (EOFError, OSError):
            return
        answer: tuple[Any, Exception | None, str]
        try:
            answer = task(chunk), None, ""
        except Exception as error:
            answer = None, error, traceback.format_exc()
        pipe.send(answer)


if __name__ == "__main__":
    main(sys.argv[1])
