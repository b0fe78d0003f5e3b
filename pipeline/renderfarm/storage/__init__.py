"""Where outputs lie and inputs come from: a local folder or S3. `open_storage` chooses by the URI."""

from __future__ import annotations

from pathlib import Path

from renderfarm.errors import StorageRefused
from renderfarm.storage.base import Storage, Stored, checked_key, put_if_absent_holds, segment
from renderfarm.storage.inputs import FileStamp, list_inputs, open_input, stamp
from renderfarm.storage.local import LocalStorage
from renderfarm.storage.s3 import BUDGET_S, S3Storage

__all__ = [
    "FileStamp",
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
    "stamp",
]


def open_storage(uri: str, *, create: bool = False, patience_s: float = BUDGET_S) -> Storage:
    """The storage behind a folder path or `s3://bucket/prefix`; a bucket that stays away is asked again for `patience_s`.

    Raises: StorageRefused, StorageAway.
    """
    if uri.startswith("s3://"):
        return S3Storage(uri, budget_s=patience_s)
    if "://" in uri:
        raise StorageRefused("no such kind of storage", uri, "name a folder, or s3://bucket/prefix")
    return LocalStorage(Path(uri), create=create)
