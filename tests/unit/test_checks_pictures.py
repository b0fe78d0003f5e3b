"""Broken renders, near-duplicates and copies on pictures drawn here; every test names the reason it expects."""

from __future__ import annotations

import resource
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import structlog
from PIL import Image, ImageDraw, ImageFont

from renderfarm.checks.broken import BrokenCheck
from renderfarm.checks.copies import CopiesCheck, several_wanted
from renderfarm.checks.counts import Counted, CountsCheck, ObjectCounter
from renderfarm.checks.duplicates import DuplicateIndex
from renderfarm.checks.reader import LetterReader
from renderfarm.checks.selfmatch import find_copies
from renderfarm.checks.text import TextCheck
from renderfarm.checks.words import Line
from renderfarm.job.checks import BrokenSettings, CopiesSettings, CountsSettings, DuplicatesSettings, TextSettings
from renderfarm.pictures import Fingerprint, fingerprint
from renderfarm.pictures.fingerprints import signature
from renderfarm.schema import Box, ObjectCount, PromptRow
from tests.pictures import EDITS, mug, texture

Picture = npt.NDArray[np.uint8]
ROW = PromptRow("r1", "a red mug on a table")
RNG = np.random.default_rng(3)


def _u8(values: object) -> Picture:
    return np.asarray(values).astype(np.uint8)


