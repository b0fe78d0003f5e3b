"""Malformed hands, where people may be in the picture: how many fingers the outline shows, and whether the networks agree with themselves.

Every picture gets one look for people (`people`) and one run of the palm detector; each wrist that is seen gets a look of its own
(`handsearch`). Each hand is then read three times, from slightly moved crops, and its outline is counted (`silhouette`). What the
landmark network does not take for a hand is none: faces and bellies were, and were called malformed. A palm that an arm promises and that
the network cannot read is flagged for a person. What is too small or too dark is not judged. One finger too many is certain; everything
else may be a pose, and is a doubt that rejects no picture. Without the networks for people the row's words say how closely is looked.

What it can't do: say which hand is malformed. On unseen pictures no evidence here does so better than chance (`scripts/bench/RESULTS.md`).

What was measured (`scripts/bench/checks.py`; drawn: 4, 6, 7 and fused against 5 fingers; melted: 24 real hands against 72 strongly warped
copies of them; 6 weakly malformed pictures): mean presence .95 / .92 / .48, disagreement between crops .85 / .97 / .74, outline .97 on
drawn hands. Not kept: bone ratios (.85 / .57 / .45), skin that the joints do not explain (.74 / .81 / .40), joints on bare ground
(.83 / .65 / .30), doubt about left or right (.65 / .85 / .58): each adds less than it disturbs on real photographs.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from renderfarm.checks.base import Bars, Image, box_around, judge, not_run
from renderfarm.errors import WeightsError
from renderfarm.job.checks import HandsSettings
from renderfarm.people import weights
from renderfarm.people.bodies import People, PeopleReader
from renderfarm.people.handsearch import PRESENCE_LOW, SIDE_MIN, find
from renderfarm.people.litert import Floats
from renderfarm.people.palms import HandReader, Square
from renderfarm.people.silhouette import Silhouette, palm_length, silhouette
from renderfarm.schema import Box, PromptRow, Verdict

TILES = (2, 3)
NEAR_TILES = (2,)
"""Where the networks for people are, tiles are looked through only where the row suggests people and none are seen: hands close up."""
LOOKS = ((0.06, 0, 1.1, 0.15), (-0.06, 0.03, 0.95, -0.15))
"""Each crop after the first: right and down in shares of the square, zoom, turn in radians."""
PRESENCE_NONE, CALM, RESTLESS = 0.2, 0.015, 0.2
"""Under the first at the first look there is no hand. Joints of 99 good hands move up to .2 palms between crops in 96 (.14: in 92)."""
LIGHT_MIN, CONTRAST_MIN = 24.0, 6.0
"""A hand's square that is darker or flatter (grey levels: median; 10th to 90th percentile) is not judged, nor one under SIDE_MIN."""
CERTAIN, EXTRA, MISSING, JOINED = 0.3, 0.1, 0.4, 0.42
"""Scores: six fingers in an outline are six; a missing or joined finger may be a pose at a slant. Under CERTAIN a hand may be rejected."""
WEB_MIN, THICK, THIN = 0.42, 1.4, 1.5
"""Joined: skin across more than .42 palms between two straight fingers (closed real fingers: up to .37), or one finger 1.4 times as thick
as the median where four or five are seen (real and drawn five: up to 1.2). Missing: four seen, five straight, none 1.5 times as thick."""
DOUBTFUL = 0.9
"""Factor for what may be a pose: four fingers seen of four, or at least two straight ones that the outline does not show apart."""
_SPOKEN = {4: "four", 6: "six", 7: "seven", 8: "eight", 9: "nine"}
_HANDS = r"hands?|fingers?|fists?|palms?|thumbs?|holding|holds?|gripping|waving|pointing|gestur(?:e|es|ing)|hand|hände|finger|main|mano"
_PEOPLE = re.compile(
    rf"\b(?:{_HANDS}|man|men|woman|women|persons?|people|boys?|girls?|child(?:ren)?|kids?|bab(?:y|ies)|toddlers?|infants?|teenagers?|guys?"
    r"|lad(?:y|ies)|gentlem[ae]n|models?|workers?|chefs?|doctors?|physicians?|surgeons?|dentists?|nurses?|patients?|bakers?|baristas?|waiters?"
    r"|waitress(?:es)?|athletes?|wrestlers?|boxers?|players?|runners?|swimmers?|cyclists?|surfers?|climbers?|hikers?|dancers?|ballerinas?|singers?"
    r"|musicians?|guitarists?|pianists?|drummers?|actors?|actress(?:es)?|artists?|customers?|farmers?|teachers?|students?|scientists?|pilots?"
    r"|astronauts?|soldiers?|warriors?|knights?|wizards?|witch(?:es)?|monks?|princess(?:es)?|brides?|grooms?|police(?:man|woman)|firefighters?"
    r"|tourists?|mothers?|fathers?|mom|dad|grand(?:mother|father|ma|pa)s?|sisters?|brothers?|daughters?|husbands?|wife|wives|audience"
    r"|famil(?:y|ies)|couples?|crowds?|portraits?|selfies?|humans?|mensch(?:en)?|frau(?:en)?|mann|männer|kind(?:er)?|homme|femme|enfants?"
    r"|personas?|mujer|hombre)\b",
    re.IGNORECASE,
)
_NAMED = re.compile(rf"\b(?:{_HANDS})\b", re.IGNORECASE)
UNSEEN_NAMED, UNSEEN = 0.7, 0.9
"""Scores where no hand can be made out though the prompt names one, or people: accepted, but behind every well-formed hand."""


