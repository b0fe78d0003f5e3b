"""The input pictures that rows name: read again by every worker that needs them, and held against what the plan was made with."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from renderfarm.errors import NotStored, RenderFailed
from renderfarm.schema import PlannedImage
from renderfarm.storage import open_input


def read_inputs(images: Iterable[PlannedImage]) -> dict[str, bytes]:
    """The input pictures that planned images name, by SHA-256.

    Raises: RenderFailed when one is gone or is not what was resolved; StorageAway, StorageRefused.
    """
    named: dict[str, str] = {}
    for given in (given for image in images for given in image.inputs()):
        if given.uri:
            named[given.digest] = given.uri
    found = {}
    for digest, uri in named.items():
        try:
            with open_input(uri) as file:
                data = file.read()
        except NotStored as error:
            raise RenderFailed(f"the input {uri!r} cannot be read any more: {error}") from error
        if hashlib.sha256(data).hexdigest() != digest:
            raise RenderFailed(f"the input {uri!r} changed since the plan was made: run the job again")
        found[digest] = data
    return found
