"""Where outputs lie and inputs come from: a local folder or S3. `open_storage` chooses by the URI."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import StorageRefused
from pipeline.storage.base import Storage, Stored, checked_key, put_if_absent_holds, segment
from pipeline.storage.inputs import list_inputs, open_input
from pipeline.storage.local import LocalStorage
from pipeline.storage.s3 import S3Storage

__all__ = [
    "LocalStorage",
    "S3Storage",
    "Storage",
    "Stored",
    "checked_key",
    "list_inputs",
    "open_input",
    "open_storage",
    "put_if_absent_holds",
    "segment",
]


def open_storage(uri: str, *, create: bool = False) -> Storage:
    """The storage behind a folder path or `s3://bucket/prefix`. Raises: StorageRefused, StorageAway."""
    if uri.startswith("s3://"):
        return S3Storage(uri)
    if "://" in uri:
        raise StorageRefused("no such kind of storage", uri, "name a folder, or s3://bucket/prefix")
    return LocalStorage(Path(uri), create=create)