def people_likely(row: PromptRow) -> bool:
    """Whether the row suggests that a hand may be seen. `handle`, `handmade` and the like do not."""
    return bool(_PEOPLE.search(row.prompt)) or any(_PEOPLE.fullmatch(wanted.thing) for wanted in row.objects if wanted.high != 0)


@dataclass(frozen=True, slots=True)
class Hand:
    """One hand as it was read: mean presence 0..1, how far its joints move between crops in palms, its outline, where it is, and whether
    there are pixels and light enough to judge it; `unread`: how surely an arm ends here in a hand that no network can read, else 0."""

    presence: float
    restless: float
    outline: Silhouette | None
    box: Box
    judged: bool = True
    unread: float = 0.0


class HandsCheck:
    """About 45 CPU ms for a picture without people; 30 more for each body, 15 for a wrist, 90 for a hand."""

    name = "hands"
    cost = 400

    def __init__(self, settings: HandsSettings, reader: HandReader | None = None, people: PeopleReader | None = None) -> None:
        self.settings = settings
        self._reader = reader
        self._people = people
        self._away = ""

    def prepare(self) -> None:
        """Loads the networks. Without those for hands, rows that suggest people get `not_run` and what to do; without those for people (an
        older folder, a task bundle) words decide.
        """
        import cv2

        cv2.setNumThreads(1)
        if self._reader is not None:
            return
        try:
            self._reader = HandReader(weights.load(self.settings.models))
        except WeightsError as error:
            self._away = f"{error.what}: {error.remedy}"
            return
        if self._people is None:
            with contextlib.suppress(WeightsError):
                self._people = PeopleReader(weights.load_people(self.settings.models))

    def bars(self, row: PromptRow) -> Bars:
        """The same for every row. A doubt is flagged even where faults reject: one doubtful hand of several costs no picture."""
        least = self.settings.min_score
        return Bars(min(CERTAIN, least), least) if self.settings.on_fail == "reject" else Bars(flag=least)

    def check(self, image: Image, row: PromptRow) -> Verdict:
        """Judges uint8 (H, W, 3) by its worst hand. `not_run` where no people are suggested and no hand is seen, or none can be judged."""
        asked = people_likely(row)
        if self._reader is None and not self._away:
            self.prepare()
        if self._reader is None:
            return not_run(self.name, f"people may be in the picture; {self._away}" if asked else "the row suggests no people")
        people = self._people.people(image) if self._people is not None else People()
        tiles = () if not asked and row.prompt else TILES if self._people is None else NEAR_TILES if asked else ()
        hands = _hands(self._reader, people, image, tiles)
        if not hands:
            return self._unseen(row, asked, people)
        seen, hands = len(hands), [hand for hand in hands if hand.judged]
        if not hands:
            return not_run(self.name, f"{_counted(seen)}, too small or too dark to judge")
        judged = [assess(hand) for hand in hands]
        worst = min(score for score, _ in judged)
        failed = [
            (hand, fault) for hand, (score, fault) in zip(hands, judged, strict=True) if self.bars(row).outcome(score)[0] != "accepted"
        ]
        names = _names([hand.box for hand in hands])
        reason = "; ".join(
            f"{name} {fault}" for name, hand, (_, fault) in zip(names, hands, judged, strict=True) if (hand, fault) in failed
        )
        unjudged = f"; {seen - len(hands)} too small or too dark to judge" if seen > len(hands) else ""
        passed = f"{_counted(len(hands))}, nothing wrong seen{unjudged}"
        return judge(self.name, worst, self.bars(row), reason, tuple(hand.box for hand, _ in failed), passed)

    def _unseen(self, row: PromptRow, asked: bool, people: People) -> Verdict:
        if not asked:
            if people:
                return not_run(self.name, "people are in the picture, and no hand is seen")
            return not_run(self.name, "the row suggests no people, and no hand is seen" if row.prompt else "no hand is seen")
        score = UNSEEN_NAMED if _NAMED.search(row.prompt) else UNSEEN
        return judge(self.name, score, self.bars(row), "no hand can be made out", passed="no hand can be made out")


