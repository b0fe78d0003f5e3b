"""Asks a server over HTTP: one POST, or several tries. The only HTTP client here but those of S3 and the Hub.

A URL and a token are secrets, so no message of this module holds them, nor the library's errors, which would. Redirects are refused: they
would carry the token elsewhere. An answer is read only as far as a limit, and only for so long.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import requests
import urllib3

from renderfarm.errors import Undelivered

RETRIES = 2
TIMEOUT_S = 10.0
PAUSE_S = 1.0
"""Before the first further try; twice as long before each one after it."""
REPLY_BYTES_MAX = 1 << 16
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Status codes that may be another the next time (RFC 9110, RFC 8470, RFC 6585)."""
_UNUSABLE = (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, requests.exceptions.MissingSchema)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server answered. `retry_after_s`: what it asks to wait before a further try; 0 where it does not say."""

    status: int
    body: bytes
    retry_after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Bearer(requests.auth.AuthBase):
    """RFC 6750. As an auth object, or a ~/.netrc would take its place."""

    token: str | None

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self.token is not None:
            request.headers["Authorization"] = f"Bearer {self.token}"
        return request


def post_once(
    url: str, body: bytes, media_type: str, *, token: str | None = None, timeout_s: float = TIMEOUT_S, bytes_max: int = REPLY_BYTES_MAX
) -> Reply:
    """POST a body, whatever the status; takes at most about twice `timeout_s`. Raises: Undelivered, `passing` where a try may help."""
    headers = {"Content-Type": media_type, "User-Agent": "renderfarm", "Accept-Encoding": "identity"}  # else a library asks for gzip
    end = time.monotonic() + timeout_s
    try:
        with requests.post(
            url, data=body, headers=headers, auth=_Bearer(token), timeout=timeout_s, allow_redirects=False, stream=True
        ) as answer:
            if (encoding := answer.headers.get("Content-Encoding", "identity").lower()) != "identity":
                raise Undelivered(f"HTTP {answer.status_code}, but in an encoding that was not asked for: {encoding[:20]!r}", passing=False)
            found = bytearray()
            while len(found) < bytes_max and (chunk := answer.raw.read1(4096)):
                found += chunk
                if time.monotonic() > end:
                    raise requests.Timeout
            wait = answer.headers.get("Retry-After", "")
            return Reply(answer.status_code, bytes(found[:bytes_max]), float(wait) if wait.isdigit() else 0.0)
    except _UNUSABLE as error:
        raise Undelivered(f"the URL is not usable ({type(error).__name__})", passing=False) from None
    except (requests.RequestException, urllib3.exceptions.HTTPError, UnicodeError, OSError) as error:  # a cut body is urllib3's
        raise Undelivered(type(error).__name__) from None


def post(
    url: str,
    body: bytes,
    media_type: str = "application/json",
    *,
    token: str | None = None,
    timeout_s: float = TIMEOUT_S,
    retries: int = RETRIES,
    answers: frozenset[int] = frozenset(),
    sleep: Callable[[float], None] = time.sleep,
) -> Reply:
    """POST until it is answered with a status below 300, or one of `answers`. Raises: Undelivered."""
    said = ""
    for number in range(retries + 1):
        if number:
            sleep(PAUSE_S * 2 ** (number - 1))
        try:
            reply = post_once(url, body, media_type, token=token, timeout_s=timeout_s)
        except Undelivered as error:
            if not error.passing:
                raise
            said = str(error)
            continue
        if reply.status < 300 or reply.status in answers:
            return reply
        said = f"HTTP {reply.status}"
        if reply.status not in PASSING:
            raise Undelivered(f"refused: {said}", passing=False)
    raise Undelivered(f"{said}, {retries + 1} tries")
