"""What one picture says of itself: its credential, its watermark, and its looks.

In: bytes. Out: `Evidence`. Looks nothing up.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from renderfarm import credential, pictures
from renderfarm.audit.pictures import Beliefs
from renderfarm.credential import CredentialFinding
from renderfarm.pictures import registration
from renderfarm.watermark import read
from renderfarm.watermark.types import Reading


@dataclass(frozen=True, slots=True)
class Evidence:
    """One picture's evidence.

    finding: the credential; reading: the watermark, None where no watermark key was given; forms: uint64 (8, 4),
    the PDQ hashes of the mirrored and turned forms; quality: PDQ's, 0..100; colours: the colour thumbnail of
    `pictures.fingerprint`; digest: SHA-256 of the file, hex; pixels: uint8 (H, W, 3), the picture with a longer side of at most
    registration.SIDE, for laying it over stored ones.
    """

    name: str
    finding: CredentialFinding
    reading: Reading | None
    forms: NDArray[np.uint64] = field(repr=False)
    quality: int
    colours: str = field(repr=False)
    digest: str = ""
    pixels: pictures.Pixels | None = field(default=None, repr=False)

    @property
    def payload(self) -> str | None:
        """The record id that the watermark carries, where there is one."""
        return self.reading.payload.record if self.reading and self.reading.payload else None

    @property
    def whole(self) -> bool:
        """Whether the watermark shows the whole picture, upright, so that its looks may be compared with the
        record's."""
        place = self.reading.geometry if self.reading else None
        return place is None or (abs(place.scale - 1) < 0.02 and abs(place.rotation_deg) < 0.5)


def gather(data: bytes, name: str, beliefs: Beliefs) -> Evidence:
    """All that a picture file says.

    The long search for a watermark (a second or so) is spared where a believed credential speaks already.
    Raises: PictureError for a file that is no picture, or larger than `pictures.read` takes.
    """
    picture = pictures.read(data, name)
    finding = credential.read(data, picture.media_type, beliefs.anchors_pem)
    believed = finding.state in ("trusted", "expired") and finding.claim_digest is not None
    reading = None
    if beliefs.mark_keys:
        reading = read(picture.pixels, beliefs.mark_keys, search="fast" if believed else "full")
    looks = pictures.fingerprint(picture.pixels)
    forms, digest = pictures.pdq.packed(list(looks.forms)), hashlib.sha256(data).hexdigest()
    return Evidence(name, finding, reading, forms, looks.quality, looks.signature, digest, registration.shrunk(picture.pixels))
