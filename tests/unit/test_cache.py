"""Caches: entries survive, damage is nothing, and a disk that is full leaves no temporary file."""

from __future__ import annotations

import contextlib
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from renderfarm import cache


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """No file may grow beyond 64 bytes, as on a full disk: writing raises OSError after the file was made. Nothing is reported meanwhile:
    what this process prints may go to a file too."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_entries_are_added_to_those_that_are_there(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "known.json"
    cache.remember(path, {"a": 1})
    cache.remember(path, {"b": [2]})
    assert cache.recall(path) == {"a": 1, "b": [2]}
    assert [found.name for found in path.parent.iterdir()] == ["known.json"]


@pytest.mark.parametrize("damage", [b"", b"{", b"[1]", b"\xff\xfe", b'"text"'])
def test_what_cannot_be_read_remembers_nothing(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "known.json"
    path.write_bytes(damage)
    assert cache.recall(path) == {}
    cache.remember(path, {"a": 1})
    assert cache.recall(path) == {"a": 1}


def test_a_full_disk_stops_nothing_and_leaves_what_was_there_alone(tmp_path: Path) -> None:
    path = tmp_path / "known.json"
    with full_disk():
        cache.remember(path, {"a": 1})
        cache.remember(path, {"b": "x" * 200})
    assert cache.recall(path) == {"a": 1}
    assert [found.name for found in tmp_path.iterdir()] == ["known.json"]


def test_a_folder_that_cannot_be_made_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache.remember(tmp_path / "file" / "known.json", {"a": 1})
    assert cache.recall(tmp_path / "file" / "known.json") == {}
