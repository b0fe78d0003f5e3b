"""The signing chain inside a picture file: found where a careful writer puts it, and nowhere else, whatever the CBOR says."""

from __future__ import annotations

import zlib
from typing import Any

import cbor2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from renderfarm.credential.jumbf import CBOR_BYTES_MAX, signing_chain
from renderfarm.keys.certificates import development_chain

LABEL = "urn:c2pa:one"
CHAIN = x509.load_pem_x509_certificates(development_chain().chain_pem)
DERS = [certificate.public_bytes(Encoding.DER) for certificate in CHAIN]


def box(kind: bytes, body: bytes) -> bytes:
    return (len(body) + 8).to_bytes(4, "big") + kind + body


def superbox(label: str, *bodies: bytes) -> bytes:
    return box(b"jumb", box(b"jumd", bytes(16) + b"\x03" + label.encode() + b"\0") + b"".join(bodies))


def picture(signature: bytes) -> bytes:
    """No more of a PNG file than what is walked over: one manifest store with one signature."""
    store = superbox("c2pa", superbox(LABEL, superbox("c2pa.signature", box(b"cbor", signature))))
    chunks = ((b"caBX", store), (b"IEND", b""))
    written = (len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big") for kind, body in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


def sign1(protected: Any, unprotected: Any = None) -> cbor2.CBORTag:
    return cbor2.CBORTag(18, [protected if isinstance(protected, bytes) else cbor2.dumps(protected), unprotected or {}, None, bytes(64)])


def told(signature: Any) -> list[x509.Certificate]:
    return signing_chain(picture(signature if isinstance(signature, bytes) else cbor2.dumps(signature)), LABEL)


GOOD = cbor2.dumps(sign1({1: -7, 33: DERS}, {"pad": bytes(99), "sigTst2": {"tstTokens": [{"val": b"x"}]}}))


def test_a_chain_is_found_in_either_header_with_or_without_the_tag() -> None:
    assert told(GOOD) == told(GOOD[1:]) == told(sign1({1: -7}, {"x5chain": DERS})) == told(sign1({1: -7}, {33: DERS})) == CHAIN
    assert told(sign1({33: DERS[0]})) == CHAIN[:1], "one certificate needs no list"
    assert signing_chain(picture(GOOD), "urn:c2pa:two") == []


HOSTILE = {
    "in both headers": sign1({33: DERS}, {33: DERS}),
    "under both names": sign1({33: DERS, "x5chain": DERS}),
    "in neither": sign1({1: -7}),
    "no certificate": sign1({33: [b"\x30\x00"]}),
    "a certificate of no known version": sign1({33: [DERS[0].replace(bytes.fromhex("a003020102"), bytes.fromhex("a00302010a"), 1)]}),
    "not bytes": sign1({33: ["text"]}),
    "a header that is none": sign1(cbor2.dumps([1])),
    "five items": cbor2.CBORTag(18, [cbor2.dumps({33: DERS}), {}, None, b"", b""]),
    "no list": {33: DERS},
    "nothing": b"",
    "another tag": cbor2.CBORTag(98, [cbor2.dumps({33: DERS}), {}, None, b""]),
    "a pattern": sign1({33: DERS}, {5: cbor2.CBORTag(35, "(a*)*" * 50)}),
    "a number without end": sign1({33: DERS}, {5: cbor2.CBORTag(4, [2**63, 1])}),
    "a date": sign1({33: DERS}, {5: cbor2.CBORTag(1, 0)}),
    "a reference to itself": sign1(bytes.fromhex("d81c a1 18 21 81 d81d 00".replace(" ", ""))),
    "a key twice": sign1(b"\xa2" + 2 * (b"\x18\x21" + cbor2.dumps(DERS))),
    "an indefinite list": GOOD.replace(b"\x84", b"\x9f", 1) + b"\xff",
    "indefinite bytes": sign1(b"\xa1\x18\x21\x5f" + cbor2.dumps(DERS[0]) + b"\xff"),
    "nested deeply": b"\x81" * 60_000 + b"\0",
    "tagged deeply": b"\xd2" * 60_000 + GOOD,
    "maps nested deeply": sign1(b"\xa1\0" * 30_000 + b"\0"),
    "bytes of 16 EB": b"\x5b" + b"\xff" * 8,
    "a list of 16 EB": b"\x9b" + b"\xff" * 8,
    "a map of 4 billion": b"\xba" + b"\xff" * 4,
    "text of 2 GB in a header": sign1(b"\xa1\x18\x21\x7a\x7f\xff\xff\xff"),
    "text that is none": sign1(b"\xa1\x18\x21\x61\xff"),
    "cut": GOOD[:-1],
    "too long": cbor2.dumps(sign1({33: DERS}, {"pad": bytes(CBOR_BYTES_MAX)})),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_no_careful_writer_writes_has_no_answer(name: str) -> None:
    assert told(HOSTILE[name]) == []


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.binary(max_size=12), st.integers(0, 12))
def test_any_bytes_are_this_chain_or_none(place: int, piece: bytes, cut: int) -> None:
    """The certificates themselves are their signatures' to vouch for."""
    found = told(GOOD[:place] + piece + GOOD[place + cut :])
    assert len(found) <= 2
