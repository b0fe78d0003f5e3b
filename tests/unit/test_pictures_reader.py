"""The one door for picture files: what is read and how, one clear line for each thing that is not, and no limit that costs memory."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from renderfarm.errors import PictureError
from renderfarm.pictures import BYTES_MAX, ENDINGS, EXTENSIONS, FORMATS, decode, encode, read, read_file, size_of
from tests.pictures import coded, drawn, png


@pytest.mark.parametrize("kind", sorted(FORMATS))
def test_every_format_is_read_and_says_its_type(kind: str) -> None:
    data = coded(drawn(), kind)
    picture = read(data)
    assert picture.media_type == FORMATS[kind] and size_of(data) == (128, 96)
    assert picture.pixels.dtype == np.uint8 and picture.pixels.shape == (96, 128, 3) and picture.alpha is None
    assert np.abs(picture.pixels.astype(int) - drawn()).mean() < 10
    assert picture.pixels.flags.writeable and np.array_equal(decode(data), picture.pixels)
    assert f".{kind.lower()}" in ENDINGS


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "MPO"])
def test_a_phones_picture_is_turned_upright(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate 90° clockwise to view
    flat, turned = coded(drawn(), kind), coded(drawn(), kind, exif=exif)
    assert np.array_equal(decode(turned), np.rot90(decode(flat), -1))
    assert (size_of(flat), size_of(turned)) == ((128, 96), (96, 128))


def test_a_cameras_jpeg_with_a_second_picture_behind_it_is_a_jpeg() -> None:
    data = coded(drawn(), "MPO", save_all=True, append_images=[Image.fromarray(drawn(8, 8))])
    assert read(data, exact=True).media_type == "image/jpeg" and decode(data).shape == (96, 128, 3)


LEVELS = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_and_not_clipped(kind: str) -> None:
    picture = read(coded(LEVELS, kind))
    assert np.array_equal(picture.pixels, np.repeat((LEVELS >> 8).astype(np.uint8)[..., None], 3, axis=2))


def test_alpha_comes_apart_and_shows_as_white() -> None:
    rng = np.random.default_rng(0)
    colour, alpha = rng.integers(0, 255, (30, 40, 3), np.uint8), rng.integers(0, 255, (30, 40), np.uint8)
    alpha[:2], alpha[2:4] = 0, 255
    picture = read(coded(np.dstack([colour, alpha]), "PNG"))
    assert picture.alpha is not None and np.array_equal(picture.pixels, colour) and np.array_equal(picture.alpha, alpha)
    shown = picture.on_white()
    assert (shown[:2] == 255).all() and np.array_equal(shown[2:4], colour[2:4])
    assert np.abs(shown - (colour * (alpha[..., None] / 255) + 255 - alpha[..., None])).max() <= 1
    one = Image.fromarray(colour).convert("P", palette=Image.Palette.ADAPTIVE)
    assert read(coded(one, "PNG", transparency=3)).alpha is not None and read(coded(one, "GIF")).alpha is None
    assert read(coded(Image.fromarray(alpha), "PNG", transparency=7)).alpha is not None


def test_the_profile_is_that_of_colours_or_none() -> None:
    profile = bytes(16) + b"RGB " + bytes(108)
    assert read(coded(drawn(), "PNG", icc_profile=profile)).profile == profile
    assert read(coded(drawn(), "PNG", icc_profile=profile.replace(b"RGB ", b"GRAY"))).profile is read(coded(drawn(), "PNG")).profile is None


def test_a_file_that_was_cut_off_is_refused() -> None:
    for media_type in EXTENSIONS:
        data = encode(drawn(), media_type)
        with pytest.raises(PictureError, match=r"x: .*(cut off or damaged|no picture that can be read)"):
            decode(data[: len(data) // 2], "x")


@pytest.mark.parametrize(("width", "height"), [(60_000, 60_000), (12_000, 12_000), (1_000_000, 101), (2**31 - 1, 2**31 - 1)])
def test_a_pixel_bomb_is_refused_before_it_is_unpacked(width: int, height: int) -> None:
    bomb = png(width, height, 8, 2, bytes(10_000_000))
    for read_it in (decode, size_of, lambda data, where: read(data, where, exact=True)):
        with pytest.raises(PictureError, match=r"bomb\.png: (the picture has more than 100,000,000 pixels|this is no picture)") as caught:
            read_it(bomb, "bomb.png")
        assert caught.value.remedy


def test_too_many_bytes_none_and_other_files_are_refused() -> None:
    for data, what in (
        (bytes(BYTES_MAX + 1), "the file has more than 200,000,000 bytes"),
        (b"", "the file is empty"),
        (b"%PDF-1.7", "this is no picture that can be read"),
        (coded(np.zeros((8, 8), np.float32), "TIFF"), "the picture has 32 bits a channel"),
        (coded(np.zeros((8, 8), np.int32), "TIFF"), "the picture has 32 bits a channel"),
    ):
        with pytest.raises(PictureError) as caught:
            decode(data, "there")
        assert (caught.value.what, caught.value.where) == (what, "there") and caught.value.remedy


@settings(max_examples=60, deadline=None)
@given(
    st.binary(max_size=200),
    st.sampled_from([b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"RIFF\xff\0\0\0WEBPVP8 ", b"II*\0", b"GIF89a", b""]),
)
def test_junk_is_refused_and_never_crashes(junk: bytes, head: bytes) -> None:
    for read_it in (decode, size_of):
        with pytest.raises(PictureError):
            read_it(head + junk)


TURNED = Image.fromarray(drawn()).rotate(90)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (coded(LEVELS, "PNG"), "has 16 bits a channel"),
        (coded(LEVELS, "TIFF"), "has 16 bits a channel"),
        (png(8, 8, 16, 2, bytes(8 * 49)), "has 16 bits a channel"),
        (coded(Image.fromarray(drawn()).convert("CMYK"), "JPEG"), "is CMYK"),
        (coded(drawn(), "WEBP", save_all=True, append_images=[TURNED]), "is animated or has several pages"),
        (coded(drawn(), "PNG", save_all=True, append_images=[TURNED]), "is animated or has several pages"),
        (coded(drawn(), "GIF", save_all=True, append_images=[TURNED]), "is animated or has several pages"),
        (coded(drawn(), "TIFF", save_all=True, append_images=[TURNED]), "is animated or has several pages"),
        (coded(drawn(), "AVIF"), "is AVIF, which may have more than 8 bits a channel"),
        (coded(Image.fromarray(drawn()).convert("LAB"), "TIFF"), "is LAB"),
    ],
)
def test_what_8_bit_pixels_would_lose_is_refused_where_nothing_may_be_lost(data: bytes, what: str) -> None:
    with pytest.raises(PictureError) as caught:
        read(data, "there", exact=True)
    assert (caught.value.what, caught.value.where) == (f"the picture {what}", "there")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_every_picture_of_8_bits_loses_nothing(mode: str) -> None:
    source = Image.fromarray(np.dstack([drawn(), drawn()[..., 0]])).convert("RGB" if mode in ("P", "1") else "RGBA").convert(mode)
    picture = read(coded(source, "PNG"), exact=True)
    whole = np.asarray(source.convert("RGBA"))
    assert np.array_equal(picture.pixels, whole[..., :3])
    assert (whole[..., 3] == (255 if picture.alpha is None else picture.alpha)).all()


def test_a_file_is_read_to_just_above_the_limit_and_what_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"abc")
    with (tmp_path / "sparse.png").open("wb") as sparse:
        sparse.truncate(1 << 40)
    os.mkfifo(tmp_path / "pipe.png")
    assert read_file(tmp_path / "a.png") == b"abc" and len(read_file(tmp_path / "sparse.png")) == BYTES_MAX + 1
    for name, what in (
        ("", "a folder, not a picture's file"),
        ("pipe.png", "a pipe or a device"),
        ("absent.png", "cannot be read: No such file"),
    ):
        with pytest.raises(PictureError, match=what) as caught:
            read_file(tmp_path / name)
        assert caught.value.where == str(tmp_path / name) and caught.value.remedy
