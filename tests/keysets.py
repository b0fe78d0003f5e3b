"""Key sets for tests: copies to be damaged, and the texts that no message may repeat."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path

from renderfarm.keys import KeySet


def copy(key_set: KeySet, folder: Path) -> Path:
    """A copy of the set's folder, with its modes; `folder` is new."""
    return Path(shutil.copytree(key_set.folder, folder))


def secrets_of(key_set: KeySet) -> list[str]:
    """What stands in the set's private files, as it might be shown."""
    assert key_set.log_key is not None
    raw = key_set.log_key.private_bytes_raw()
    pem_body = key_set.certificate_key_pem.decode().splitlines()[1]
    mark = key_set.mark_key.secret
    return [raw.hex(), base64.b64encode(b"\x01" + raw).decode(), pem_body, mark.hex(), repr(mark)[2:-1]]