def _stretched(cells: int) -> Picture:
    return _u8(np.kron(RNG.integers(0, 2, (cells, cells, 3)) * 255, np.ones((256 // cells, 256 // cells, 1))))


@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        (np.zeros((256, 256, 3), np.uint8), "the picture is black"),
        (_u8(RNG.integers(0, 6, (256, 256, 3))), "the picture is black"),
        (np.full((256, 200, 3), 128, np.uint8), "the picture is one flat colour"),
        (np.full((64, 64, 3), 255, np.uint8), "the picture is one flat colour"),
        (_u8(RNG.integers(0, 256, (256, 256, 3))), "the picture is only noise"),
        (_u8(np.clip(RNG.normal(120, 15, (512, 256, 3)), 0, 255)), "the picture is only noise"),
        (_stretched(64), "the picture is burnt out: almost all of it is pure black, white or a pure colour"),
    ],
)
def test_broken_renders_are_rejected_with_what_is_wrong(picture: Picture, reason: str) -> None:
    verdict = BrokenCheck(BrokenSettings()).check(picture, ROW)
    assert (verdict.outcome, verdict.reason) == ("rejected", reason)
    assert verdict.score is not None and verdict.threshold == 0.5 > verdict.score
    assert BrokenCheck(BrokenSettings(on_fail="flag")).check(picture, ROW).outcome == "flagged"


def test_flat_drawings_signs_textures_and_night_scenes_are_not_broken() -> None:
    night = np.full((256, 256, 3), 4, np.uint8)
    night[100:120, 60:90] = (250, 220, 150)
    gradient = _u8(np.linspace(90, 120, 256)[:, None, None] * np.ones((1, 256, 3)))
    white = np.full((256, 256, 3), 255, np.uint8)
    white[100:110, 100:140] = 0
    poster = white.copy()
    poster[20:120, 20:230], poster[130:250, 20:230] = (255, 0, 0), (0, 0, 255)
    pictures = [night, gradient, white, poster, np.full((4, 3, 3), 90, np.uint8)[:, :, :] + _u8(RNG.integers(0, 90, (4, 3, 3)))]
    pictures += [mug(k, k) for k in range(5)] + [texture(k) for k in range(3)]
    for picture in pictures:
        verdict = BrokenCheck(BrokenSettings()).check(picture, ROW)
        assert verdict.outcome == "accepted", verdict


def _index(**settings: object) -> DuplicateIndex:
    return DuplicateIndex(DuplicatesSettings.model_validate(settings))


@pytest.mark.parametrize("edit", sorted(EDITS))
@pytest.mark.parametrize("make", [mug, texture])
def test_an_edited_copy_in_the_same_row_is_rejected_and_the_first_is_named(edit: str, make: Callable[[int], Picture]) -> None:
    index = _index()
    first = make(8)
    index.add("r1", "r1 #0", fingerprint(first))
    verdict = index.judge("r1", fingerprint(EDITS[edit](first)))
    assert (verdict.outcome, verdict.reason) == ("rejected", "near-duplicate of r1 #0 in the same row")
    assert verdict.score is not None and verdict.score <= 31 / 256 and verdict.threshold == 77 / 256


def test_other_seeds_and_other_colours_of_one_pose_are_no_duplicates() -> None:
    index = _index()
    for seed in range(6):
        found = fingerprint(mug(seed))
        assert index.judge_row("r1", found).reason == "unlike the row's other images"
        index.add("r1", f"r1 #{seed}", found)
    assert [index.judge("r1", fingerprint(mug(2, colour))).outcome for colour in (1, 2, 4)] == ["accepted"] * 3
    assert index.judge("r1", fingerprint(mug(2))).reason == "near-duplicate of r1 #2 in the same row"


@pytest.mark.parametrize("seed", [1, 3])
def test_a_variant_of_one_seed_is_found_and_one_in_another_colour_or_mirrored_is_not(seed: int) -> None:
    """Shading that another rounding would draw: 36 and 34 bits, and a correlation of .95."""
    first = texture(seed)
    variant = _u8(np.clip(first + 0.5 * (texture(seed + 100).mean(axis=2, keepdims=True) - 128), 0, 255))
    index = _index()
    index.add("r1", "r1 #0", fingerprint(first))
    verdict = index.judge("r1", fingerprint(variant))
    assert (verdict.outcome, verdict.reason) == ("rejected", "near-duplicate of r1 #0 in the same row")
    assert verdict.score is not None and 31 / 256 < verdict.score < (verdict.threshold or 0) == 77 / 256
    assert index.judge("r2", fingerprint(variant)).outcome == "flagged"
    recoloured = variant.copy()
    recoloured[60:190, 60:190] = variant[60:190, 60:190][..., [1, 2, 0]]
    for other in (recoloured, variant[:, ::-1], texture(seed + 1)):
        assert index.judge("r1", fingerprint(other)).outcome == index.judge("r2", fingerprint(other)).outcome == "accepted"
    index = _index(variant_distance=0)
    index.add("r1", "r1 #0", fingerprint(first))
    assert index.judge("r1", fingerprint(variant)).outcome == "accepted"


def test_a_grey_copy_is_found_and_a_grey_product_on_white_is_another() -> None:
    grey = np.array([0.299, 0.587, 0.114])
    for seed in range(6):
        index, picture = _index(), mug(seed)
        index.add("r1", "r1 #0", fingerprint(picture))
        assert index.judge("r1", fingerprint(np.repeat(_u8(picture @ grey)[..., None], 3, axis=2))).outcome == "rejected"
    white = np.full((256, 256, 3), 250, np.uint8)
    white[40:200, 70:180] = np.kron(RNG.integers(0, 2, (16, 11)), np.ones((10, 10)))[..., None] * 60
    red = white.copy()
    red[40:200, 70:180] = white[40:200, 70:180] // 2 + _u8([120, 10, 10])
    index = _index()
    index.add("r1", "r1 #0", fingerprint(red))
    assert index.judge("r1", fingerprint(np.repeat(_u8(red @ grey)[..., None], 3, axis=2))).outcome == "accepted"


def test_a_twin_in_another_row_is_flagged_rejected_or_ignored_as_the_job_says() -> None:
    found = fingerprint(texture(1))
    outcomes = {}
    for wish in ("flag", "reject", "ignore"):
        index = _index(on_job_twin=wish)
        index.add("r1", "r1 #0", found)
        outcomes[wish] = index.judge("r2", found)
    assert [v.outcome for v in outcomes.values()] == ["flagged", "rejected", "accepted"]
    assert outcomes["flag"].reason == "near-duplicate of r1 #0 in another row"


def test_a_flat_picture_is_not_compared_across_rows_and_says_so() -> None:
    plain = np.full((256, 256, 3), 200, np.uint8)
    plain[100:150, 100:150] = (220, 190, 190)
    found = fingerprint(plain)
    assert found.quality < 50
    index = _index()
    index.add("r1", "r1 #0", found)
    assert index.judge_job("r2", found).reason == f"too little detail to compare with other rows (PDQ quality {found.quality})"
    assert index.judge("r1", found).outcome == "rejected"
    assert index.judge_row("r1", fingerprint(np.full((256, 256, 3), 90, np.uint8))).outcome == "accepted"


def test_what_is_read_back_from_records_finds_the_same_twin_and_what_is_removed_finds_none() -> None:
    full = fingerprint(texture(4))
    recorded = Fingerprint(full.pdq, full.quality, full.signature)
    index = _index()
    index.add("r1", "r1 #0", recorded)
    assert index.judge("r1", full).outcome == index.judge("r1", recorded).outcome == "rejected"
    index.remove("r1", "r1 #0")
    assert index.judge("r1", full).outcome == index.judge("r2", full).outcome == "accepted"


def test_the_index_grows_past_its_first_allocation() -> None:
    index = _index()
    blank = signature(np.zeros((32, 32, 3), np.uint8))
    for k in range(1100):
        index.add("old", f"old #{k}", Fingerprint(RNG.bytes(32).hex(), 100, blank))
    found = fingerprint(texture(5))
    index.add("late", "late #0", found)
    assert index.judge("new", found).reason == "near-duplicate of late #0 in another row" and len(index) == 1101


def test_nothing_is_added_by_an_empty_list_and_no_file_is_made_before_the_first_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    index = _index()
    index.extend([], [], [], [], [])
    assert len(index) == 0 and index.judge("r", fingerprint(mug(1))).outcome == "accepted"


@pytest.mark.parametrize("room", [None, 0, 384 * 5 + 100], ids=["no folder", "no room", "room for five and a bit"])
def test_a_full_disk_loses_no_image_and_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int | None) -> None:
    pictures = [fingerprint(texture(seed)) for seed in range(9)]
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path if room is not None else tmp_path / "gone"))
    index, (soft, hard) = _index(), resource.getrlimit(resource.RLIMIT_FSIZE)
    with structlog.testing.capture_logs() as logs:
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft if room is None else room, hard))
            for first, last in ((0, 3), (3, 8), (8, 9)):  # the second does not fit as a whole
                part = pictures[first:last]
                index.extend(
                    [f"r{k}" for k in range(first, last)],
                    [f"r{k} #0" for k in range(first, last)],
                    [found.pdq for found in part],
                    [found.quality for found in part],
                    [found.signature for found in part],
                )
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [entry["event"] for entry in logs] == ["thumbnails_not_on_disk"] and list(tmp_path.iterdir()) == []
    for seed, found in enumerate(pictures):
        assert index.judge("late", found).reason == f"near-duplicate of r{seed} #0 in another row"
    assert index.judge("late", fingerprint(texture(99))).outcome == "accepted"


