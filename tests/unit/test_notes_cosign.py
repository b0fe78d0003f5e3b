"""Cosignatures: who saw which head when, and what a witness's answer may be."""

from __future__ import annotations

import contextlib
import dataclasses

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from renderfarm import notes
from renderfarm.notes import COSIGNATURE, Checkpoint, NoteUntrusted, Signer, cosign

HEAD = Checkpoint("o", 1, bytes(32))
KEY = Ed25519PrivateKey.from_private_bytes(bytes([9] * 32))
SEEN = cosign.cosign(HEAD, "w", KEY, 5)
LINE = SEEN.to_bytes().partition(b"\n\n")[2]


def test_a_line_says_what_its_witness_signed() -> None:
    """The form of c2sp.org/tlog-cosignature, put together by hand."""
    (line,) = SEEN.signatures
    assert line.key_id == notes.key_id("w", KEY.public_key(), COSIGNATURE) and line.value[:8] == (5).to_bytes(8, "big")
    KEY.public_key().verify(line.value[8:], b"cosignature/v1\ntime 5\n" + HEAD.text())
    assert cosign.verify(SEEN, {"w": KEY.public_key()}) == {"w": 5}
    assert cosign.verify(cosign.cosign(SEEN, "w", KEY, 3), {"w": KEY.public_key()}) == {"w": 5}, "the latest of its times"
    assert cosign.verify(notes.sign(HEAD, Signer.of("w", KEY)), {"w": KEY.public_key()}) == {}, "a log's signature is none"


@pytest.mark.parametrize("value", [b"", bytes(71), bytes(72), bytes(73), b"\xff" * 72])
def test_a_bad_line_is_not_believed(value: bytes) -> None:
    forged = dataclasses.replace(SEEN, signatures=(dataclasses.replace(SEEN.signatures[0], value=value),))
    with pytest.raises(NoteUntrusted, match="cosignature by w is bad"):
        cosign.verify(forged, {"w": KEY.public_key()})
    assert cosign.verify(forged, {"w": Ed25519PrivateKey.generate().public_key()}) == {}, "by nobody that is known"


@pytest.mark.parametrize("body", [b"", b"\n", b"rubbish\n", b"\xff", "— w AAAA\n".encode(), b"x" * 70_000, b"more\n\n" + LINE, LINE * 17])
def test_answers_that_are_none(body: bytes) -> None:
    with pytest.raises(notes.NoteMalformed):
        cosign.answer(body, HEAD)


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200))
def test_any_answer_is_lines_or_refused(body: bytes) -> None:
    with contextlib.suppress(notes.NoteMalformed):
        assert cosign.answer(body, HEAD).signatures
