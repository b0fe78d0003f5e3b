"""GenEval by its own rules, on replayed boxes: each rule by a case of its own, and rows as the brief makes them of its file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from renderfarm.errors import UserError
from renderfarm.evaluate.gather import Sample
from renderfarm.evaluate.geneval import FoundBox, geneval_figures, judge_boxes, judged, read_boxes, relations, task_of
from renderfarm.manifest import Rules
from renderfarm.manifest.cells import convert
from renderfarm.manifest.rows import examine


def sample(name: str, tag: str, **cells: Any) -> Sample:
    """A picture of a row that GenEval's file gives."""
    values, reasons = convert({"id": name, "prompt": "p", "tag.tag": tag, **cells})
    row, more = examine(values, Rules())
    assert reasons == more == [] and row is not None
    return Sample(f"{name}.png", name, 0, "p", row.tags, row.objects)


def boxes(*found: tuple[Any, ...]) -> list[FoundBox]:
    """(class, score, x, y, colour): boxes of 10 by 10."""
    return [FoundBox(thing, score, (x, y, x + 10, y + 10), *more) for thing, score, x, y, *more in found]


def verdict(one: Sample, *found: tuple[Any, ...]) -> tuple[bool | None, str]:
    task = task_of(one)
    assert task is not None
    return judge_boxes(task, boxes(*found))


def test_include_is_at_least_and_exclude_is_so_many_or_more() -> None:
    three = sample("a", "counting", include=[{"class": "fork", "count": 3}], exclude=[{"class": "fork", "count": 4}])
    forks = [("fork", 0.95, 20 * at, 0) for at in range(4)]
    assert verdict(three, *forks[:3]) == (True, "")
    assert verdict(three, *forks[:2]) == (False, "2 fork, at least 3 wanted")
    assert verdict(three, *forks) == (False, "4 fork, at most 3 wanted")
    one = sample("b", "single_object", include=[{"class": "fork", "count": 1}])
    assert verdict(one, *forks) == (True, ""), "more than asked for are no fault"
    none = sample("c", "none", exclude=[{"class": "fork", "count": 1}])
    assert verdict(none)[0] is True and verdict(none, forks[0])[0] is False


def test_a_box_counts_from_a_confidence_on_that_counting_sets_higher() -> None:
    one = sample("a", "single_object", include=[{"class": "fork", "count": 1}])
    assert [verdict(one, ("fork", score, 0, 0))[0] for score in (0.29, 0.3, 0.31)] == [False, False, True]
    counted = sample("b", "counting", include=[{"class": "fork", "count": 1}], exclude=[{"class": "fork", "count": 2}])
    assert verdict(counted, ("fork", 0.95, 0, 0), ("fork", 0.89, 50, 0))[0] is True
    many = sample("c", "counting", include=[{"class": "fork", "count": 2}], exclude=[{"class": "fork", "count": 18}])
    assert verdict(many, *[("fork", 0.95, 20 * at, 0) for at in range(30)])[0] is True, "no more than 16 of a class are seen"


def test_colours_are_those_of_the_surest() -> None:
    red = sample("a", "colors", include=[{"class": "cup", "count": 1, "color": "red"}])
    assert verdict(red, ("cup", 0.9, 0, 0, "red"), ("cup", 0.5, 30, 0, "blue"))[0] is True
    assert verdict(red, ("cup", 0.5, 0, 0, "red"), ("cup", 0.9, 30, 0, "blue")) == (False, "cup is blue, red wanted")
    assert verdict(red, ("cup", 0.9, 0, 0)) == (None, "")


