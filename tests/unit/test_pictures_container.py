"""The walker of PNG chunks, JPEG segments and RIFF chunks: it leaves nothing out, and ends at the first thing that is not right."""

from __future__ import annotations

import io
import itertools
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from renderfarm.errors import PictureError
from renderfarm.pictures.container import PNG_SIGNATURE, Piece, container_of, pieces


def coded(kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (9, 7, 3), np.uint8)).save(file, kind, **options)
    return file.getvalue()


FILES = {
    "png": coded("PNG", dpi=(72, 72)),
    "jpeg": coded("JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0"),
    "webp": coded("WEBP", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0", icc_profile=b"x" * 131),
}


def walked(data: bytes) -> tuple[list[Piece], str]:
    """The pieces before the walk ended, and why it ended ("" at the file's end)."""
    found: list[Piece] = []
    try:
        found.extend(pieces(data))
    except PictureError as error:
        return found, error.what
    return found, ""


@pytest.mark.parametrize(
    ("kind", "kinds"),
    [
        ("png", [b"IHDR", b"pHYs", b"IDAT", b"IEND"]),
        ("jpeg", [b"\xe0", b"\xe1", b"\xdb", b"\xdb", b"\xc0", *[b"\xc4"] * 4]),
        ("webp", [b"VP8X", b"ICCP", b"VP8 ", b"EXIF"]),
    ],
)
def test_the_pieces_follow_each_other_without_a_gap(kind: str, kinds: list[bytes]) -> None:
    data = FILES[kind]
    found, why = walked(data)
    assert container_of(data) == kind and [piece.kind for piece in found] == kinds and not why
    head, tail = {"png": (8, 4), "jpeg": (4, 0), "webp": (8, 0)}[kind]
    for one, other in itertools.pairwise(found):
        padding = (one.end - one.start) % 2 if kind == "webp" else 0
        assert other.start == one.end + tail + padding + head


@pytest.mark.parametrize("kind", sorted(FILES))
def test_of_a_file_that_was_cut_off_the_whole_pieces_come_and_then_the_error(kind: str) -> None:
    data = FILES[kind]
    whole, _ = walked(data)
    last = whole[-1].end + {"png": 0, "jpeg": 2, "webp": 0}[kind]  # of a JPEG, the marker of its scan
    for length in range(len(data)):
        found, why = walked(data[:length])
        assert found == whole[: len(found)]
        between = kind == "webp" and length >= 12 and length in {12, *(end + x for _, start, end in whole for x in (0, (end - start) % 2))}
        assert bool(why) != (length >= last or between), length


def test_what_lies_behind_the_end_or_between_two_pieces_is_not_walked_into() -> None:
    png, jpeg = FILES["png"], FILES["jpeg"]
    late = struct.pack(">I", 0) + b"iTXt" + bytes(4)
    assert walked(png + late) == walked(png)
    assert walked(jpeg + b"\xff\xe1\0\x08abcdef") == walked(jpeg)
    assert walked(jpeg[:2] + b"\0" + jpeg[2:]) == ([], "the file is malformed")
    assert walked(jpeg[:2] + b"\xff\xe1\0\1" + jpeg[2:]) == ([], "the file is malformed")
    assert walked(b"GIF89a" + png) == ([], "not a PNG, JPEG or WebP file") == walked(b"")


@given(
    st.sampled_from([PNG_SIGNATURE, b"\xff\xd8", b"\xff\xd8\xff\xe1", b"RIFF\0\0\0\0WEBP", b"RIFF\0\0\0\0WEBPVP8X"]), st.binary(max_size=80)
)
def test_junk_ends_the_walk_and_every_piece_lies_in_the_file(head: bytes, junk: bytes) -> None:
    found, _ = walked(head + junk)
    ends = [0, *(place for piece in found for place in (piece.start, piece.end))]
    assert ends == sorted(ends) and ends[-1] <= len(head + junk)
