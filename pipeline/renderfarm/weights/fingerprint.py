"""The identity of weights: SHA-256 over every file that loading reads, and a cache so that 12 GB are hashed once.

The digest of a set of files is SHA-256 over one line `<relative path>\\0<size>\\0<sha256 hex>\\n` per file, sorted by
path, so that it is independent of where the folder lies. The cache remembers a file's SHA-256 by path, size,
modification time (ns), change time (ns) and inode; a file whose content changed without one of them changing was
tampered with below the file system, and `verify=True` (the renderer) does not use the cache.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from renderfarm.cache import recall, remember

CHUNK_BYTES = 1 << 20
REMEMBERED = "digests.json"


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
    known = recall(cache / REMEMBERED) if cache is not None else {}
    fresh: dict[str, str] = {}
    out = []
    for name in sorted(set(names)):
        path = folder / name
        stat = path.stat()
        key = f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}|{stat.st_ctime_ns}|{stat.st_ino}"
        sha256 = known.get(key)
        if not isinstance(sha256, str):
            sha256 = fresh[key] = file_sha256(path)
        out.append(FileDigest(name, stat.st_size, sha256))
    if cache is not None and fresh:
        remember(cache / REMEMBERED, fresh)
    return tuple(out)


def combined(files: Iterable[FileDigest]) -> str:
    """Returns the digest of a set of files as hex (the module's docstring defines it)."""
    lines = (f"{file.path}\0{file.size}\0{file.sha256}\n" for file in sorted(files, key=lambda file: file.path))
    return hashlib.sha256("".join(lines).encode()).hexdigest()
