"""Encoding and decoding: pixels survive, metadata is where tools look for it, hostile files cost nothing."""

from __future__ import annotations

import io
import struct
import xml.etree.ElementTree as ET
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from renderfarm.errors import PictureError
from renderfarm.pictures import encode, xmp
from renderfarm.pictures.encode import Pixels

LOSSY = {"image/jpeg": 6.0, "image/webp": 6.0}
"""Mean absolute error that quality 92 stays under on the drawn picture."""


def drawn(height: int = 96, width: int = 128) -> Pixels:
    """A gradient with a red disc: uint8 (H, W, 3)."""
    y, x = np.mgrid[:height, :width]
    image = np.stack([x * 255 // width, y * 255 // height, np.full_like(x, 90)], axis=-1).astype(np.uint8)
    image[(y - height // 2) ** 2 + (x - width // 2) ** 2 < (height // 4) ** 2] = (200, 30, 40)
    return image


def packet() -> bytes:
    return xmp.packet(
        system="org/model <&>",
        system_version='rev "1"',
        provider="Ünïcode & Co\0",
        tool="renderfarm 0",
        created="2026-01-02T03:04:05Z",
        unique_id="abc/1",
    )


@pytest.mark.parametrize("level", [0, 1, 2, 6])
def test_png_is_lossless_at_every_level(level: int) -> None:
    image = drawn()
    assert np.array_equal(encode.decode(encode.encode(image, "image/png", level=level)), image)


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20), st.just(3))))
def test_png_with_xmp_round_trips_any_pixels(image: Pixels) -> None:
    data = encode.encode(image, "image/png", xmp=packet())
    assert np.array_equal(encode.decode(data), image)


@pytest.mark.parametrize("media_type", sorted(LOSSY))
def test_lossy_formats_keep_colours_in_place(media_type: str) -> None:
    image = drawn()
    back = encode.decode(encode.encode(image, media_type, quality=92))
    assert back.shape == image.shape
    assert np.abs(back.astype(int) - image).mean() < LOSSY[media_type]
    assert back[48, 64, 0] > 150 > back[48, 64, 2], "red and blue are swapped"


@pytest.mark.parametrize("media_type", sorted(encode.EXTENSIONS))
def test_xmp_is_found_by_us_and_by_pillow_and_changes_no_pixel(media_type: str) -> None:
    plain = encode.encode(drawn(), media_type)
    data = encode.encode(drawn(), media_type, xmp=packet())
    assert xmp.read(data) == packet()
    assert xmp.read(plain) is None
    assert np.array_equal(encode.decode(data), encode.decode(plain))
    with Image.open(io.BytesIO(data)) as opened:
        theirs = opened.info["xmp"]
    assert (theirs.encode() if isinstance(theirs, str) else theirs) == packet()


def test_xmp_holds_the_fields_of_iptc_2025_1() -> None:
    tree = ET.fromstring(packet().decode())
    description = tree.find(".//{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description")
    assert description is not None
    iptc = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"
    assert description.get(f"{iptc}AISystemUsed") == "org/model <&>"
    assert description.get(f"{iptc}AISystemVersionUsed") == 'rev "1"'
    assert description.get(f"{iptc}DigitalSourceType") == xmp.GENERATED
    assert description.get(f"{iptc}DigImageGUID") == "abc/1"
    assert description.get("{http://ns.adobe.com/photoshop/1.0/}Credit") == "Ünïcode & Co"


def test_xmp_goes_into_a_webp_that_is_extended_or_lossless_already() -> None:
    for kwargs in ({"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"}, {"lossless": True}):
        file = io.BytesIO()
        Image.fromarray(drawn()).save(file, "WEBP", **kwargs)
        data = xmp.add(file.getvalue(), packet())
        assert xmp.read(data) == packet()
        assert encode.decode(data).shape == (96, 128, 3)


def test_xmp_too_long_for_jpeg_is_refused() -> None:
    with pytest.raises(PictureError, match="too long"):
        encode.encode(drawn(), "image/jpeg", xmp=b"x" * 70_000)


@settings(max_examples=60, deadline=None)
@given(
    st.binary(max_size=200),
    st.sampled_from([b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"RIFF\xff\0\0\0WEBPVP8 ", b""]),
)
def test_junk_is_refused_or_unread_and_never_crashes(junk: bytes, head: bytes) -> None:
    with pytest.raises(PictureError, match="no picture"):
        encode.decode(head + junk)
    assert xmp.read(head + junk) is None


def png_header(width: int, height: int) -> bytes:
    """A PNG of zeros whose header claims any size; its pixel data are a few bytes of a zlib bomb."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    pixels = zlib.compress(b"\0" * 10_000_000, 9)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("width", "height"), [(60_000, 60_000), (1_000_000, 100), (2**31 - 1, 2**31 - 1)])
def test_a_pixel_bomb_is_refused_before_it_is_unpacked(width: int, height: int) -> None:
    with pytest.raises(PictureError, match=r"pixels; at most|no picture"):
        encode.decode(png_header(width, height))


def test_limits_name_what_is_too_large() -> None:
    data = encode.encode(drawn(), "image/png")
    with pytest.raises(PictureError, match="at most 100 are read"):
        encode.decode(data, bytes_max=100)
    with pytest.raises(PictureError, match="128×96 pixels; at most 1,000"):
        encode.decode(data, pixels_max=1000)


def test_a_file_that_was_cut_off_is_refused() -> None:
    for media_type in encode.EXTENSIONS:
        data = encode.encode(drawn(), media_type)
        with pytest.raises(PictureError, match="no picture"):
            encode.decode(data[: len(data) // 2])


def test_a_phone_picture_is_turned_upright() -> None:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate 90° clockwise to view
    Image.fromarray(drawn()).save(file, "PNG", exif=exif)
    assert np.array_equal(encode.decode(file.getvalue()), np.rot90(drawn(), -1))


def test_what_cannot_be_written_says_so() -> None:
    with pytest.raises(PictureError, match="cannot write image/tiff"):
        encode.encode(drawn(), "image/tiff")
    with pytest.raises(PictureError, match="16383 pixels"):
        encode.encode(np.zeros((1, 17_000, 3), np.uint8), "image/webp")
    with pytest.raises(ValueError, match="uint8"):
        encode.encode(np.zeros((4, 4), np.uint8), "image/png")


def test_size_and_type_come_from_the_bytes() -> None:
    for media_type in encode.EXTENSIONS:
        data = encode.encode(drawn(), media_type)
        assert encode.media_type_of(data) == media_type
        assert encode.size_of(data) == (128, 96)


def test_thumbnail_keeps_the_shape_and_is_small() -> None:
    data = encode.thumbnail(drawn(768, 512), side=192)
    assert encode.size_of(data) == (128, 192)
    assert len(data) < 6000
    assert encode.size_of(encode.thumbnail(drawn(10, 20))) == (20, 10), "a small picture is not blown up"
    assert encode.size_of(encode.thumbnail(drawn(2, 2000))) == (192, 1)