def test_flat_drawings_of_other_rows_are_compared_by_their_thumbnails() -> None:
    index = _index(min_quality=100)
    for seed in range(20):
        assert index.judge(f"r{seed}", fingerprint(mug(seed))).outcome == "accepted"
        index.add(f"r{seed}", f"r{seed} #0", fingerprint(mug(seed)))
    again = EDITS["jpeg"](mug(7))
    verdict = index.judge("late", fingerprint(again))
    assert (verdict.outcome, verdict.reason) == ("flagged", "near-duplicate of r7 #0 in another row")
    index.remove("r7", "r7 #0")
    assert index.judge("late", fingerprint(again)).outcome == "accepted"


def _within(box: Box, place: Box, slack: int = 4) -> bool:
    low = box.x0 >= place.x0 - slack and box.y0 >= place.y0 - slack
    return low and box.x1 <= place.x1 + slack and box.y1 <= place.y1 + slack


def test_a_pasted_copy_is_rejected_with_both_places_boxed() -> None:
    picture = texture(11, 384)
    picture[200:280, 40:120] = picture[60:140, 230:310]
    verdict = CopiesCheck(CopiesSettings()).check(picture, ROW)
    assert (verdict.outcome, verdict.reason) == ("rejected", "a part of the picture appears twice")
    source, target = Box(230, 60, 310, 140), Box(40, 200, 120, 280)
    assert len(verdict.boxes) == 2 and all(any(_within(box, place) for place in (source, target)) for box in verdict.boxes)
    assert verdict.score is not None and verdict.threshold == 0.2 > verdict.score
    several = PromptRow("r2", "two mugs", objects=(ObjectCount("mug", 2),))
    assert CopiesCheck(CopiesSettings()).check(picture, several).outcome == "flagged"


