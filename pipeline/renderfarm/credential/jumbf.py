"""Finds the certificates that a credential was signed with. Pure: bytes in, certificates out.

C2PA's library says that a certificate expired, but not whether its chain led to an anchor before it did, and does
not hand the chain out. So this module reads just enough of the file to get it: the container's C2PA chunk, the
boxes of the manifest store (ISO 19566-5), and the COSE_Sign1 (RFC 9052) in the signature box, whose `x5chain` (RFC
9360) holds the certificates. Signatures and hashes stay the library's.

Parsing is strict: whatever a careful writer would not write, such as two stores or two signatures, has no answer.
So a file cannot show one chain here and another to the library.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import cbor2
from cryptography import x509

from renderfarm.errors import PictureError
from renderfarm.keys.certificates import FAULTS
from renderfarm.pictures.container import JPEG_APP11, container_of, pieces

X5CHAIN = 33
COSE_SIGN1_TAG = 18
NESTING_MAX = 16
CBOR_BYTES_MAX = 1 << 16
"""A signature with its chain, time stamp and padding takes 2 to 20 kB."""


class _Malformed(ValueError):
    """Not what a careful writer writes."""


def signing_chain(data: bytes, label: str) -> list[x509.Certificate]:
    """The certificates, leaf first, that signed the manifest `label` in a PNG, JPEG or WebP file; empty where they
    cannot be told."""
    try:
        store = _store(data)
        manifests = [body for name, body in _superboxes(_only(_superboxes(store), "c2pa")) if name == label]
        if len(manifests) != 1:
            return []
        signature = _only(_superboxes(manifests[0]), "c2pa.signature")
        content = [body for kind, body in _boxes(signature) if kind == b"cbor"]
        if len(content) != 1:
            return []
        return [x509.load_der_x509_certificate(der) for der in _x5chain(content[0])]
    except (PictureError, *FAULTS):
        return []


def _store(data: bytes) -> bytes:
    """The one manifest store of a file. Raises: _Malformed, PictureError."""
    holder = {"png": b"caBX", "jpeg": JPEG_APP11, "webp": b"C2PA"}.get(container_of(data) or "")
    stores = [data[start:end] for kind, start, end in pieces(data) if kind == holder]
    if holder == JPEG_APP11:
        stores = [_joined([segment for segment in stores if segment[:2] == b"JP"])]
    if len(stores) != 1:
        raise _Malformed("not exactly one manifest store")
    return stores[0]


def _joined(segments: list[bytes]) -> bytes:
    """The one box that a JPEG's APP11 segments carry (ISO 19566-5 annex D: `JP`, box number, packet number, box header, content)."""
    if any(segment[2:4] != segments[0][2:4] or _number(segment, 4, 4) != packet for packet, segment in enumerate(segments, 1)):
        raise _Malformed("segments of two boxes, or out of order")
    return b"".join(segment[16 if packet else 8 :] for packet, segment in enumerate(segments))


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at < len(data):
        length = _number(data, at, 4)
        if length < 8:
            raise _Malformed("a box of unusual length")
        yield data[at + 4 : at + 8], _cut(data, at + 8, length - 8)
        at += length


def _superboxes(data: bytes) -> Iterator[tuple[str, bytes]]:
    """(label, content) of each labelled superbox; the content begins with its description box."""
    for kind, body in _boxes(data):
        if kind != b"jumb":
            continue
        head, description = next(_boxes(body), (b"", b""))
        if head != b"jumd" or len(description) < 18:
            raise _Malformed("a superbox without a description")
        if description[16] & 2:
            label, end, _ = description[17:].partition(b"\0")
            if not end:
                raise _Malformed("a label without an end")
            yield label.decode("utf-8", "replace"), body


def _only(boxes: Iterator[tuple[str, bytes]], label: str) -> bytes:
    matches = [body for name, body in boxes if name == label]
    if len(matches) != 1:
        raise _Malformed(f"not exactly one {label}")
    return matches[0]


def _x5chain(cose: bytes) -> list[bytes]:
    """DER certificates from a COSE_Sign1's headers: protected as C2PA 2 writes, or unprotected as version 1 did,
    not both."""
    sign1 = _cbor(cose)
    if not isinstance(sign1, list) or len(sign1) != 4 or not isinstance(sign1[0], bytes):
        raise _Malformed("not a COSE_Sign1")
    headers = [header for header in (_cbor(sign1[0]), sign1[1]) if isinstance(header, dict)]
    chains = [header[key] for header in headers for key in (X5CHAIN, "x5chain") if key in header]
    if len(chains) != 1:
        raise _Malformed("not exactly one x5chain")
    chain = chains[0] if isinstance(chains[0], list) else [chains[0]]
    if not all(isinstance(item, bytes) for item in chain):
        raise _Malformed("x5chain holds something else than certificates")
    return chain


def _cbor(data: bytes) -> Any:
    """One CBOR item (RFC 8949) of definite lengths; what follows it is not looked at. Raises: _Malformed.

    The library would make dates, patterns and references of tagged items; of the tags only COSE_Sign1's is looked through.
    """
    if len(data) > CBOR_BYTES_MAX:
        raise _Malformed("too long for a signature")
    tags: dict[int, Callable[[Any, bool], Any]] = defaultdict(lambda: _refused, {COSE_SIGN1_TAG: lambda item, _: item})
    try:
        return cbor2.loads(data, semantic_decoders=tags, max_depth=NESTING_MAX, allow_indefinite=False, allow_duplicate_keys=False)
    except cbor2.CBORDecodeError as error:
        raise _Malformed("not CBOR that a signature needs") from error


def _refused(item: Any, immutable: bool) -> Any:
    raise _Malformed("a tag that no signature needs")


def _cut(data: bytes, at: int, length: int) -> bytes:
    if length < 0 or at + length > len(data):
        raise _Malformed("cut off")
    return data[at : at + length]


def _number(data: bytes, at: int, length: int) -> int:
    return int.from_bytes(_cut(data, at, length), "big")