def test_places_are_held_against_what_was_matched() -> None:
    asked = [{"class": "couch", "count": 1}, {"class": "bird", "count": 1, "position": ["left of", 0]}]
    left = sample("a", "position", include=asked)
    assert verdict(left, ("couch", 0.9, 50, 0), ("bird", 0.9, 0, 0)) == (True, "")
    assert verdict(left, ("couch", 0.9, 0, 0), ("bird", 0.9, 50, 0)) == (False, "bird is not left of the couch")
    assert verdict(left, ("bird", 0.9, 0, 0))[1].endswith("nothing for bird to be left of")


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (50, 0, {"right of"}), (-50, 0, {"left of"}), (0, 50, {"below"}), (0, -50, {"above"}), (50, 50, {"right of", "below"}),
        (0, 0, set()), (1.9, 0, set()), (5, 0, {"right of"}), (3, 0, set()), (50, 20, {"right of"}),
    ],
)  # fmt: skip
def test_relations_are_of_middles_less_a_tenth_of_both_sizes(x: float, y: float, expected: set[str]) -> None:
    assert relations((x, y, x + 10, y + 10), (0, 0, 10, 10)) == expected


def test_the_score_is_the_mean_of_the_tasks() -> None:
    single = [sample(f"s{at}", "single_object", include=[{"class": "cup", "count": 1}]) for at in range(30)]
    two = [sample(f"t{at}", "two_object", include=[{"class": "cup", "count": 1}, {"class": "fork", "count": 1}]) for at in range(10)]
    found = {one.place: boxes(("cup", 0.9, 0, 0)) for one in (*single, *two)}
    found["t0", 0] = boxes(("cup", 0.9, 0, 0), ("fork", 0.9, 50, 0))
    del found["s0", 0]
    results = judged([*single, *two, Sample("x", "x")], found)
    assert len(results) == 40 and results[0].right is None and results[0].reason == "no boxes were given"
    figures = {figure.name: figure for figure in geneval_figures(results)}
    assert figures["geneval:single_object"].value == 1 and figures["geneval:two_object"].value == pytest.approx(0.1)
    assert figures["geneval"].value == pytest.approx(0.55) and figures["geneval:prompts"].value == pytest.approx(30 / 39)
    for figure in figures.values():
        assert figure.low is not None and figure.high is not None and figure.low < figure.high and figure.low <= figure.value <= figure.high
    assert figures["geneval:single_object"].low is not None and figures["geneval:single_object"].low < 0.9


def test_rows_that_are_not_genevals_are_judged_by_their_objects() -> None:
    values, _ = convert({"id": "a", "prompt": "p", "objects": "2 mug; at most 1 box"})
    row, _ = examine(values, Rules())
    assert row is not None
    one = Sample("a.png", "a", 0, "p", (("include", "nonsense"),), row.objects)
    task = task_of(one)
    assert task is not None and task.name == "counting" and [(wish.thing, wish.count) for wish in task.wishes] == [("mug", 2)]
    assert task.limits == (("mug", 3), ("box", 2))
    with pytest.raises(UserError, match="no row asks for objects"):
        judged([Sample("x", "x")], {})
    with pytest.raises(UserError, match="no line is about"):
        judged([one], {("b", 0): []})


def test_boxes_are_read_and_a_wrong_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "boxes.jsonl"
    line = {"row": "a", "index": 1, "boxes": [{"class": "cup", "score": 0.9, "box": [0, 1, 2, 3], "color": "red"}]}
    path.write_text(json.dumps(line) + "\n\n")
    assert read_boxes(path) == {("a", 1): [FoundBox("cup", 0.9, (0, 1, 2, 3), "red")]}
    for wrong in ("{", "[]", '{"row": "a"}', '{"row": "a", "boxes": [{"class": "cup", "score": NaN, "box": [0, 1, 2, 3]}]}'):
        path.write_text(json.dumps(line) + "\n" + wrong + "\n")
        with pytest.raises(UserError, match="not the boxes of a picture") as raised:
            read_boxes(path)
        assert raised.value.where.endswith("line 2")
    with pytest.raises(UserError, match="cannot be read"):
        read_boxes(tmp_path / "none")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="no text in UTF-8"):
        read_boxes(path)
