"""Hands: outlines of drawn hands are counted, verdicts name what is wrong, and without the networks the check says so.

What needs the networks themselves is skipped, with the reason, where `scripts/setup` could not download them.
"""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from renderfarm.checks.base import Image
from renderfarm.checks.hands import Hand, HandsCheck, assess, people_likely
from renderfarm.errors import WeightsError
from renderfarm.job.checks import HandsSettings
from renderfarm.people import weights
from renderfarm.people.palms import HandReader, Joints, Palm, Square
from renderfarm.people.silhouette import Silhouette, palm_length, silhouette, stretched
from renderfarm.schema import Box, ObjectCount, PromptRow
from scripts.bench import drawn, drawn_hands

WAVING = PromptRow("r", "a woman waving a hand")
PLAIN = PromptRow("r", "a mug with a handle")
BOX = Box(0, 0, 10, 10)


@pytest.mark.parametrize(("kind", "fingers"), [("five", 5), ("four", 4), ("six", 6)])
def test_the_outline_of_a_drawn_hand_shows_its_fingers(kind: drawn_hands.Kind, fingers: int) -> None:
    seen = []
    for seed in range(4):
        picture, joints = drawn_hands.hand_and_joints(np.random.default_rng([1, seed]), kind, 384)
        found = silhouette(picture, joints)
        assert found is not None
        seen.append(found.fingers)
    assert Counter(seen)[fingers] >= 3, seen


def test_a_filled_gap_between_straight_fingers_is_seen() -> None:
    webs = {
        kind: [silhouette(*drawn_hands.hand_and_joints(np.random.default_rng([2, s]), kind, 384)).web for s in range(4)]  # type: ignore[union-attr]
        for kind in ("five", "fused")
    }
    assert max(webs["five"]) == 0 and sum(web > 0.2 for web in webs["fused"]) >= 3, webs


def test_straight_fingers_are_told_from_bent_ones_by_the_joints() -> None:
    _, joints = drawn_hands.hand_and_joints(np.random.default_rng(3), "five", 384)
    assert stretched(joints) == [True] * 5
    bent = joints.copy()
    bent[7:9] = joints[5] + 0.2 * (joints[0] - joints[5])
    assert stretched(bent) == [True, False, True, True, True]
    assert palm_length(joints) > 40


@pytest.mark.parametrize(
    ("hand", "low", "high", "says"),
    [
        (Hand(0.99, 0.02, Silhouette(5, (0.2,) * 5, 5, 0), BOX), 0.9, 1, ""),
        (Hand(0.99, 0.02, Silhouette(6, (0.2,) * 6, 5, 0), BOX), 0, 0.2, "shows six fingers"),
        (Hand(0.99, 0.02, Silhouette(12, (0.2,) * 12, 5, 0), BOX), 0, 0.2, "shows more than nine fingers"),
        (Hand(0.99, 0.02, Silhouette(4, (0.2,) * 4, 5, 0), BOX), 0.3, 0.5, "shows four fingers"),
        (Hand(0.99, 0.02, Silhouette(4, (0.2, 0.2, 0.2, 0.4), 5, 0), BOX), 0.3, 0.5, "has fingers that run into each other"),
        (Hand(0.99, 0.02, Silhouette(4, (0.2,) * 4, 4, 0), BOX), 0.8, 0.9, ""),
        (Hand(0.99, 0.02, None, BOX), 0.9, 1, ""),
        (Hand(0.99, 0.21, None, BOX), 0.4, 0.5, "is read otherwise at each look"),
        (Hand(0.99, 0.90, None, BOX), 0.3, 0.3, "is read otherwise at each look"),
    ],
)
def test_evidence_becomes_a_score_and_a_sentence(hand: Hand, low: float, high: float, says: str) -> None:
    score, said = assess(hand)
    assert low <= score <= high
    assert said == says or not says


class Drawn(HandReader):
    """Stands in for the networks: knows where the drawn hands are."""

    def __init__(self, hands: list[np.ndarray], palm: float = 0.95, presence: float = 0.99) -> None:
        self.hands, self.palm, self.presence = hands, palm, presence

    def palms(self, image: Image, least: float, tiles: object = ()) -> list[Palm]:
        return [Palm(self.palm, float(points[9, 0]), float(points[9, 1]), palm_length(points), 0.0) for points in self.hands]

    def joints(self, image: Image, square: Square) -> Joints:
        points = min(self.hands, key=lambda points: abs(float(points[9, 0]) - square.x))
        return Joints(np.concatenate([points, np.zeros((21, 1), np.float32)], axis=1), self.presence, 0.9)


def test_the_wrong_hand_of_two_is_named_by_its_place_and_boxed() -> None:
    right, wrong = (drawn_hands.hand_and_joints(np.random.default_rng([1, 1]), kind, 384) for kind in ("five", "six"))
    picture = np.concatenate([right[0], wrong[0]], axis=1)
    check = HandsCheck(HandsSettings(on_fail="reject"), Drawn([right[1], wrong[1] + np.array([384, 0], np.float32)]))
    verdict = check.check(picture, WAVING)
    assert (verdict.outcome, verdict.reason) == ("rejected", "the hand on the right shows six fingers")
    assert len(verdict.boxes) == 1 and verdict.boxes[0].x0 >= 384 and verdict.threshold == 0.3
    assert HandsCheck(HandsSettings(), check._reader).check(picture, PLAIN).outcome == "flagged"
    fine = HandsCheck(HandsSettings(), Drawn([right[1]])).check(right[0], WAVING)
    assert (fine.outcome, fine.reason) == ("accepted", "one hand, nothing wrong seen")


