"""Checkpoints, against C2SP's example and hypothesis."""

from __future__ import annotations

import base64
import dataclasses

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from renderfarm import notes
from renderfarm.notes import Checkpoint, NoteMalformed, NoteUntrusted, Signer

# The example of C2SP's tlog-checkpoint.
SOFA = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "\u2014 example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+"
    "zyWE+xeMcTOAYQ8=\n"
).encode()

LOG = Signer.of("renderfarm/test", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
WITNESS = Signer.of("witness.example", Ed25519PrivateKey.from_private_bytes(bytes([7] * 32)))
HEAD = Checkpoint("renderfarm/mugs", 43, bytes(range(32)))


def test_the_published_checkpoint() -> None:
    head = notes.parse(SOFA)
    assert (head.origin, head.size) == ("example.com/behind-the-sofa", 20852163)
    assert base64.b64encode(head.root) == b"CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="
    assert head.signatures[0].key_id.hex() == "033de0ae" and len(head.signatures[0].value) == 64
    assert head.to_bytes() == SOFA


def test_sign_write_parse_verify() -> None:
    signed = notes.sign(notes.sign(HEAD, WITNESS), LOG)
    again = notes.parse(signed.to_bytes())
    assert again == signed and again.text().startswith(b"renderfarm/mugs\n43\n")
    assert notes.verify(again, {LOG.name: LOG.public_key}) == LOG.name
    assert notes.verify(again, {WITNESS.name: WITNESS.public_key}) == WITNESS.name


def test_who_is_not_believed() -> None:
    signed = notes.sign(HEAD, LOG)
    with pytest.raises(NoteUntrusted, match="no signature by a known key; signed by renderfarm/test"):
        notes.verify(signed, {LOG.name: WITNESS.public_key})
    with pytest.raises(NoteUntrusted, match="signed by nobody"):
        notes.verify(HEAD, {LOG.name: LOG.public_key})
    for edited in (
        dataclasses.replace(signed, size=44),
        dataclasses.replace(signed, root=bytes(32)),
        dataclasses.replace(signed, origin="renderfarm/cups"),
    ):
        with pytest.raises(NoteUntrusted, match="the signature by renderfarm/test is bad"):
            notes.verify(edited, {LOG.name: LOG.public_key})


def test_one_bad_signature_by_a_known_key_spoils_the_note() -> None:
    signed = notes.sign(notes.sign(HEAD, LOG), WITNESS)
    bad = dataclasses.replace(signed.signatures[1], value=bytes(64))
    spoiled = dataclasses.replace(signed, signatures=(signed.signatures[0], bad))
    with pytest.raises(NoteUntrusted, match=r"by witness\.example is bad"):
        notes.verify(spoiled, {LOG.name: LOG.public_key, WITNESS.name: WITNESS.public_key})


GOOD = notes.sign(HEAD, LOG).to_bytes()


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (GOOD.replace(b"\n43\n", b"\n043\n"), "size"),
        (GOOD.replace(b"\n43\n", b"\n-43\n"), "size"),
        (GOOD.replace(b"\n43\n", b"\n99999999999\n"), "size"),
        (GOOD.replace(b"\n43\n", "\n٤٣\n".encode()), "size"),
        (GOOD.replace(b"\n43\n", b"\n43\nmore\n"), "three lines"),
        (GOOD.replace(b"renderfarm/mugs\n", b"\n"), "origin"),
        (GOOD.replace(b"AAECAwQF", b"AAECAwQ"), "base64|32 bytes"),
        (b"a\n1\n" + base64.b64encode(bytes(31)) + b"\n\n\xe2\x80\x94 k AAAAAAA=\n", "32 bytes"),
    ],
)
def test_checkpoints_that_are_not_read(data: bytes, word: str) -> None:
    with pytest.raises(NoteMalformed, match=word):
        notes.parse(data)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200) | st.integers(0, len(GOOD) * 8 - 1))
def test_any_bytes_parse_or_are_refused_and_no_flip_is_believed(noise: bytes | int) -> None:
    if isinstance(noise, int):
        data = bytearray(GOOD)
        data[noise // 8] ^= 1 << noise % 8
        noise = bytes(data)
    try:
        head = notes.parse(noise)
    except NoteMalformed:
        return
    assert notes.parse(head.to_bytes()) == head
    with pytest.raises(NoteUntrusted):
        notes.verify(head, {LOG.name: LOG.public_key})


def test_origins() -> None:
    assert notes.origin("mugs") == "renderfarm/mugs"
    assert notes.origin("a b+c/\n") == "renderfarm/a%20b%2Bc%2F%0A"
