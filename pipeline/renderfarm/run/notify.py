"""Tells someone outside: a body posted to a URL, or a command that reads it. Knows nothing of jobs; the caller says what is told.

A URL and a token are secrets: they come from the environment, and no message of this module holds them, nor the library's errors, which
would. Redirects are refused (they would carry the token elsewhere). What came of it is the caller's to judge: `Undelivered` is the only
exception, and a run goes on whatever it says.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import requests

from renderfarm.errors import Undelivered

TRIES = 3
TIMEOUT_S = 10.0
PAUSE_S = 1.0
"""Before the second try; twice as long before each further one."""
REPLY_BYTES_MAX = 1 << 16
RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Status codes that may be another the next time (RFC 9110, RFC 8470, RFC 6585)."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server answered, with a status below 300 or one that was asked for."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class _Bearer(requests.auth.AuthBase):
    """RFC 6750. As an auth object, or a ~/.netrc would take its place."""

    token: str | None

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self.token is not None:
            request.headers["Authorization"] = f"Bearer {self.token}"
        return request


def post(
    url: str,
    body: bytes,
    media_type: str = "application/json",
    *,
    token: str | None = None,
    timeout_s: float = TIMEOUT_S,
    tries: int = TRIES,
    answers: frozenset[int] = frozenset(),
    sleep: Callable[[float], None] = time.sleep,
) -> Reply:
    """POST a body; each try takes at most about twice `timeout_s`. `answers`: status codes from 300 that are answers as well.

    Raises: Undelivered, which names neither URL nor token.
    """
    said = "no try was made"
    for number in range(tries):
        if number:
            sleep(PAUSE_S * 2 ** (number - 1))
        try:
            reply = _post_once(url, body, media_type, token, timeout_s)
        except (requests.RequestException, UnicodeError, OSError) as error:
            said = type(error).__name__
            if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema | requests.exceptions.MissingSchema):
                raise Undelivered(f"the URL is not usable ({said})") from None
            continue
        if reply.status < 300 or reply.status in answers:
            return reply
        said = f"HTTP {reply.status}"
        if reply.status not in RETRIED:
            raise Undelivered(f"refused: {said}")
    raise Undelivered(f"{said}, {tries} tries") from None


def _post_once(url: str, body: bytes, media_type: str, token: str | None, timeout_s: float) -> Reply:
    headers = {"Content-Type": media_type, "User-Agent": "renderfarm"}
    end = time.monotonic() + timeout_s
    with requests.post(
        url, data=body, headers=headers, auth=_Bearer(token), timeout=timeout_s, allow_redirects=False, stream=True
    ) as answer:
        found = bytearray()
        while len(found) < REPLY_BYTES_MAX and (chunk := answer.raw.read1(4096)):
            found += chunk
            if time.monotonic() > end:
                raise requests.Timeout
        return Reply(answer.status_code, bytes(found[:REPLY_BYTES_MAX]))


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
