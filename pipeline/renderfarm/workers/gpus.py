"""Which GPUs of this machine a run may have: never one that another run has, whatever engine and user.

A claim is an abstract socket of Linux (unix(7)) named after the GPU: it ends with its process, even one that is killed, and leaves no file.
Containers with a network of their own do not see each other's; give each its own GPUs.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from renderfarm import machine
from renderfarm.errors import Stopped
from renderfarm.logs import get_logger

log = get_logger()

POLL_S = 2.0


@contextlib.contextmanager
def claimed(
    names: Sequence[str], most: int | None, stopped: Callable[[], bool], sleep: Callable[[float], None] = time.sleep
) -> Iterator[tuple[str, ...]]:
    """Those of these GPUs that nobody has, `most` at most, for the time of the block; waits until one is free.

    Nothing where there are none. Raises: Stopped when `stopped` says so before one is free.
    """
    held: dict[str, socket.socket] = {}
    with contextlib.ExitStack() as stack:
        told = False
        while names and not held:
            for name in names:
                claim = _claim(name) if most is None or len(held) < most else None
                if claim is not None:
                    held[name] = stack.enter_context(claim)
            if not held:
                if not told:
                    log.warning("gpus.taken", gpus=list(names), remedy="another run has them: this one waits until one is free")
                    told = True
                if stopped():
                    raise Stopped("stopped while other runs had every GPU: run the same command again")
                sleep(POLL_S)
        yield tuple(held)


def _claim(name: str) -> socket.socket | None:
    """A claim on one GPU, to be closed; None where another process has it."""
    claim = socket.socket(socket.AF_UNIX)
    try:
        if sys.platform == "linux":
            claim.bind(f"\0renderfarm-gpu-{machine.identity(name)}")
    except OSError:
        claim.close()
        return None
    return claim
