"""Loading pictures: what is read, and one clear line for each thing that is not."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from pipeline.cli import main
from pipeline.errors import PictureError
from pipeline.watermark import colour_profile, load_picture


def coded(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def plain(mode: str, size: tuple[int, int] = (40, 30)) -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 255, (size[1], size[0], 4), np.uint8)).convert("RGBA" if "A" in mode else "RGB").convert(mode)


def png_header(width: int, height: int, depth: int = 8) -> bytes:
    """A PNG that claims a size and holds no pixels."""
    body = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    chunks = [(b"IHDR", body), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)


@pytest.mark.parametrize(
    ("mode", "kind", "channels"),
    [("RGB", "PNG", 3), ("RGBA", "PNG", 4), ("L", "PNG", 0), ("P", "PNG", 3), ("RGB", "JPEG", 3), ("RGBA", "WEBP", 4)],
)
def test_reads_eight_bit_pictures(mode: str, kind: str, channels: int) -> None:
    pixels = load_picture(coded(plain(mode), kind))
    assert pixels.dtype == np.uint8
    assert pixels.shape == ((30, 40, channels) if channels else (30, 40))


def test_turns_by_exif() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert load_picture(coded(plain("RGB"), "JPEG", exif=exif)).shape == (40, 30, 3)


def test_a_cameras_jpeg_with_a_second_picture_behind_it_is_read() -> None:
    data = coded(plain("RGB"), "MPO", save_all=True, append_images=[plain("RGB", (8, 8))])
    assert load_picture(data).shape == (30, 40, 3)


BAD = {
    "truncated": (coded(plain("RGB"), "PNG")[:900], "truncated"),
    "truncated jpeg": (coded(plain("RGB", (300, 300)), "JPEG")[:5000], "truncated"),
    "one pixel": (coded(plain("RGB", (1, 1)), "PNG"), "1x1"),
    "16-bit grey": (coded(Image.fromarray(np.zeros((8, 8), np.uint16)), "PNG"), "16-bit"),
    "16-bit colour": (png_header(8, 8, 16), "16-bit"),
    "cmyk": (coded(plain("CMYK"), "JPEG"), "CMYK"),
    "animated": (coded(plain("RGB"), "WEBP", save_all=True, append_images=[plain("RGB").rotate(90)]), "animated"),
    "animated png": (coded(plain("RGB"), "PNG", save_all=True, append_images=[plain("RGB").rotate(90)]), "animated"),
    "bomb": (png_header(60_000, 60_000), "million pixels"),
    "large bomb": (png_header(12_000, 12_000), "million pixels"),
    "text": (b"not an image at all", "not an image"),
    "gif": (coded(plain("RGB"), "GIF"), "not an image"),
    "empty": (b"", "empty"),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_refuses_with_one_line_that_names_the_file_and_the_reason(name: str) -> None:
    data, reason = BAD[name]
    with pytest.raises(PictureError) as caught:
        load_picture(data, "upload.png")
    assert reason in caught.value.what and caught.value.where == "upload.png" and caught.value.remedy
    assert "\n" not in caught.value.what


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="cannot be read") as caught:
        load_picture(tmp_path / "absent.png")
    assert caught.value.where.endswith("absent.png")


def test_a_folder_and_a_pipe_are_named_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for path, kind in ((tmp_path, "a folder"), (tmp_path / "pipe.png", "a pipe")):
        with pytest.raises(PictureError, match=kind):
            load_picture(path)


KEY_HEX = "00112233445566778899aabbccddeeff"


@pytest.fixture
def key_file(tmp_path: Path) -> str:
    (tmp_path / "mark.key").write_text(KEY_HEX)
    return str(tmp_path / "mark.key")


def test_a_batch_goes_on_past_every_bad_file_with_one_line_each(tmp_path: Path, key_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name, (data, _) in BAD.items():
        (folder / name).write_bytes(data)
    (folder / "folder").mkdir()
    (folder / "two\nlines").write_bytes(b"nothing")
    Image.fromarray(np.random.default_rng(0).integers(0, 2, (256, 256, 3), np.uint8) * 255).save(folder / "noise.png")
    Image.fromarray(np.full((100, 300, 3), 90, np.uint8)).save(folder / "small.png")
    bad = [*sorted(folder.iterdir()), folder / "missing.png"]
    surrogate = folder / os.fsdecode(b"m\xfcll.png")
    good = [folder / "good.png", surrogate]
    for path in good:
        Image.fromarray(np.full((256, 256, 3), 90, np.uint8)).save(path)
    batch = [str(path) for path in (good[0], *bad, good[1])]
    assert main(["watermark", "embed", *batch, "--id", "0123456789a", "--key-file", key_file, "-o", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [f"{tmp_path}/out/good.png", f"{tmp_path}/out/m\\udcfcll.png"]
    lines = captured.err.splitlines()
    assert len(lines) == len(bad) and "Traceback" not in captured.err
    for path, line in zip(bad, lines, strict=True):
        assert line.startswith(f"{folder}/{path.name}".replace("\n", "\\n") + ": ")
        assert BAD.get(path.name, ("", ""))[1] in line
    assert main(["watermark", "read", *batch, "--key-file", key_file]) == 2
    captured = capsys.readouterr()
    assert len(captured.err.splitlines()) == len(bad) - 2, "noise and the small one can be read: no mark"
    assert len(captured.out.splitlines()) == 4


def test_the_colour_profile_is_kept(tmp_path: Path, key_file: str) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    plain("RGB", (300, 260)).save(tmp_path / "wide.jpg", icc_profile=profile)
    assert main(["watermark", "embed", str(tmp_path / "wide.jpg"), "--id", "0123456789a", "--key-file", key_file, "-o", str(tmp_path)]) == 0
    assert colour_profile(tmp_path / "wide.png") == profile == colour_profile(tmp_path / "wide.jpg")
    assert colour_profile(coded(plain("RGB"), "PNG")) is None


def test_nothing_is_overwritten_and_transparency_is_kept(tmp_path: Path, key_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = tmp_path / "a.png", tmp_path / "a.webp"
    plain("RGBA", (300, 260)).save(first)
    plain("RGB", (300, 260)).save(second)
    before = first.read_bytes()
    options = ["--id", "0123456789a", "--key-file", key_file, "-o"]
    assert main(["watermark", "embed", str(first), *options, str(tmp_path)]) == 2
    assert "would overwrite this one" in capsys.readouterr().err and first.read_bytes() == before
    assert main(["watermark", "embed", str(first), str(second), *options, str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [f"{tmp_path}/out/a.png"] and "another picture of this call" in captured.err
    marked = load_picture(tmp_path / "out" / "a.png")
    assert np.array_equal(marked[..., 3], load_picture(first)[..., 3]) and not np.array_equal(marked, load_picture(first))
    assert main(["watermark", "read", str(tmp_path / "out" / "a.png"), "--key-file", key_file]) == 0
