"""XMP lies where other tools look for it, says what IPTC asks for, and changes no pixel."""

from __future__ import annotations

import hashlib
import io
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from renderfarm.errors import PictureError
from renderfarm.pictures import EXTENSIONS, Pixels, decode, encode, xmp
from tests.pictures import coded, drawn, png


def packet() -> bytes:
    return xmp.packet(
        system="org/model <&>",
        system_version='rev "1"',
        provider="Ünïcode & Co\0",
        tool="renderfarm 0",
        created="2026-01-02T03:04:05Z",
        unique_id="abc/1",
    )


@pytest.mark.parametrize("media_type", sorted(EXTENSIONS))
def test_xmp_is_found_by_us_and_by_pillow_and_changes_no_pixel(media_type: str) -> None:
    plain = encode(drawn(), media_type)
    data = encode(drawn(), media_type, xmp=packet())
    assert xmp.read(data) == packet()
    assert xmp.read(plain) is None
    assert np.array_equal(decode(data), decode(plain))
    with Image.open(io.BytesIO(data)) as opened:
        theirs = opened.info["xmp"]
    assert (theirs.encode() if isinstance(theirs, str) else theirs) == packet()


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20), st.just(3))))
def test_a_png_with_xmp_round_trips_any_pixels(image: Pixels) -> None:
    assert np.array_equal(decode(encode(image, "image/png", xmp=packet())), image)


def test_the_bytes_of_a_packet_and_of_a_file_with_it_stay_as_they_were() -> None:
    """Credentials hash them: a new reading of old words would be another picture."""
    head, _, _ = xmp.add(png(1, 1, 8, 0, b"\0\0"), packet()).partition(b"IDAT")
    assert [hashlib.sha256(data).hexdigest()[:16] for data in (packet(), head)] == ["9087ab6f7dd31f09", "b76eaaec4fdc9d55"]


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
        data = xmp.add(coded(drawn(), "WEBP", **kwargs), packet())
        assert xmp.read(data) == packet()
        assert decode(data).shape == (96, 128, 3)


def test_xmp_too_long_for_jpeg_is_refused() -> None:
    with pytest.raises(PictureError, match="too long"):
        encode(drawn(), "image/jpeg", xmp=b"x" * 70_000)


@given(st.binary(max_size=200), st.sampled_from([b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"RIFF\xff\0\0\0WEBPVP8 ", b""]))
def test_junk_holds_none_and_takes_none(junk: bytes, head: bytes) -> None:
    assert xmp.read(head + junk) is None
    for none in (b"", b"GIF89a", head[:8], head[:8] + b"WEBP"):
        with pytest.raises(PictureError):
            xmp.add(none, packet())
