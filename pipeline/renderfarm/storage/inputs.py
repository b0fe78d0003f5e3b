"""Reading what a job names by path or URI: seekable, ranged, never written."""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from renderfarm.errors import NotStored, StorageRefused
from renderfarm.storage.s3 import S3Storage


class _S3File(io.RawIOBase):
    """A read-only, seekable view of one S3 object."""

    def __init__(self, storage: S3Storage, key: str, size: int) -> None:
        self._storage, self._key, self._size, self._at = storage, key, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        stop = min(self._size, self._at + len(buffer))
        if stop <= self._at:
            return 0
        data = self._storage.read_range(self._key, self._at, stop)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def _split(uri: str) -> tuple[S3Storage, str]:
    """An S3 URI as the storage of its bucket, and the key within."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return S3Storage(f"s3://{bucket}"), key.strip("/")


def list_inputs(uri: str, suffix: str) -> list[str]:
    """The files of a folder or prefix that end in `suffix`, sorted, hidden ones left out; a single file gives itself.

    Raises: NotStored when nothing is there, StorageRefused when the bucket refuses.
    """
    if uri.startswith("s3://"):
        storage, key = _split(uri)
        if key and storage.stat(key) is not None:
            return [uri]
        prefix = f"{key}/" if key else ""
        uris = [f"s3://{storage.bucket}/{stored.key}" for stored in storage.list(prefix) if _is_input(stored.key, suffix)]
    else:
        uris = _list_local(uri, suffix)
    if not uris:
        raise NotStored(uri)
    return uris


class FileStamp(NamedTuple):
    """One file as it lay there: name, size and time of change; `version` is its ETag, or of a local file the time at which its inode
    changed and its number, which no `touch` or copy with its times puts back."""

    uri: str
    size: int
    modified_s: float
    version: str


def stamp(uri: str, suffix: str) -> tuple[FileStamp, ...]:
    """The files of `list_inputs` as they are now, by one listing. Raises: NotStored, StorageRefused, StorageAway."""
    if uri.startswith("s3://"):
        storage, key = _split(uri)
        single = storage.head(key) if key else None
        tagged = [single] if single else [item for item in storage.tagged(f"{key}/" if key else "") if _is_input(item[0].key, suffix)]
        stamps = [FileStamp(f"s3://{storage.bucket}/{stored.key}", stored.size, stored.modified_s, etag) for stored, etag in tagged]
    else:
        stamps = [_stamp_local(path) for path in _list_local(uri, suffix)]
    if not stamps:
        raise NotStored(uri)
    return tuple(stamps)


def _stamp_local(uri: str) -> FileStamp:
    try:
        status = Path(uri).expanduser().stat()
    except OSError as error:
        raise NotStored(uri) from error
    return FileStamp(uri, status.st_size, status.st_mtime_ns / 1e9, f"{status.st_ctime_ns} {status.st_ino}")


def _is_input(key: str, suffix: str) -> bool:
    return key.endswith(suffix) and not key.rpartition("/")[2].startswith((".", "_"))


def _list_local(uri: str, suffix: str) -> list[str]:
    try:
        path = Path(uri).expanduser()
        if path.is_file():
            return [str(path)]
        return sorted(str(p) for p in path.rglob(f"*{suffix}") if _is_input(p.name, suffix) and p.is_file())
    except (OSError, ValueError, RuntimeError) as error:
        raise StorageRefused(f"cannot be read: {error}", uri, "check the path and its permissions") from error


def open_input(uri: str) -> BinaryIO:
    """One file, seekable, with ranged reads of at least 1 MiB from S3. Raises: NotStored, StorageRefused."""
    if uri.startswith("s3://"):
        storage, key = _split(uri)
        stored = storage.stat(key) if key else None
        if stored is None:
            raise NotStored(uri)
        return cast(BinaryIO, io.BufferedReader(_S3File(storage, key, stored.size), 1 << 20))
    try:
        return open(Path(uri).expanduser(), "rb")
    except FileNotFoundError as error:
        raise NotStored(uri) from error
    except (OSError, ValueError, RuntimeError) as error:  # a NUL in the name, a home that does not exist
        why = getattr(error, "strerror", None) or error
        raise StorageRefused(f"cannot be read: {why}", uri, "check the path and its permissions") from error
