"""`watermark embed` and `watermark read`: a batch goes on past what cannot be used, and nothing is lost or replaced."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from renderfarm.cli import main, tools
from renderfarm.errors import UserError
from renderfarm.pictures import read, read_file
from renderfarm.watermark import VERSION, MarkKey
from tests.pictures import coded, png


def plain(mode: str, size: tuple[int, int] = (40, 30)) -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 255, (size[1], size[0], 4), np.uint8)).convert("RGBA" if "A" in mode else "RGB").convert(mode)


UNREADABLE = {
    "truncated": (coded(plain("RGB"), "PNG")[:900], "cut off or damaged"),
    "truncated jpeg": (coded(plain("RGB", (300, 300)), "JPEG")[:5000], "cut off or damaged"),
    "bomb": (png(60_000, 60_000, 8, 2, b""), "more than 100,000,000 pixels"),
    "text": (b"not an image at all", "no picture that can be read"),
    "empty": (b"", "empty"),
}
UNMARKABLE = {
    "one pixel": (coded(plain("RGB", (1, 1)), "PNG"), "1x1"),
    "16-bit grey": (coded(np.zeros((8, 8), np.uint16), "PNG"), "16 bits"),
    "cmyk": (coded(plain("CMYK"), "JPEG"), "CMYK"),
    "animated": (coded(plain("RGB"), "WEBP", save_all=True, append_images=[plain("RGB").rotate(90)]), "animated"),
    "noise": (coded(np.random.default_rng(0).integers(0, 2, (256, 256, 3), np.uint8) * 255, "PNG"), "saturated or noisy all over"),
    "small": (coded(np.full((100, 300, 3), 90, np.uint8), "GIF"), "short side"),
}


KEY_HEX = "00112233445566778899aabbccddeeff"


@pytest.fixture
def key_file(tmp_path: Path) -> str:
    (tmp_path / "mark.key").write_text(KEY_HEX)
    return str(tmp_path / "mark.key")


def test_a_batch_goes_on_past_every_bad_file_with_one_line_each(tmp_path: Path, key_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name, (data, _) in (UNREADABLE | UNMARKABLE).items():
        (folder / name).write_bytes(data)
    (folder / "folder").mkdir()
    (folder / "two\nlines").write_bytes(b"nothing")
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
        assert (UNREADABLE | UNMARKABLE).get(path.name, ("", ""))[1] in line
    assert main(["watermark", "read", *batch, "--key-file", key_file]) == 2
    captured = capsys.readouterr()
    assert len(captured.err.splitlines()) == len(bad) - len(UNMARKABLE), "these can be read, and have no mark"
    assert len(captured.out.splitlines()) == 2 + len(UNMARKABLE)


def test_the_profile_of_colours_is_kept_and_that_of_greys_is_not(tmp_path: Path, key_file: str) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    greys = profile[:16] + b"GRAY" + profile[20:]  # as far as anything here looks
    plain("RGB", (300, 260)).save(tmp_path / "wide.jpg", icc_profile=profile)
    plain("LA", (300, 260)).save(tmp_path / "veil.png", icc_profile=greys)
    plain("L", (300, 260)).save(tmp_path / "grey.png", icc_profile=greys)
    sources = [str(tmp_path / name) for name in ("wide.jpg", "veil.png", "grey.png")]
    out = tmp_path / "out"
    assert main(["watermark", "embed", *sources, "--id", "0123456789a", "--key-file", key_file, "-o", str(out)]) == 0
    assert read(read_file(out / "wide.png")).profile == profile == read(read_file(tmp_path / "wide.jpg")).profile
    for name in ("veil.png", "grey.png"):
        with Image.open(out / name) as marked:
            assert "icc_profile" not in marked.info, name
    with Image.open(out / "veil.png") as marked, Image.open(tmp_path / "veil.png") as source:
        assert marked.mode == "RGBA" and marked.getchannel("A").tobytes() == source.getchannel("A").tobytes()


EMBED = ["watermark", "embed", "--id", "0123456789a"]


def listing(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_no_file_is_replaced_and_nothing_is_written_when_one_would_be(
    tmp_path: Path, key_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, mode in (("a.png", "RGB"), ("a.jpg", "RGB"), ("b.jpg", "RGB"), ("c.jpg", "RGB"), ("d.webp", "RGBA")):
        plain(mode, (300, 260)).save(tmp_path / name)
    (tmp_path / "b.png").write_bytes(b"of somebody else")
    (tmp_path / "c.png").symlink_to(tmp_path / "nowhere")
    before, here = listing(tmp_path), str(tmp_path)
    for names, hit in (
        (["d.webp", "a.png"], "a.png"),  # the source itself
        (["d.webp", "a.jpg", "a.png"], "a.png"),  # another source of the call
        (["d.webp", "b.jpg"], "b.png"),  # a file that has nothing to do with it
        (["d.webp", "c.jpg"], "c.png"),  # a link that leads nowhere
    ):
        assert main([*EMBED, *(f"{here}/{name}" for name in names), "--key-file", key_file, "-o", here]) == 2
        captured = capsys.readouterr()
        assert captured.out == "" and f"{here}/{hit}: is there already" in captured.err and "remedy: choose another folder" in captured.err
        assert listing(tmp_path) == before, names
    for twin in ("a.jpg", "a.png"):
        assert main([*EMBED, f"{here}/d.webp", f"{here}/a.png", f"{here}/{twin}", "--key-file", key_file, "-o", f"{here}/out"]) == 2
        captured = capsys.readouterr()
        assert f"{here}/a.png and {here}/{twin} would both be marked as this file" in captured.err and captured.out == ""
        assert not (tmp_path / "out").exists()


def test_marked_pictures_are_whole_readable_by_others_and_keep_their_transparency(tmp_path: Path, key_file: str) -> None:
    source, out = tmp_path / "a.webp", tmp_path / "out"
    plain("RGBA", (300, 260)).save(source, lossless=True, exact=True)
    assert main([*EMBED, str(source), "--key-file", key_file, "-o", str(out)]) == 0
    assert [path.name for path in out.iterdir()] == ["a.png"], "no temporary file is left"
    assert (out / "a.png").stat().st_mode & 0o777 == source.stat().st_mode & 0o777
    marked, before = read(read_file(out / "a.png")), read(read_file(source))
    assert marked.alpha is not None and before.alpha is not None
    assert np.array_equal(marked.alpha, before.alpha) and not np.array_equal(marked.pixels, before.pixels)
    assert main(["watermark", "read", str(out / "a.png"), "--key-file", key_file]) == 0


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_a_file_that_appears_while_its_picture_is_marked_is_left_alone(tmp_path: Path, links: bool) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "this file system has no links")

    link = os.link if links else refuse
    tools._write_new(tmp_path / "new.png", b"ours", link)
    (tmp_path / "a.png").write_bytes(b"of somebody else")
    with pytest.raises(UserError, match="appeared meanwhile"):
        tools._write_new(tmp_path / "a.png", b"ours", link)
    assert listing(tmp_path) == {"a.png": b"of somebody else", "new.png": b"ours"}


def test_two_keys_in_the_environment_are_two_keys(
    tmp_path: Path, key_file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    new = "ffeeddccbbaa99887766554433221100"
    plain("RGB", (300, 260)).save(tmp_path / "a.jpg")
    marked, read = str(tmp_path / "out" / "a.png"), ["watermark", "read", str(tmp_path / "out" / "a.png")]
    assert main([*EMBED, str(tmp_path / "a.jpg"), "--key-file", key_file, "-o", str(tmp_path / "out")]) == 0
    monkeypatch.setenv("RENDERFARM_MARK_KEY", f"{new}\n{KEY_HEX}\n")
    assert main(read) == 0, "a mark of the old key is read while both are given"
    assert f"key {MarkKey.from_hex(KEY_HEX).key_id}, version {VERSION}," in capsys.readouterr().out
    assert main([*EMBED, marked, "-o", str(tmp_path / "again")]) == 0
    monkeypatch.setenv("RENDERFARM_MARK_KEY", new)
    assert main(["watermark", "read", str(tmp_path / "again" / "a.png")]) == 0, "the first one marks"
    capsys.readouterr()
    for bad, line in ((f"{new} {KEY_HEX}", 1), (f"{KEY_HEX}\n\n{new[:8]} {new[8:]}", 3)):
        monkeypatch.setenv("RENDERFARM_MARK_KEY", bad)
        (tmp_path / "bad.key").write_text(bad)
        for given, where in (([], "RENDERFARM_MARK_KEY"), (["--key-file", str(tmp_path / "bad.key")], f"{tmp_path}/bad.key")):
            assert main([*read, *given]) == 2
            said = capsys.readouterr().err
            assert f"{where}, line {line}: the watermark key is not hex digits alone" in said and new[8:] not in said
    monkeypatch.setenv("RENDERFARM_MARK_KEY", "\n")
    assert main(read) == 2 and "RENDERFARM_MARK_KEY: no watermark key in it" in capsys.readouterr().err
