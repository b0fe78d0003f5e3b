"""The words of the watermark: key, payload, geometry, reading. No heavy import, no pixels.

A *payload* is 64 bits: 4 of version, 44 of record id, 16 of an HMAC over those 48 under the key. The HMAC is added by
`Payload.bits` and verified by the reader, so that a word which decodes under the wrong key still reads as absent.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field

from renderfarm.errors import KeysError, UserError

METHOD = "renderfarm-tile"
VERSION = 2
"""The layout of new marks (`carrier.layout`): who carries which bit. Records keep it as `watermark_version`."""
VERSIONS = (1, 2)
"""The layouts that are read."""
RECORD_DIGITS = 11
MESSAGE_BITS = 48
SECRET_BYTES_MIN = 16


@dataclass(frozen=True, slots=True)
class MarkKey:
    """A symmetric key: whoever can read a mark can forge one. `key_id` may be written down, `secret` never."""

    secret: bytes = field(repr=False)
    key_id: str = field(init=False)

    def __post_init__(self) -> None:
        if len(self.secret) < SECRET_BYTES_MIN:
            raise KeysError(
                f"a watermark key needs at least {SECRET_BYTES_MIN} bytes, this one has {len(self.secret)}",
                remedy="make one with `renderfarm keys init`",
            )
        digest = hashlib.sha256(b"renderfarm mark key id" + self.secret).hexdigest()
        object.__setattr__(self, "key_id", digest[:8])

    @classmethod
    def from_bytes(cls, secret: bytes) -> MarkKey:
        """A key from raw bytes. Raises: KeysError below 16 bytes."""
        return cls(bytes(secret))

    @classmethod
    def from_hex(cls, text: str) -> MarkKey:
        """A key from hex digits, blanks around them ignored. Raises: KeysError on anything else, not repeating it.

        Blanks between digits are refused, which `bytes.fromhex` would skip: two keys in one text would become a third.
        """
        if not re.fullmatch(r"(?:[0-9A-Fa-f]{2})+", text.strip()):
            raise KeysError("the watermark key is not hex digits alone, two a byte", remedy="make one with `renderfarm keys init`")
        return cls(bytes.fromhex(text.strip()))

    def derive(self, purpose: str, data: bytes = b"") -> bytes:
        """32 bytes for one purpose: HMAC-SHA256(secret, "renderfarm-tile/1 " purpose 0x00 data).

        The 1 is part of the name and stays, whatever VERSION is: phases, shifts, seals and the salt of prompts hang on it.
        """
        return hmac.new(self.secret, f"{METHOD}/1 {purpose}".encode() + b"\0" + data, hashlib.sha256).digest()


@dataclass(frozen=True, slots=True)
class Payload:
    """What a mark says: the version of the meaning (0..15) and the record id (11 lower-case hex digits)."""

    version: int
    record: str

    def __post_init__(self) -> None:
        if not 0 <= self.version < 16:
            raise UserError(f"a watermark's payload version is 0..15, not {self.version}")
        if not re.fullmatch(rf"[0-9a-f]{{{RECORD_DIGITS}}}", self.record):
            raise UserError(
                f"a watermark's record id is {RECORD_DIGITS} lower-case hex digits, not {self.record!r}",
                remedy=f"take the first {RECORD_DIGITS} digits of the record's hash",
            )

    @property
    def message(self) -> bytes:
        """6 bytes, big-endian: version in the top 4 bits, then the record id."""
        return (self.version << 44 | int(self.record, 16)).to_bytes(6, "big")

    @classmethod
    def from_message(cls, message: bytes) -> Payload:
        """The inverse of `message`."""
        value = int.from_bytes(message, "big")
        return cls(value >> 44, f"{value & ((1 << 44) - 1):0{RECORD_DIGITS}x}")

    def sealed(self, key: MarkKey) -> bytes:
        """8 bytes: the message and the first 16 bits of its HMAC under the key."""
        return self.message + key.derive("payload", self.message)[:2]


def unseal(word: bytes, key: MarkKey) -> Payload | None:
    """The payload in 8 decoded bytes, or None when the HMAC does not match."""
    seal = key.derive("payload", word[:6])[:2]
    return Payload.from_message(word[:6]) if hmac.compare_digest(seal, word[6:8]) else None


@dataclass(frozen=True, slots=True)
class Geometry:
    """How the picture read relates to the picture that was marked.

    scale: canonical pixels of the marked picture per canonical pixel of this one (1 = whole picture, at any size;
    below 1 = cropped, above 1 = something was added around it); rotation_deg: counter-clockwise; offset: the tile's
    (y, x) origin relative to this picture's centre, canonical pixels, modulo the tile.
    """

    scale: float
    rotation_deg: float
    flipped: bool
    offset: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Reading:
    """The answer for one picture. `false_alarm` bounds the chance that an unmarked one reads as present.

    version: of the mark (VERSIONS); None where there is none, or one of another method.
    """

    present: bool
    payload: Payload | None
    key_id: str | None
    confidence: float
    geometry: Geometry | None
    false_alarm: float
    version: int | None = None