def _hands(reader: HandReader, people: People, image: Image, tiles: Sequence[int]) -> list[Hand]:
    """The hands, surest first, then those that a wrist promises. What the landmark network takes for no hand is none: a face, a belly."""
    hands = []
    for place in find(reader, people, image, tiles):
        hand = _read(reader, image, place.square)
        if hand.presence >= place.needed:
            hands.append(hand)
        elif place.promised and _clear(image, place.square):
            hands.append(Hand(hand.presence, 0.0, None, _square_box(image, place.square), unread=place.promised))
    return hands


def _read(reader: HandReader, image: Image, square: Square) -> Hand:
    if not _clear(image, square):  # one look is enough to say that it is there
        first = reader.joints(image, square)
        return Hand(first.presence, 0.0, None, _box(image, first.points), judged=False)
    first = reader.joints(image, square)
    if first.presence < PRESENCE_NONE:  # no hand, and no further look
        return Hand(first.presence, 0.0, None, _box(image, first.points))
    looks = [first, *(reader.joints(image, square.moved(*look)) for look in LOOKS)]
    flat = np.stack([look.points[:, :2] for look in looks])
    moved = np.linalg.norm(flat - np.median(flat, axis=0), axis=2)
    points: Floats = looks[0].points
    presence = float(np.mean([look.presence for look in looks]))
    outline = silhouette(image, points) if presence >= PRESENCE_LOW else None
    return Hand(presence, float(moved.mean()) / palm_length(points), outline, _box(image, points))


def _clear(image: Image, square: Square) -> bool:
    """Whether the square has pixels, light and contrast enough for its fingers to be told apart."""
    half = square.side / 2
    rows, columns = (slice(max(0, round(middle - half)), max(1, round(middle + half))) for middle in (square.y, square.x))
    part = image[rows, columns, 1]
    if square.side < SIDE_MIN or part.size == 0:
        return False
    low, median, high = np.percentile(part, (10, 50, 90))
    return bool(median >= LIGHT_MIN or high >= 2 * LIGHT_MIN) and bool(high - low >= CONTRAST_MIN)


def _square_box(image: Image, square: Square) -> Box:
    reach = 0.4 * square.side
    corners = np.array([[square.x - reach, square.y - reach], [square.x + reach, square.y + reach]])
    return box_around(corners, image.shape[1], image.shape[0])


def _box(image: Image, points: Floats) -> Box:
    margin = 0.15 * palm_length(points) * np.array([[-1, -1], [1, 1]], np.float32)
    corners = np.concatenate([points[:, :2].min(axis=0) + margin[:1], points[:, :2].max(axis=0) + margin[1:]])
    return box_around(corners, image.shape[1], image.shape[0])


def assess(hand: Hand) -> tuple[float, str]:
    """Score 0..1 and what is wrong, as the end of a sentence that begins with the hand. Under .5 something is."""
    if hand.unread:
        return 0.49 - (0.49 - CERTAIN) * hand.unread, "is expected and cannot be made out"
    if hand.restless > RESTLESS:
        return max(CERTAIN, 0.49 * RESTLESS / hand.restless), "is read otherwise at each look"
    sure = (hand.presence - PRESENCE_LOW) / (1 - PRESENCE_LOW)
    calm = min(1.0, (RESTLESS - hand.restless) / (RESTLESS - CALM))
    score = 0.5 + 0.5 * min(sure, calm)
    outline = hand.outline
    if outline is None or not outline.fingers:
        return score, "is hard to make out"
    median, thickest = float(np.median(outline.thickness)), outline.thickness[-1]
    if outline.fingers >= 6:
        return EXTRA, f"shows {_SPOKEN.get(outline.fingers, 'more than nine')} fingers"
    if outline.fingers == 4 and outline.stretched == 5 and thickest < THIN * median:
        return MISSING, "shows four fingers"
    if (outline.fingers >= 3 and outline.web >= WEB_MIN) or (outline.fingers >= 4 and outline.stretched == 5 and thickest > THICK * median):
        return JOINED, "has fingers that run into each other"
    if outline.fingers == outline.stretched == 4 or outline.stretched - outline.fingers >= 2:
        return score * DOUBTFUL, "may lack a finger"
    return score, "is hard to make out"


def _counted(hands: int) -> str:
    return "one hand" if hands == 1 else f"{hands} hands"


def _names(boxes: Sequence[Box]) -> list[str]:
    """What to call each hand in a sentence: by its place in the picture where there are several."""
    if len(boxes) == 1:
        return ["the hand"]
    order = sorted(range(len(boxes)), key=lambda k: boxes[k].x0 + boxes[k].x1)
    places = {order[0]: "the hand on the left", order[-1]: "the hand on the right"}
    return [places.get(k, "a hand in the middle") for k in range(len(boxes))]
