"""Signed notes: what a careful writer writes is read, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from renderfarm.notes import note
from renderfarm.notes.note import NoteMalformed, Signature

SIGNATURE = Signature("renderfarm/test", b"\x01\x02\x03\x04", bytes(range(64)))
GOOD = note.to_bytes(b"one\ntwo\n", [SIGNATURE, Signature("w", bytes(4), b"x")])


def test_what_is_written_is_read() -> None:
    assert note.parse(GOOD) == (["one", "two"], (SIGNATURE, Signature("w", bytes(4), b"x")))
    inner = note.to_bytes(b"a\n\nb\n", [SIGNATURE])
    assert note.parse(inner) == (["a", "", "b"], (SIGNATURE,)), "the last blank line ends the text"


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "no signature"),
        (GOOD[:-1], "no signature"),
        (GOOD.replace(b"one", b"o\x00e"), "control"),
        (GOOD.replace(b"one", b"o\r"), "control"),
        (GOOD.replace(b"one", b"\xff"), "UTF-8"),
        (GOOD.replace("\u2014".encode(), b"-"), "em dash"),
        (GOOD.replace(b"renderfarm/test ", b"a+b "), "key name"),
        (GOOD.replace(b"renderfarm/test ", "a\u2003b ".encode()), "key name"),
        (GOOD.replace(b"renderfarm/test ", b" "), "key name"),
        (GOOD.replace(b"renderfarm/test ", b"renderfarm/test  "), "base64"),
        (GOOD + GOOD.split(b"\n\n")[1] * 20, "42 signatures"),
        (b"a" * (1 << 20), "bytes are too many"),
        (b"a\n\n\xe2\x80\x94 k AAAAAB==\n", "canonical|base64"),
        (b"a\n\n\xe2\x80\x94 k AAAA\n", "signature line"),
    ],
)
def test_notes_that_are_not_read(data: bytes, word: str) -> None:
    with pytest.raises(NoteMalformed, match=word):
        note.parse(data)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | st.integers(0, len(GOOD) * 8 - 1))
def test_any_bytes_are_a_note_or_refused(noise: bytes | int) -> None:
    if isinstance(noise, int):
        data = bytearray(GOOD)
        data[noise // 8] ^= 1 << noise % 8
        noise = bytes(data)
    try:
        lines, signatures = note.parse(noise)
    except NoteMalformed:
        return
    assert note.to_bytes("".join(f"{line}\n" for line in lines).encode(), signatures) == noise
