"""Tells someone outside by a command that reads a body, and takes secrets from the environment. Knows nothing of jobs.

What came of it is the caller's to judge: `Undelivered` is the only exception, and a run goes on whatever it says.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence

from renderfarm.errors import Undelivered
from renderfarm.web import TIMEOUT_S


def run_command(command: Sequence[str], body: bytes, *, timeout_s: float = TIMEOUT_S, env: Mapping[str, str] | None = None) -> None:
    """Run a command, no shell, with the body on its stdin; what it prints is dropped. Raises: Undelivered."""
    environment = {**os.environ, **(env or {})}
    try:
        ended = subprocess.run(
            list(command), input=body, env=environment, timeout=timeout_s, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise Undelivered(f"the command was ended after {timeout_s:g} s") from None
    except (OSError, ValueError) as error:
        raise Undelivered(f"the command could not be started ({getattr(error, 'strerror', None) or error})") from None
    if ended.returncode:
        raise Undelivered(f"the command ended with {ended.returncode}")


def secret(name: str | None) -> str | None:
    """The value of an environment variable; None where none is named. Raises: Undelivered when it is not set."""
    if name is None:
        return None
    value = os.environ.get(name, "").strip()
    if not value:
        raise Undelivered(f"the environment variable {name} is not set")
    return value
