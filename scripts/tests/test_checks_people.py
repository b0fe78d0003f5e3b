"""People in the picture: where hands must be, what is no hand, one look a picture; without the networks the words of the row decide."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from renderfarm.checks.base import Image
from renderfarm.checks.hands import HandsCheck
from renderfarm.errors import WeightsError
from renderfarm.job.checks import HandsSettings
from renderfarm.people import weights
from renderfarm.people.bodies import Body, Face, People, PeopleReader, Wrist
from renderfarm.people.handsearch import find
from renderfarm.people.litert import letterbox
from renderfarm.people.palms import HandReader, Joints, Palm, Square
from renderfarm.schema import Box, PromptRow
from scripts.bench import drawn

PICTURE = np.random.default_rng(0).integers(0, 255, (400, 400, 3), dtype=np.uint8)
ROW = PromptRow("r", "a garden")


def body(seen: float = 1.0) -> Body:
    """Upright, both arms down; wrists at (100, 250) and (300, 250), feet at the lower edge."""
    points = np.zeros((33, 4), np.float32)
    points[:, 2:] = 1
    places = {13: (300, 160), 14: (100, 160), 15: (300, 250), 16: (100, 250)}
    places |= {k: (300, 275) for k in (17, 19)} | {k: (100, 275) for k in (18, 20)} | {k: (200, 390) for k in range(27, 33)}
    for k, (x, y) in places.items():
        points[k, :2] = x, y
    points[[15, 16], 2] = seen
    return Body(1.0, points)


class Seen(PeopleReader):
    """Stands in for the networks."""

    def __init__(self, *found: Body | Face) -> None:
        self.looks = 0
        self._last = None
        self.found = found

    def _faces(self, image: Image) -> list[Face]:
        self.looks += 1
        return [face for face in self.found if isinstance(face, Face)]

    def _bodies(self, image: Image) -> list[Body]:
        return [body for body in self.found if isinstance(body, Body)]


class Palms(HandReader):
    """Finds the same palms in the whole picture, none in its parts; every joint of a hand sits on its square."""

    def __init__(self, *palms: Palm, presence: float = 0.0) -> None:
        self.found, self.presence = list(palms), presence

    def palms(self, image: Image, least: float, tiles: object = ()) -> list[Palm]:
        return self.found if image.shape[0] == 400 else []

    def joints(self, image: Image, square: Square) -> Joints:
        rng = np.random.default_rng(1)
        points = rng.uniform(-square.side / 4, square.side / 4, (21, 3)) + np.array([square.x, square.y, 0])
        return Joints(points.astype(np.float32), self.presence, 0.5)


def test_a_wrist_says_where_its_hand_hangs() -> None:
    left, right = body().wrists()
    assert (left.x, right.x, left.seen) == (300, 100, 1)
    assert left.square.turn == pytest.approx(np.pi) and left.square.y > 250 and left.square.side == pytest.approx(81)


def test_a_hand_that_is_expected_and_unreadable_is_flagged_and_boxed_never_rejected() -> None:
    palms = [Palm(0.6, x, 265, 30, np.pi) for x in (100, 300)]
    check = HandsCheck(HandsSettings(on_fail="reject"), Palms(*palms), Seen(body()))
    verdict = check.check(PICTURE, ROW)
    assert verdict.outcome == "flagged" and verdict.score == 0.3 and len(verdict.boxes) == 2
    assert "the hand on the left is expected and cannot be made out" in verdict.reason


@pytest.mark.parametrize("hidden", [body(0.3), replace(body(), score=0.4)])
def test_a_hand_that_may_be_hidden_is_not_expected(hidden: Body) -> None:
    verdict = HandsCheck(HandsSettings(), Palms(Palm(0.6, 100, 265, 30, np.pi)), Seen(hidden)).check(PICTURE, ROW)
    assert (verdict.outcome, verdict.reason) == ("not_run", "people are in the picture, and no hand is seen")


def test_a_wrist_without_anything_like_a_palm_hides_its_hand_and_is_looked_at_all_the_same() -> None:
    assert [place.promised for place in find(Palms(), People((), (body(),)), PICTURE)] == [0, 0]
    assert HandsCheck(HandsSettings(), Palms(), Seen(body())).check(PICTURE, ROW).outcome == "not_run"
    assert HandsCheck(HandsSettings(), Palms(presence=0.99), Seen(body())).check(PICTURE, ROW).outcome != "not_run"


def test_hands_beyond_the_edge_are_not_looked_for() -> None:
    assert not find(Palms(), People((), (body(),)), PICTURE[:260])


@pytest.mark.parametrize(
    ("people", "palm", "kept"),
    [
        (People((Face(0.9, Box(80, 80, 160, 160)),)), Palm(0.95, 120, 120, 40, 0), []),
        (People((Face(0.9, Box(80, 80, 160, 160)),)), Palm(0.95, 320, 320, 40, 0), [0.5]),
        (People((), (body(),)), Palm(0.95, 210, 380, 40, 0), []),
        (People((), (body(),)), Palm(0.6, 100, 270, 30, np.pi), [0.5]),
        (People(), Palm(0.6, 100, 270, 30, np.pi), [0.8]),
        (People(), Palm(0.95, 100, 270, 30, np.pi), [0.5]),
    ],
)
def test_faces_and_feet_are_no_hands_and_a_wrist_vouches_for_a_palm(people: People, palm: Palm, kept: list[float]) -> None:
    assert [place.needed for place in find(Palms(palm), people, PICTURE) if place.square == palm.square] == kept


def test_one_look_serves_all_who_ask_about_a_picture() -> None:
    reader = Seen(body())
    assert reader.people(PICTURE) is reader.people(PICTURE) and reader.looks == 1
    reader.people(PICTURE.copy())
    assert reader.looks == 2


def test_a_letterboxed_point_finds_its_way_back() -> None:
    frame = letterbox(PICTURE[:200], 192)
    assert frame.values.shape == (1, 192, 192, 3) and frame.values[0, :40].max() == 0
    assert frame.back(np.array([[96.0, 96.0]])) == pytest.approx(np.array([[200.0, 100.0]]))


def test_a_folder_without_the_networks_for_people_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"people\.weights"):
        weights.load_people(str(tmp_path))


def test_the_networks_see_nobody_in_mockups() -> None:
    try:
        reader = PeopleReader(weights.load_people())
    except WeightsError as error:
        pytest.skip(f"the networks for people are not installed: {error.what}")
    for seed in range(3):
        assert not reader.people(drawn.mockup(np.random.default_rng(seed), drawn.SHAPES[seed], seed, 7 - seed)), seed


def test_a_wrist_without_a_forearm_has_a_square() -> None:
    assert Wrist(5, 5, 5, 5, 1, 0).square.side == 1
