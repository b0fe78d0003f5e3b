"""What a storage promises, and the names that lie in it.

A storage holds immutable objects and a few caches. Every method may be called again after a failure: writes are idempotent, and
retrying within a budget is the storage's own job. When `put_new` returns, the object is durable and whole.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable
from urllib.parse import quote

from renderfarm.errors import AlreadyStored, NotStored, StorageRefused

SEGMENT_BYTES_MAX = 150
"""Longest percent-encoded segment: file systems stop at 255 bytes, and a temporary name needs room beside it."""


class Stored(NamedTuple):
    """One object as a listing shows it; `modified_s` is seconds since 1970 UTC. A tuple, because listings have millions."""

    key: str
    size: int
    modified_s: float


@runtime_checkable
class Storage(Protocol):
    """Objects under one root. Keys are `/`-separated relative paths made of `segment`s."""

    uri: str

    def put_new(self, key: str, data: bytes, media_type: str = "application/octet-stream") -> None:
        """Write if absent. The same bytes already there count as written now: their time is renewed, so that what a crash left and is
        rendered again is no old orphan any more. Raises: AlreadyStored (other bytes), StorageAway."""

    def put(self, key: str, data: bytes, media_type: str = "application/octet-stream") -> None:
        """Write or overwrite: only for caches and pages that can be derived again. Raises: StorageAway."""

    def get(self, key: str, bytes_max: int | None = None) -> bytes:
        """All bytes, or the first `bytes_max` + 1 at most when a limit is given. Raises: NotStored, StorageAway."""

    def stat(self, key: str) -> Stored | None:
        """Size and time, or None where nothing lies. Raises: StorageAway."""

    def list(self, prefix: str) -> Iterator[Stored]:
        """All objects whose key starts with `prefix`, sorted by key. Raises: StorageAway."""

    def delete(self, key: str) -> None:
        """Remove; nothing there counts as removed. Raises: StorageAway."""


def segment(text: str) -> str:
    """A row id as one path segment: percent-encoded UTF-8, never `.` or `..`, never hidden, at most SEGMENT_BYTES_MAX bytes.

    Long texts are cut and carry a hash behind `~`, which no encoded text contains, so two texts never share a segment.
    """
    encoded = quote(text, safe="-_.").replace("~", "%7E")
    if encoded.startswith("."):
        encoded = encoded.replace(".", "%2E")
    if len(encoded) > SEGMENT_BYTES_MAX:
        digest = hashlib.sha256(text.encode()).hexdigest()[:24]
        head = re.sub("%[0-9A-F]?$", "", encoded[: SEGMENT_BYTES_MAX - 26])
        encoded = f"{head}~{digest}"
    return encoded


def checked_key(key: str) -> str:
    """The key itself. Raises ValueError for one that could leave the root: this is a bug or a hostile record, never a setting."""
    parts = key.split("/")
    if not key or any(part in ("", ".", "..") or "\\" in part or "\x00" in part for part in parts):
        raise ValueError(f"not a storage key: {key!r}")
    return key


def same_bytes_or_raise(storage: Storage, key: str, data: bytes) -> None:
    """After put-if-absent found the key taken: our own earlier write, or somebody else's? Raises: AlreadyStored."""
    try:
        stored = storage.get(key, bytes_max=len(data))
    except NotStored:
        stored = b""
    if stored != data:
        raise AlreadyStored(key)


@dataclass(frozen=True, slots=True)
class Probe:
    """What a storage was seen to do. `fences`: of racing `put_new` calls one wins; `deletes`: what is written can be removed;
    `versioned`: what is removed is kept as an older version."""

    fences: bool
    deletes: bool = True
    versioned: bool = False


def probe(storage: Storage, prefixes: Sequence[str] = ("provenance/",), racers: int = 8) -> Probe:
    """Race `racers` writers for a new object under each of these prefixes, then remove it.

    A sequential probe would pass servers that check, then write. Raises: StorageRefused where a prefix may not be written; StorageAway.
    """
    fences = deletes = True
    with ThreadPoolExecutor(racers) as pool:
        for prefix in prefixes:
            key = f"{prefix}probe-{secrets.token_hex(8)}"
            try:
                wins = sum(pool.map(lambda number, key=key: _wins(storage, key, number), range(racers)))
            finally:
                deletes = _removed(storage, key) and deletes
            fences = fences and wins == 1
    return Probe(fences, deletes, bool(getattr(storage, "versioned", False)))


def _wins(storage: Storage, key: str, number: int) -> bool:
    try:
        storage.put_new(key, f"racer {number}".encode())
    except AlreadyStored:
        return False
    return True


def _removed(storage: Storage, key: str) -> bool:
    """Whether the storage lets us remove it; one that keeps all is as good for a log."""
    try:
        storage.delete(key)
    except StorageRefused:
        return False
    return True


def put_if_absent_holds(storage: Storage, racers: int = 8) -> bool:
    """Whether exactly one of `racers` concurrent `put_new` calls wins."""
    return probe(storage, racers=racers).fences
