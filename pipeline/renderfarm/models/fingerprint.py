"""The identity of weights: SHA-256 over every file that loading reads, and a cache so that 12 GB are hashed once.

The digest of a set of files is SHA-256 over one line `<relative path>\\0<size>\\0<sha256 hex>\\n` per file, sorted by
path, so that it is independent of where the folder lies. The cache remembers a file's SHA-256 by path, size,
modification time (ns), change time (ns) and inode; a file whose content changed without one of them changing was
tampered with below the file system, and `verify=True` (the renderer) does not use the cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

CHUNK_BYTES = 1 << 20


def cache_folder() -> Path:
    """Returns the user's cache folder for renderfarm (XDG Base Directory Specification 0.8); it may not exist yet."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "renderfarm"


@dataclass(frozen=True, slots=True)
class FileDigest:
    """One file of the weights: its path relative to their folder, with `/`; size in bytes; SHA-256 as hex."""

    path: str
    size: int
    sha256: str


def file_sha256(path: Path) -> str:
    """Returns the SHA-256 of a file as hex, read in chunks."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def fingerprint(folder: Path, names: Iterable[str], *, cache: Path | None) -> tuple[FileDigest, ...]:
    """Returns the digest of each named file of `folder`, sorted by name.

    `cache`: folder of remembered digests, or None to read every byte. Raises OSError for a file that cannot be read.
    """
    known = _read_cache(cache)
    fresh: dict[str, str] = {}
    out = []
    for name in sorted(set(names)):
        path = folder / name
        stat = path.stat()
        key = f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}|{stat.st_ctime_ns}|{stat.st_ino}"
        sha256 = known.get(key)
        if sha256 is None:
            sha256 = fresh[key] = file_sha256(path)
        out.append(FileDigest(name, stat.st_size, sha256))
    if cache is not None and fresh:
        _write_cache(cache, {**_read_cache(cache), **fresh})
    return tuple(out)


def combined(files: Iterable[FileDigest]) -> str:
    """Returns the digest of a set of files as hex (the module's docstring defines it)."""
    lines = (f"{file.path}\0{file.size}\0{file.sha256}\n" for file in sorted(files, key=lambda file: file.path))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _read_cache(cache: Path | None) -> dict[str, str]:
    """Returns the remembered digests; a cache that cannot be read is an empty one."""
    if cache is None:
        return {}
    try:
        known = json.loads((cache / "digests.json").read_text())
    except (OSError, ValueError):
        return {}
    return {k: v for k, v in known.items() if isinstance(v, str)} if isinstance(known, dict) else {}


def _write_cache(cache: Path, known: dict[str, str]) -> None:
    """Replaces the cache file at once. A racing writer's entries may be lost, which costs a second hash and nothing
    else."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=cache, suffix=".tmp", delete=False) as file:
            json.dump(known, file)
        os.replace(file.name, cache / "digests.json")
    except OSError:
        return  # a cache on a full or read-only disk is no reason to stop