def test_pictures_without_copies_pass_and_tiny_ones_do_not_crash() -> None:
    check = CopiesCheck(CopiesSettings())
    for seed in range(4):
        assert check.check(texture(seed, 384), ROW).outcome == "accepted"
        assert check.check(mug(seed), ROW).outcome == "accepted"
    for shape in ((1, 1, 3), (16, 900, 3), (40, 40, 3)):
        assert check.check(np.zeros(shape, np.uint8), ROW).outcome == "accepted"


def test_what_repeats_inside_lettering_is_no_copy_and_the_picture_is_read_once_for_both_checks() -> None:
    readings: list[Picture] = []

    class Counting(LetterReader):
        def look(self, image: Picture, side: int, expected: str) -> list[Line]:
            readings.append(image)
            return super().look(image, side, expected)

    reader = Counting()
    text, copies = TextCheck(TextSettings(), reader), CopiesCheck(CopiesSettings(), reader)
    row = PromptRow("r", "a poster 'MAMMOTH HAMMERS FOR MAMMOTH HOMES'")
    poster = _poster("MAMMOTH", "HAMMERS FOR", "MAMMOTH", "HOMES")
    assert [check.check(poster, row).outcome for check in (copies, text)] == ["accepted", "accepted"]
    assert find_copies(poster)[0].evidence > 200, "the letters do repeat"
    assert len(readings) == 1
    poster = poster.copy()
    poster[300:380, 40:140] = poster[20:100, 350:450] = texture(3, 512)[100:180, 100:200]
    assert copies.check(poster, row).outcome == "rejected", "what repeats beside the lettering is a copy as before"
    assert len(readings) == 2, "another picture is read anew"


def _poster(*lines: str) -> Picture:
    """Dark letters on light ground, in one size, uint8 (512, 512, 3)."""
    board = Image.new("RGB", (512, 512), (235, 225, 200))
    font = ImageFont.load_default(size=58)
    for at, line in enumerate(lines):
        ImageDraw.Draw(board).text((40, 120 + 80 * at), line, fill=(40, 30, 20), font=font)
    return np.asarray(board)


@pytest.mark.parametrize(("seed", "times"), [(5, 4), (6, 8), (9, 4)])
def test_a_texture_that_is_made_to_repeat_is_no_copy(seed: int, times: int) -> None:
    wallpaper = np.tile(texture(seed, 512 // times + 1), (times, times, 1))[:512, :512]
    wallpaper = _u8(np.clip(wallpaper + RNG.normal(0, 3, wallpaper.shape), 0, 255))
    assert find_copies(wallpaper)[0].evidence > 200
    check = CopiesCheck(CopiesSettings())
    assert check.check(wallpaper, ROW).outcome == "accepted"
    room = texture(12, 512)
    room[:256] = wallpaper[:256]
    assert check.check(room, ROW).outcome == "accepted"


@pytest.mark.parametrize(
    ("prompt", "several"),
    [("a seamless floral pattern", True), ("a crowd at a market", True), ("three mugs", True), ("a red mug", False)],
)
def test_rows_that_want_several_alike_are_known(prompt: str, several: bool) -> None:
    assert several_wanted(PromptRow("r", prompt)) is several


class Boxes(ObjectCounter):
    def __init__(self, counts: dict[str, int]) -> None:
        self.counts = counts

    def prepare(self) -> None:
        pass

    def knows(self, name: str) -> bool:
        return name in self.counts

    def count(self, image: Picture, name: str) -> Counted:
        return Counted(self.counts[name], tuple(Box(k, 0, k + 1, 1) for k in range(self.counts[name])))


@pytest.mark.parametrize(
    ("objects", "outcome", "reason"),
    [
        ((), "not_run", "the row asks for no objects"),
        ((ObjectCount("mug", 2),), "accepted", "shows 2 mug"),
        ((ObjectCount("mug", 3), ObjectCount("cat", 1)), "rejected", "2 instead of 3 mug"),
        ((ObjectCount("mug", 2), ObjectCount("cat", 1)), "not_run", "no detector that knows cat is installed"),
    ],
)
def test_counts_compare_what_is_known_and_say_what_is_not(objects: tuple[ObjectCount, ...], outcome: str, reason: str) -> None:
    verdict = CountsCheck(CountsSettings(), [Boxes({"mug": 2})]).check(mug(0), PromptRow("r", "mugs", objects=objects))
    assert (verdict.outcome, verdict.reason) == (outcome, reason)
