"""A table of files and callers: every part of the program that reads a picture file reads the same ones, and says the same of the others.

Only `watermark embed` may lose nothing, so it alone refuses some; only `check` shows what is transparent as white.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from renderfarm.audit.pictures import Beliefs, Recorded, check_object
from renderfarm.checks.files import read_picture
from renderfarm.cli import main
from renderfarm.errors import PictureError, RenderFailed
from renderfarm.identify.evidence import gather
from renderfarm.pictures import FORMATS, Pixels, decode, pdq, size_of
from renderfarm.render.inputs import read_control, read_inputs
from renderfarm.storage import LocalStorage
from renderfarm.watermark import MarkKey
from tests.pictures import coded, drawn, png
from tests.standins import attempt

SHOWN = drawn(256, 320)
TURNED = Image.Exif()
TURNED[0x0112] = 6
KEY = "00112233445566778899aabbccddeeff"
DEEP = np.linspace(0, 65535, 256 * 320).reshape(256, 320).astype(np.uint16)
OTHER = Image.fromarray(255 - SHOWN)
PROFILE = bytes(16) + b"RGB " + bytes(108)


@dataclass(frozen=True)
class Row:
    """A file, its pixels as everyone sees them (None: nobody can), and what `watermark embed` says ("": it marks it)."""

    data: bytes
    shown: Pixels | None = None
    embed: str = ""
    says: str = ""


def clear() -> bytes:
    alpha = np.full((256, 320), 255, np.uint8)
    alpha[:40] = 0
    return coded(np.dstack([SHOWN, alpha]), "PNG")


CMYK = Image.fromarray(SHOWN).convert("CMYK")
PALETTE = Image.fromarray(SHOWN).convert("P", palette=Image.Palette.ADAPTIVE)
GREY = np.repeat((DEEP >> 8).astype(np.uint8)[..., None], 3, axis=2)
ROWS = {
    **{kind: Row(coded(SHOWN, kind, **{"WEBP": {"lossless": True}}.get(kind, {})), SHOWN) for kind in ("PNG", "WEBP", "BMP", "TIFF")},
    "JPEG": Row(coded(SHOWN, "JPEG", quality=100, subsampling=0), SHOWN),
    "GIF": Row(coded(PALETTE, "GIF"), np.asarray(PALETTE.convert("RGB"))),
    "AVIF": Row(coded(SHOWN, "AVIF", quality=100, subsampling="4:4:4"), SHOWN, "is AVIF"),
    "a camera's JPEG": Row(coded(SHOWN, "MPO", quality=100, subsampling=0, save_all=True, append_images=[OTHER.copy()]), SHOWN),
    "turned JPEG": Row(coded(SHOWN, "JPEG", quality=100, subsampling=0, exif=TURNED), np.rot90(SHOWN, -1)),
    "turned TIFF": Row(coded(SHOWN, "TIFF", exif=TURNED), np.rot90(SHOWN, -1)),
    "with a profile": Row(coded(SHOWN, "PNG", icc_profile=PROFILE), SHOWN),
    "palette": Row(coded(PALETTE, "PNG"), np.asarray(PALETTE.convert("RGB"))),
    "grey": Row(coded(GREY[..., 0], "PNG"), GREY),
    "16-bit grey": Row(coded(DEEP, "PNG"), GREY, "16 bits"),
    "16-bit grey TIFF": Row(coded(DEEP, "TIFF"), GREY, "16 bits"),
    "CMYK": Row(coded(CMYK, "TIFF"), np.asarray(CMYK.convert("RGB")), "CMYK"),
    "animated": Row(coded(SHOWN, "PNG", save_all=True, append_images=[OTHER.copy()]), SHOWN, "animated"),
    "pages": Row(coded(SHOWN, "TIFF", save_all=True, append_images=[OTHER.copy()]), SHOWN, "several pages"),
    "empty": Row(b"", says="the file is empty"),
    "no picture": Row(b"%PDF-1.7 not a picture", says="this is no picture that can be read"),
    "vectors": Row(b'<svg xmlns="http://www.w3.org/2000/svg"/>', says="this is no picture that can be read"),
    "cut off": Row(coded(SHOWN, "PNG")[:800], says="the file is cut off or damaged"),
    "bomb": Row(png(60_000, 60_000, 8, 2, b""), says="the picture has more than 100,000,000 pixels"),
    "32-bit": Row(coded(DEEP.astype(np.float32), "TIFF"), says="the picture has 32 bits a channel"),
}
assert set(FORMATS) <= set(ROWS)


def from_render(data: bytes, control: bool = False) -> Pixels:
    planned = attempt().image
    height, width = SHOWN.shape[:2]
    if data in [ROWS[name].data for name in ("turned JPEG", "turned TIFF")]:
        height, width = width, height
    named = {"control_digest": "a", "control_image": "a"} if control else {"init_digest": "a", "init_image": "a"}
    planned = replace(planned, width=width, height=height, **named)
    try:
        made = read_control(planned, {"a": data}) if control else read_inputs(planned, {"a": data})[0]
    except RenderFailed as error:
        raise PictureError(str(error).removeprefix("input picture a: ")) from error
    assert made is not None
    return np.rint(made.numpy().transpose(1, 2, 0) * 255).astype(np.uint8)


def from_check(data: bytes, folder: Path) -> Pixels:
    (folder / "a").write_bytes(data)
    return read_picture(folder / "a")


SEES: dict[str, Callable[[bytes, Path], Pixels]] = {
    "reproduce, review": lambda data, _: decode(data),
    "render": lambda data, _: from_render(data),
    "render, control": lambda data, _: from_render(data, control=True),
    "check": from_check,
}


@pytest.mark.parametrize("caller", sorted(SEES))
@pytest.mark.parametrize("name", sorted(ROWS))
def test_whoever_needs_pixels_gets_the_same(name: str, caller: str, tmp_path: Path) -> None:
    row = ROWS[name]
    if row.shown is None:
        with pytest.raises(PictureError) as caught:
            SEES[caller](row.data, tmp_path)
        assert caught.value.what == row.says
        return
    pixels = SEES[caller](row.data, tmp_path)
    assert pixels.shape == row.shown.shape and np.abs(pixels.astype(int) - row.shown).mean() < 2
    assert size_of(row.data) == (pixels.shape[1], pixels.shape[0])


@pytest.mark.parametrize("name", sorted(ROWS))
def test_identify_and_audit_read_what_the_others_read(name: str, tmp_path: Path) -> None:
    row, key = ROWS[name], MarkKey.from_hex(KEY)
    digest = hashlib.sha256(row.data).hexdigest()
    about = Recorded("here", "i", 1, "accepted", "images/a", digest, len(row.data), None, None, "0" * 11, key.key_id, 0)
    storage = LocalStorage(tmp_path, create=True)
    storage.put_new("images/a", row.data, "image/png")
    answer = check_object(storage, about, Beliefs(None, (key,)))
    if row.shown is None:
        assert (answer.finding, answer.what) == ("object-unreadable", row.says) or not row.data
        with pytest.raises(PictureError) as caught:
            gather(row.data, "a", Beliefs())
        assert (caught.value.what, caught.value.where) == (row.says, "a")
    else:
        assert (answer.finding, answer.mark_read) == ("watermark-unreadable", True)
        seen = gather(row.data, "a", Beliefs())
        assert (seen.finding.state, seen.reading) == ("absent", None)
        assert np.bitwise_count(seen.forms[0] ^ pdq.packed([pdq.hash_of(row.shown)[0]])).sum() <= pdq.NEAR


def test_the_watermark_commands_read_what_the_others_read_and_mark_what_loses_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "key").write_text(KEY)
    for name, row in ROWS.items():
        (tmp_path / name).write_bytes(row.data)
    refused = {str(tmp_path / name): row.says or row.embed for name, row in ROWS.items() if row.says or row.embed}
    given = ["--key-file", str(tmp_path / "key")]
    every = [str(tmp_path / name) for name in ROWS]
    assert main(["watermark", "embed", *every, *given, "--id", "0123456789a", "-o", str(tmp_path / "out")]) == 2
    said = capsys.readouterr()
    assert said.out.splitlines() == [str(tmp_path / "out" / f"{name}.png") for name, row in ROWS.items() if not (row.says or row.embed)]
    for line, (path, what) in zip(said.err.splitlines(), refused.items(), strict=True):
        assert line.startswith(f"{path}: ") and what in line
    assert main(["watermark", "read", *refused, *said.out.splitlines()[:3], *given]) == 2
    said = capsys.readouterr()
    assert [line.split(": ")[1].split(" (")[0] for line in said.err.splitlines()] == [row.says for row in ROWS.values() if row.says]
    assert [line.endswith(": no mark under these keys") for line in said.out.splitlines()] == [True] * sum(
        bool(row.embed) for row in ROWS.values()
    ) + [False] * 3


def test_only_the_check_shows_what_is_transparent_as_white(tmp_path: Path) -> None:
    data = clear()
    for caller, look in SEES.items():
        pixels = look(data, tmp_path)
        assert np.array_equal(pixels[40:], SHOWN[40:])
        assert np.array_equal(pixels[:40], np.full_like(SHOWN[:40], 255) if caller == "check" else SHOWN[:40])
