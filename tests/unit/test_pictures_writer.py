"""Encoding: pixels survive, and what cannot be written says so."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from renderfarm.errors import PictureError
from renderfarm.pictures import Picture, decode, encode, encode_like, read, size_of, thumbnail
from tests.pictures import coded, drawn

LOSSY = {"image/jpeg": 6.0, "image/webp": 6.0}
"""Mean absolute error that quality 92 stays under on the drawn picture."""


@pytest.mark.parametrize("level", [0, 1, 2, 6])
def test_png_is_lossless_at_every_level(level: int) -> None:
    image = drawn()
    assert np.array_equal(decode(encode(image, "image/png", level=level)), image)


@pytest.mark.parametrize("media_type", sorted(LOSSY))
def test_lossy_formats_keep_colours_in_place(media_type: str) -> None:
    image = drawn()
    back = decode(encode(image, media_type, quality=92))
    assert back.shape == image.shape
    assert np.abs(back.astype(int) - image).mean() < LOSSY[media_type]
    assert back[48, 64, 0] > 150 > back[48, 64, 2], "red and blue are swapped"


def test_what_cannot_be_written_says_so() -> None:
    with pytest.raises(PictureError, match="cannot write image/tiff"):
        encode(drawn(), "image/tiff")
    with pytest.raises(PictureError, match="16383 pixels"):
        encode(np.zeros((1, 17_000, 3), np.uint8), "image/webp")
    with pytest.raises(ValueError, match="uint8"):
        encode(np.zeros((4, 4), np.uint8), "image/png")


def test_thumbnail_keeps_the_shape_and_is_small() -> None:
    data = thumbnail(drawn(768, 512), side=192)
    assert size_of(data) == (128, 192)
    assert len(data) < 6000
    assert size_of(thumbnail(drawn(10, 20))) == (20, 10), "a small picture is not blown up"
    assert size_of(thumbnail(drawn(2, 2000))) == (192, 1)


def test_a_copy_keeps_alpha_and_profile_of_its_source() -> None:
    alpha = np.random.default_rng(0).integers(0, 255, (96, 128), np.uint8)
    profile = bytes(16) + b"RGB " + bytes(200)
    for source in (Picture(drawn(), alpha, profile, "image/png"), Picture(drawn(), None, profile, ""), Picture(drawn(), alpha, None, "")):
        back = read(encode_like(source, 255 - source.pixels), exact=True)
        assert np.array_equal(back.pixels, 255 - source.pixels) and back.profile == source.profile
        assert back.alpha is None if source.alpha is None else np.array_equal(back.alpha, source.alpha)
    assert encode_like(read(coded(drawn(), "JPEG")), drawn()) == encode(drawn(), "image/png")


def test_what_pillow_reads_is_what_was_written() -> None:
    for media_type, kind in (("image/png", "PNG"), ("image/jpeg", "JPEG"), ("image/webp", "WEBP")):
        with Image.open(io.BytesIO(encode(drawn(), media_type))) as opened:
            assert (opened.format, opened.mode, opened.size) == (kind, "RGB", (128, 96))
