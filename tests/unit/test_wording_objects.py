"""Things and how many: as people write them in a cell, in JSON and in GenEval's columns; what a prompt says otherwise; what is warned."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from renderfarm.brief import warners
from renderfarm.checks.base import Image
from renderfarm.checks.counts import Counted, CountsCheck
from renderfarm.job.checks import CountsSettings
from renderfarm.manifest import Rules, row_digest, wanted_objects
from renderfarm.manifest.cells import convert
from renderfarm.manifest.rows import examine, raw_digest
from renderfarm.schema import ObjectCount, PromptRow
from renderfarm.wording.objects import contradicted


@pytest.mark.parametrize(
    ("cell", "asked"),
    [
        ("three cats", "3 cats"),
        ("a pair of boots", "2 boots"),
        ("a pair of glasses", "1 glasses"),
        ("two pairs of shoes", "4 shoes"),
        ("half a dozen rolls; two dozen roses", "6 rolls, 24 roses"),
        ("a couple of mugs", "2 mugs"),
        ("mug x3, box × 2, jar (4), tin=5", "3 mug, 2 box, 4 jar, 5 tin"),
        ("cup [2]; cup lid x 2", "2 cup, 2 cup lid"),
        ("Mug:2", "2 Mug"),
        ("3.0 mug; lamp:2.0", "3 mug, 2 lamp"),
        ("1-3 mugs", "at least 1 mugs, at most 3 mugs"),
        ("one or two cats", "at least 1 cats, at most 2 cats"),
        ("at least 2 cats, up to 3 dogs", "at least 2 cats, at most 3 dogs"),
        ("more than 2 cats; fewer than 3 dogs", "at least 3 cats, at most 2 dogs"),
        ("2+ cats, dog:>=2, cow <= 4", "at least 2 cats, at least 2 dog, at most 4 cow"),
        ("exactly two cats", "2 cats"),
        ("no people, without cars", "no people, no cars"),
        ("0 mugs; lamp:0", "no mugs, no lamp"),
        ("keine Menschen; zwei Hunde", "no Menschen, 2 Hunde"),
        ("deux chiens, sans voiture", "2 chiens, no voiture"),
        ("dos perros\nuna taza", "2 perros, 1 taza"),
        ("три собаки", "3 собаки"),
        ("two dogs and a cat", "2 dogs, 1 cat"),
        ("salt and pepper shaker:1; dog + cat", "1 salt and pepper shaker, 1 dog, 1 cat"),
        ("x2 mug, (3) box, 2 * jar", "2 mug, 3 box, 2 jar"),
        ("over ear headphones", "1 over ear headphones"),
        ([{"class": "mug", "count": 2.0}], "2 mug"),
        ("两只狗; 三个杯子, 一双鞋", "2 狗, 3 杯子, 2 鞋"),
        ("犬2匹; 二匹の猫; カップ三つ", "2 犬, 2 猫, 3 カップ"),
        ("고양이 두 마리; 컵 2개", "2 고양이, 2 컵"),
        ("没有人；猫なし、사람 없음", "no 人, no 猫, no 사람"),
        ("三明治, 1-2个杯子", "1 三明治, at least 1 杯子, at most 2 杯子"),
        ("a mug, lens, sunglasses", "1 mug, 1 lens, 1 sunglasses"),
        ("mugs", "at least 2 mugs"),
        ("2 or more mugs; three cups or fewer", "at least 2 mugs, at most 3 cups"),
        ("no more than three mugs, not less than two cups", "at most 3 mugs, at least 2 cups"),
        ("mugs (at least 2); 2 cups exactly; mind. 2 Tassen", "at least 2 mugs, 2 cups, at least 2 Tassen"),
        ("mug -> 2, cup → 3, jar {2}, box - 2", "2 mug, 3 cup, 2 jar, 2 box"),
        ("no people or animals", "no people, no animals"),
        ("keine Menschen und keine Tiere", "no Menschen, no Tiere"),
        ("ein Dutzend Eier; ein halbes Dutzend Brötchen", "12 Eier, 6 Brötchen"),
        ("une douzaine d'œufs; pas de gens; pas d'animaux", "12 œufs, no gens, no animaux"),
        ("杯子x2; 盒子：3; 一打鸡蛋; 犬が二匹; ２ mugs", "2 杯子, 3 盒子, 12 鸡蛋, 2 犬, 2 mugs"),
        ("• 2 mugs; - 3 cups; * jar; 2 boxes.", "2 mugs, 3 cups, 1 jar, 2 boxes"),
        ('"2 mugs"; “3 cups”', "2 mugs, 3 cups"),
        ("2 pcs mug, 3 Stück Tassen, qty 2 jar; number of boxes: 4", "2 mug, 3 Tassen, 2 jar, 4 boxes"),
        ("two (2) mugs; 3 (three) cups", "2 mugs, 3 cups"),
        ("twenty-one mugs; thirty two cups; a hundred ants; einundzwanzig Tassen", "21 mugs, 32 cups, 100 ants, 21 Tassen"),
        ("none", ""),
        ("n/a", ""),
        ({"mug": 2, "people": 0, "cat": {"min": 1, "max": 2}}, "2 mug, no people, at least 1 cat, at most 2 cat"),
        ([{"class": "mug", "min": 2}], "at least 2 mug"),
        (["two mugs", "box"], "2 mugs, 1 box"),
        ("[{'class': 'bench', 'count': 2}]", "2 bench"),
    ],
)
def test_counts_are_read_as_a_person_reads_them(cell: Any, asked: str) -> None:
    assert ", ".join(map(str, wanted_objects(cell))) == asked


@pytest.mark.parametrize(
    "cell",
    [
        *("mug x2 box x1", "mug (2) box (1)", "2x mug 1x box", "two dogs three cats", "dog and cat", "mug & box", "mug/2", "mug #2"),
        *("cat|cow", "cat/dog", "about five mugs", "some mugs", "several cats", "2.5 mugs", "1,5 mugs", "two", "eggs dozen", "mug (2 red)"),
        *(
            "dog or cat",
            "mug or cup:2",
            "2026-02-01",
            "01.02.2026",
            "1-Feb",
            "1. Feb",
            "Feb-01",
            "02/01",
            "2月1日",
            "07. Mai",
            "2",
            "1/2 pizza",
        ),
        *("½ pizza", "two thirds pizza", "-1 mugs", "1) mug 2) cup", "two mugs, one with a lid", "a thousand mugs", "dozens of mugs"),
        *("2 mugs and", "mug:2:3", "two (3) mugs", "mug::2"),
        *("mug:3; mug:min 2", "mug:2, at least 3 mug", {"cat": {"min": 3, "max": 2}}, {"cat": {"around": 2}}, "mug:-1", "m" * 300),
    ],
)
def test_what_may_mean_two_things_is_refused(cell: Any) -> None:
    with pytest.raises(ValueError, match="; "):
        wanted_objects(cell)


def test_bounds_have_a_place_in_the_manifest_and_its_digests() -> None:
    values, reasons = convert({"id": "a", "prompt": "p", "objects": "1-2 mugs, no people"})
    row, more = examine(values, Rules())
    assert reasons == more == [] and row is not None
    assert values["objects"] == [{"class": "mugs:min", "count": 1}, {"class": "mugs:max", "count": 2}, {"class": "people:max", "count": 0}]
    assert [(one.thing, one.low, one.high) for one in row.objects] == [("mugs", 1, None), ("mugs", 0, 2), ("people", 0, 0)]
    assert row_digest(row) == raw_digest(values)


GENEVAL = [
    ({"include": [{"class": "bench", "count": 1}]}, "at least 1 bench"),
    ({"include": [{"class": "clock", "count": 2}], "exclude": [{"class": "clock", "count": 3}]}, "2 clock"),
    ({"include": [{"class": "clock", "count": 2}], "exclude": [{"class": "clock", "count": 5}]}, "at least 2 clock, at most 4 clock"),
    ({"include": [{"class": "cow", "count": 1}], "exclude": [{"class": "dog", "count": 1}]}, "at least 1 cow, no dog"),
    ({"include": [{"class": "dog", "count": 1, "color": "red"}]}, "at least 1 dog"),
    (
        {"include": [{"class": "kite", "count": 1}, {"class": "cup", "count": 1, "position": ["above", 0]}]},
        "at least 1 kite, at least 1 cup",
    ),
]


@pytest.mark.parametrize(("cells", "asked"), GENEVAL)
def test_genevals_include_is_at_least_and_exclude_at_most(cells: dict[str, Any], asked: str) -> None:
    values, reasons = convert({"id": "a", "prompt": "p", **cells})
    row, more = examine(values, Rules())
    assert reasons == more == [] and row is not None
    assert ", ".join(map(str, row.objects)) == asked
    assert bool(row.tags) == any(len(entry) > 2 for entry in cells["include"])  # colours and places are kept


class Found:
    """A detector that finds so many of everything."""

    def __init__(self, count: int) -> None:
        self.number, self.asked = count, 0

    def knows(self, name: str) -> bool:
        return ":" not in name

    def prepare(self) -> None:
        """Nothing to load."""

    def count(self, image: Image, name: str) -> Counted:
        self.asked += 1
        return Counted(self.number)


@pytest.mark.parametrize(
    ("cell", "found", "outcome", "reason"),
    [
        ("at least 2 mug", 3, "accepted", "shows 3 mug"),
        ("at least 2 mug", 1, "rejected", "1 instead of at least 2 mug"),
        ("at most 2 mug", 3, "rejected", "3 instead of at most 2 mug"),
        ("at most 2 mug", 0, "accepted", "shows 0 mug"),
        ("1-2 mug", 2, "accepted", "shows 2 mug"),
        ("1-2 mug", 3, "rejected", "3 instead of at most 2 mug"),
        ("no people", 0, "accepted", "shows 0 people"),
        ("no people", 1, "rejected", "1 people, and none is wanted"),
        ("2 mug", 3, "rejected", "3 instead of 2 mug"),
    ],
)
def test_the_verdict_tells_exact_counts_minima_and_maxima_apart(cell: str, found: int, outcome: str, reason: str) -> None:
    detector = Found(found)
    row = PromptRow("r", "p", objects=wanted_objects(cell))
    verdict = CountsCheck(CountsSettings(), [detector]).check(np.zeros((8, 8, 3), np.uint8), row)
    assert (verdict.outcome, verdict.reason, detector.asked) == (outcome, reason, 1)


@pytest.mark.parametrize(
    ("prompt", "wanted", "said"),
    [
        ("two mugs on a table", ("mug", 3, 3), 2),
        ("two red mugs and a blue mug", ("mug", 3, 3), None),
        ("5 ceramic mugs", ("mugs", 4, 4), 5),
        ("three people in a park", ("person", 2, 2), 3),
        ("zwei rote Tassen", ("Tasse", 3, 3), 2),
        ("two tote bags", ("tote bag", 3, None), 2),
        ("a mug", ("mug", 2, 2), None),
        ("two mugs", ("mug", 1, 2), None),
        ("a 2.5 mug deep tray", ("mug", 3, 3), None),
        ("no number here", ("mug", 3, 3), None),
    ],
)
def test_a_prompt_that_counts_otherwise(prompt: str, wanted: tuple[str, int, int | None], said: int | None) -> None:
    assert contradicted(prompt, *wanted) == said


def _warnings(row: PromptRow) -> list[tuple[str, str, str]]:
    return [reason for warner in warners() for reason in warner(row)]


def test_what_is_warned_of_what_a_row_asks() -> None:
    assert _warnings(PromptRow("r", "two mugs and a sign that says 'OPEN'", objects=(ObjectCount("mug", 2),))) == []
    ((column, what, remedy),) = _warnings(PromptRow("r", "two mugs", objects=(ObjectCount("mug", 3),)))
    assert (column, what) == ("objects", "3 mug wanted, and the prompt speaks of 2") and remedy
    ((column, what, remedy),) = _warnings(PromptRow("r", 'a poster for the film "Jaws"'))
    assert column == "prompt" and "'Jaws'" in what and " may mean: " in what and "no lettering is asked for" in remedy
    ((column, what, remedy),) = _warnings(PromptRow("r", "a door", text="Открыто"))
    assert (column, what) == ("text", "'Открыто' is wanted, and no text reader on this machine reads Cyrillic") and "flagged" in remedy
    assert _warnings(PromptRow("r", "a mug, no text", text="none")) == []
