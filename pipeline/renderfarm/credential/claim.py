"""What a credential says, as values: the claim that goes in, the finding that comes out. Pure."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from renderfarm.pictures import media_type_of, xmp
from renderfarm.schema import PLAIN_VERSION, Input, Record, inputs_of
from renderfarm.version import __version__
from renderfarm.watermark.types import MarkKey

TOOL = "renderfarm"
RECORD_LABEL = "org.renderfarm.record"
SOFT_BINDING_LABEL = "c2pa.soft-binding"

State = Literal["trusted", "expired", "untrusted", "invalid", "absent"]
"""`trusted`: intact, and leads to an anchor. `expired`: so it did when signed, and the certificate expired since.
`untrusted`: intact, and signed by nobody we trust. `invalid`: altered or malformed. `absent`: there is none."""


@dataclass(frozen=True, slots=True)
class Ingredient:
    """A picture that went in: its role (`init`: the picture was drawn over it; all others only guided), its SHA-256 in hex, its media type.

    data: the whole file, with its own credential if it has one; None: it is named, and its own credential does not travel along.
    """

    role: str
    digest: str
    media_type: str
    data: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Claim:
    """What a credential says. Digests are lower-case hex; `watermark_payload` None: the picture carries no mark.

    source_type: IPTC's digital source type, the same as in the picture's XMP.
    """

    image_id: str
    attempt: int
    claim_digest: str
    prompt_digest: str
    provider: str
    system: str
    system_version: str
    created_us: int
    watermark_method: str | None = None
    watermark_payload: str | None = None
    source_type: str = xmp.GENERATED
    weights_digest: str | None = None
    ingredients: tuple[Ingredient, ...] = ()


@dataclass(frozen=True, slots=True)
class CredentialFinding:
    """What a file's credential turned out to be.

    The claim's fields are None where it holds no claim of ours; below `expired` they are leads, not evidence. The
    certificate's times are microseconds since 1970 UTC, for comparing with the signed log. `source_claim_digest` is of the
    picture that this one was made from, by us or by another program that kept its credential: a lead, whatever the state.
    `source_types`: IPTC's digital source types that its actions state, the last parts of their addresses: "digitalCapture".
    """

    state: State
    reason: str = ""
    claim_digest: str | None = None
    image_id: str | None = None
    attempt: int | None = None
    prompt_digest: str | None = None
    watermark_payload: str | None = None
    source_claim_digest: str | None = None
    source_types: tuple[str, ...] = ()
    signer: str | None = None
    valid_from_us: int | None = None
    valid_until_us: int | None = None


def prompt_digest(prompt: str, image_id: str, key: MarkKey) -> str:
    """SHA-256 over salt and prompt, hex, for records of version 3 or earlier. The salt is 32 bytes: HMAC of the image id under the
    watermark's secret."""
    salt = key.derive("prompt salt", image_id.encode())
    return hashlib.sha256(salt + prompt.encode()).hexdigest()


def salted_prompt_digest(prompt: str, salt: str) -> str:
    """SHA-256 over the row's salt (32 hex digits) and the prompt, hex: whoever has the salt can show it, and it can be forgotten."""
    return hashlib.sha256(b"renderfarm prompt/1\n" + bytes.fromhex(salt) + prompt.encode()).hexdigest()


def source_type(record: Record) -> str:
    """IPTC's digital source type of an attempt's picture, by how it came about: drawn from nothing, or over another picture.

    What only guided it (mask, edges, a pose, a reference) has none of its own pixels in the result.
    """
    return xmp.EDITED if any(given.role == "init" for given in inputs_of(record)) else xmp.GENERATED


def claim_for(record: Record, claim_digest: str, provider: str, key: MarkKey, inputs: Mapping[str, bytes] | None = None) -> Claim:
    """The claim about one attempt's picture.

    `record` is complete but for the fields after the credential; a marked one names its method. inputs: SHA-256 hex → file bytes, of every
    picture that went in. Raises: ValueError when one is missing, for what is no attempt, and for a record whose values were forgotten.
    """
    if record.image_id is None or record.attempt is None:
        raise ValueError("a credential is about an attempt")
    files = inputs or {}
    if missing := [given.role for given in inputs_of(record) if given.digest not in files]:
        raise ValueError(f"a credential names what went in, and the bytes are missing of: {', '.join(missing)}")
    if record.version > PLAIN_VERSION and record.salt is None:
        raise ValueError("its values were forgotten")
    prompt = record.prompt or ""
    return Claim(
        image_id=record.image_id,
        attempt=record.attempt,
        claim_digest=claim_digest,
        prompt_digest=salted_prompt_digest(prompt, record.salt) if record.salt else prompt_digest(prompt, record.image_id, key),
        provider=provider,
        system=record.weights or "unknown",
        system_version=_system_version(record),
        created_us=record.finished_us,
        watermark_method=f"org.{TOOL}.{record.watermark_method}.{record.watermark_version}" if record.watermark_payload else None,
        watermark_payload=record.watermark_payload,
        source_type=source_type(record),
        weights_digest=record.weights_digest,
        ingredients=tuple(_ingredient(given, files[given.digest]) for given in inputs_of(record)),
    )


def xmp_for(record: Record, provider: str) -> bytes:
    """The XMP packet with IPTC's fields for one attempt's picture, to be written before the credential."""
    return xmp.packet(
        system=record.weights or "unknown",
        system_version=_system_version(record),
        provider=provider,
        tool=f"{TOOL} {__version__}",
        created=timestamp(record.finished_us),
        unique_id=f"{record.image_id}/{record.attempt}",
        source_type=source_type(record),
    )


def _ingredient(given: Input, data: bytes) -> Ingredient:
    return Ingredient(given.role, given.digest, media_type_of(data, f"input picture ({given.role})"), data)


def _system_version(record: Record) -> str:
    return record.weights_revision or (record.weights_digest or "unknown")[:19]


def timestamp(microseconds: int) -> str:
    """Microseconds since 1970 as ISO 8601 in UTC, to the second."""
    return dt.datetime.fromtimestamp(microseconds // 1_000_000, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
