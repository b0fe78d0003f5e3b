"""C2SP key texts and key ids, against the published vector."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from renderfarm import notes
from renderfarm.notes import COSIGNATURE, ED25519, NoteMalformed

# Keys, text and signature of the documentation of golang.org/x/mod/sumdb/note, which C2SP's signed-note describes.
NEUMANN_PRIVATE = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
NEUMANN_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
NEUMANN_TEXT = b"If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
NEUMANN_SIGNATURE = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="


def test_the_published_keys_and_signature() -> None:
    name, key = notes.parse_signer_key(NEUMANN_PRIVATE)
    assert name == "PeterNeumann" and notes.signer_key(name, key) == NEUMANN_PRIVATE
    assert notes.verifier_key(name, key.public_key()) == NEUMANN_KEY
    assert notes.parse_verifier_key(f" {NEUMANN_KEY}\n") == (name, key.public_key())
    assert base64.b64encode(notes.key_id(name, key.public_key()) + key.sign(NEUMANN_TEXT)).decode() == NEUMANN_SIGNATURE


@settings(max_examples=50, deadline=None)
@given(st.from_regex(r"[a-z0-9./_-]{1,40}", fullmatch=True), st.binary(min_size=32, max_size=32), st.sampled_from([ED25519, COSIGNATURE]))
def test_keys_round_trip_under_their_own_kind_alone(name: str, seed: bytes, kind: bytes) -> None:
    key = Ed25519PrivateKey.from_private_bytes(seed)
    text = notes.verifier_key(name, key.public_key(), kind)
    assert notes.parse_verifier_key(text, kind) == (name, key.public_key())
    with pytest.raises(NoteMalformed, match=r"^no (Ed25519 key|key of a witness)"):
        notes.parse_verifier_key(text, ED25519 if kind == COSIGNATURE else COSIGNATURE)
    back_name, back = notes.parse_signer_key(notes.signer_key(name, key))
    assert back_name == name and back.private_bytes_raw() == seed


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "name"),
        ("PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", "id does not fit"),
        ("Peter+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", "id does not fit"),
        ("Peter Neumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", "name"),
        ("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW=", "base64"),
        ("PeterNeumann+c74f20a3+AhpC", "no Ed25519"),
        ("a" * 5000, "name"),
    ],
)
def test_keys_that_are_not_read(text: str, word: str) -> None:
    with pytest.raises(NoteMalformed, match=word):
        notes.parse_verifier_key(text)
    with pytest.raises(NoteMalformed, match="PRIVATE"):
        notes.parse_signer_key(text)


PRIVATE_DAMAGE: dict[str, Callable[[str], str]] = {
    "cut": lambda text: text[:-9],
    "another name": lambda text: text.replace("Peter", "Paul"),
    "another key": lambda text: text.replace("AYEKF", "AYEKG"),
    "a space": lambda text: text.replace("PeterNeumann", "Peter Neumann"),
    "without a name": lambda text: text.replace("PeterNeumann+c74f20a3+", ""),
    "not ASCII": lambda text: text.replace("AYEKF", "AYEK\u00e9"),
}


@pytest.mark.parametrize("damage", sorted(PRIVATE_DAMAGE))
def test_a_damaged_private_key_is_refused_and_not_repeated(damage: str) -> None:
    text = PRIVATE_DAMAGE[damage](NEUMANN_PRIVATE)
    with pytest.raises(NoteMalformed) as caught:
        notes.parse_signer_key(text)
    assert not any(text[start : start + 8] in str(caught.value) for start in range(len("PRIVATE+KEY+"), len(text) - 8))


@settings(max_examples=60, deadline=None)
@given(st.one_of(st.text(max_size=60), st.text(max_size=20).map(lambda text: f"w+1afbd705+{text}")))
def test_any_text_is_a_key_or_refused(text: str) -> None:
    for kind in (ED25519, COSIGNATURE):
        with pytest.raises(NoteMalformed):
            notes.parse_verifier_key(text, kind)
    with pytest.raises(NoteMalformed):
        notes.parse_signer_key(f"PRIVATE+KEY+{text}")
