"""Caches: entries survive, damage is nothing, and a disk that is full leaves no temporary file."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
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


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become a user whom nobody knows")
def test_a_user_without_a_home_has_no_cache_and_no_keys_and_is_told() -> None:
    """As a container that runs with `--user 54321`, or a unit without HOME."""
    script = """
import os
for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "RENDERFARM_KEYS"):
    os.environ.pop(name, None)
from renderfarm import cache, errors, keys
from renderfarm.keys import certificates, keyset
os.setuid(54321)
cache.write(cache.cache_folder() / "entry", "x")
assert cache.home() is None and cache.recall(cache.cache_folder() / "entry") == {}
try:
    keys.load_or_init_default()
except errors.KeysError as error:
    assert error.remedy
else:
    raise SystemExit("it has keys")
"""
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, cwd="/")
    assert (done.returncode, done.stderr) == (0, "")
