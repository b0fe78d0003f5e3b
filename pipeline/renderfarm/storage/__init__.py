"""Where outputs lie and inputs come from: a local folder or S3. `open_storage` chooses by the URI."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from renderfarm.errors import StorageRefused
from renderfarm.storage.base import Probe, Storage, Stored, checked_key, probe, put_if_absent_holds, segment
from renderfarm.storage.inputs import FileStamp, list_inputs, open_input, stamp
from renderfarm.storage.local import LocalStorage
from renderfarm.storage.s3 import BUDGET_S, S3Storage

__all__ = [
    "FileStamp",
    "LocalStorage",
    "Probe",
    "S3Storage",
    "Storage",
    "Stored",
    "checked_key",
    "leftovers",
    "list_inputs",
    "open_input",
    "open_storage",
    "probe",
    "put_if_absent_holds",
    "segment",
    "stamp",
]


def leftovers(storage: Storage, before_s: float) -> Iterator[Stored]:
    """Temporary files of writes that a crash cut short, older than that; a bucket has none. Raises: StorageAway."""
    return storage.leftovers(before_s) if isinstance(storage, LocalStorage) else iter(())


def open_storage(uri: str, *, create: bool = False, patience_s: float = BUDGET_S, checksum: str = "auto") -> Storage:
    """The storage behind a folder path or `s3://bucket/prefix`; a bucket that stays away is asked again for `patience_s`.

    `checksum`: what is sent with each write to a bucket (`storage.s3.CHECKSUMS`).

    Raises: StorageRefused, StorageAway.
    """
    if uri.startswith("s3://"):
        return S3Storage(uri, budget_s=patience_s, checksum=checksum)
    if "://" in uri:
        raise StorageRefused("no such kind of storage", uri, "name a folder, or s3://bucket/prefix")
    return LocalStorage(Path(uri), create=create)