def test_where_no_hand_is_seen_the_row_decides_what_that_means() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    check = HandsCheck(HandsSettings(), Drawn([]))
    assert check.check(image, PLAIN).reason == "the row suggests no people, and no hand is seen"
    assert check.check(image, PromptRow("r", "")).reason == "no hand is seen"
    scores = [check.check(image, PromptRow("r", prompt)).score for prompt in ("two people", "a hand")]
    assert scores == [0.9, 0.7]


def test_what_hardly_looks_like_a_hand_is_none_and_no_malformed_one() -> None:
    image, joints = drawn_hands.hand_and_joints(np.random.default_rng([1, 1]), "five", 384)
    check = HandsCheck(HandsSettings(on_fail="reject"), Drawn([joints], presence=0.3))
    assert check.check(image, PLAIN).reason == "the row suggests no people, and no hand is seen"
    assert check.check(image, PromptRow("r", "")).reason == "no hand is seen"
    verdict = check.check(image, WAVING)
    assert (verdict.outcome, verdict.reason, verdict.boxes) == ("accepted", "no hand can be made out", ())


def test_a_doubt_is_flagged_even_where_faults_reject() -> None:
    reject, flag = HandsCheck(HandsSettings(on_fail="reject")).bars(WAVING), HandsCheck(HandsSettings()).bars(WAVING)
    assert [reject.outcome(score) for score in (0.1, 0.42, 0.5)] == [("rejected", 0.3), ("flagged", 0.5), ("accepted", 0.5)]
    assert [flag.outcome(score) for score in (0.1, 0.42, 0.5)] == [("flagged", 0.5), ("flagged", 0.5), ("accepted", 0.5)]


@pytest.mark.parametrize("poor", [lambda image: image[::12, ::12], lambda image: image // 16, lambda image: image // 64 + 120])
def test_hands_too_small_or_dark_or_flat_are_not_judged(poor: Callable[[Image], Image]) -> None:
    image, joints = drawn_hands.hand_and_joints(np.random.default_rng([1, 1]), "six", 384)
    worse = np.ascontiguousarray(poor(image)).astype(np.uint8)
    reader = Drawn([joints * (worse.shape[0] / 384)])
    verdict = HandsCheck(HandsSettings(), reader).check(worse, WAVING)
    assert (verdict.outcome, verdict.reason) == ("not_run", "one hand, too small or too dark to judge")


def test_rows_that_suggest_people_are_known() -> None:
    prompts = ("eine Frau im Park", "a physician at work", "two wrestlers", "an athlete", "babies")
    assert all(people_likely(PromptRow("r", prompt)) for prompt in prompts) and not people_likely(PLAIN)
    assert people_likely(PromptRow("r", "a scene", objects=(ObjectCount("person", 1),)))


def test_without_the_networks_the_check_says_so_and_what_to_do(tmp_path: Path) -> None:
    check = HandsCheck(HandsSettings(models=str(tmp_path)))
    check.prepare()
    image = np.zeros((64, 64, 3), np.uint8)
    assert check.check(image, PLAIN).reason == "the row suggests no people"
    verdict = check.check(image, WAVING)
    assert verdict.outcome == "not_run"
    assert verdict.reason.startswith("people may be in the picture; the networks for hands are not there")
    assert "python -m renderfarm.people.weights" in verdict.reason


def test_files_from_elsewhere_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    wheel = tmp_path / "mediapipe-0.10.21.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("mediapipe/modules/palm_detection/palm_detection_full.tflite", b"other")
    with pytest.raises(WeightsError, match="expected 05dc4a9e"):
        weights.unpack(wheel, tmp_path)
    folder = weights.models_folder()
    folder.mkdir(parents=True)
    for name in (weights.PALM, weights.HAND):
        (folder / name).write_bytes(b"other")
    with pytest.raises(WeightsError, match="damaged"):
        weights.load()
    (tmp_path / "x.task").write_bytes(b"no zip")
    with pytest.raises(WeightsError, match="no hand landmarker bundle"):
        weights.load(str(tmp_path / "x.task"))


@pytest.fixture(scope="module")
def models() -> weights.HandModels:
    try:
        return weights.load()
    except WeightsError as error:
        pytest.skip(f"the networks for hands are not installed: {error.what}")


def test_the_networks_find_drawn_hands_and_none_in_mockups(models: weights.HandModels, capfd: pytest.CaptureFixture[str]) -> None:
    reader = HandReader(models)
    assert capfd.readouterr().err == ""
    check = HandsCheck(HandsSettings(on_fail="reject"), reader)
    said = {}
    for kind in drawn_hands.KINDS:
        verdicts = [check.check(drawn_hands.hand(np.random.default_rng([4, s]), kind), WAVING) for s in range(3)]
        said[kind] = sum(v.outcome == "rejected" for v in verdicts)
        assert all(v.boxes and "finger" in v.reason for v in verdicts if v.outcome == "rejected"), verdicts
    assert said["five"] == 0 and said["six"] >= 2 and said["seven"] >= 2, said
    for seed in range(4):
        mockup = drawn.mockup(np.random.default_rng(seed), drawn.SHAPES[seed], seed, 7 - seed)
        assert check.check(mockup, PLAIN).outcome == "not_run"


def test_a_task_bundle_holds_the_same_networks(models: weights.HandModels, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "hand_landmarker.task", "w") as bundle:
        bundle.writestr("hand_detector.tflite", models.palm)
        bundle.writestr("hand_landmarks_detector.tflite", models.hand)
    assert weights.load(str(tmp_path / "hand_landmarker.task")) == models
