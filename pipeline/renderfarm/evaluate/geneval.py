"""What GenEval calls right (Ghosh et al., 2023), over boxes that a detector found: counts, colours and positions, task by task.

Its rules, as its program applies them: a box counts from a confidence of .3 on, in counting tasks from .9 on, and 16 of a class at most;
`include` asks for so many of a class at least, and of the surest so many for their colour and their place beside an earlier entry's;
`exclude` says how many are too many. The score is the mean of the tasks' shares. A row's `objects` say the same as minima and maxima;
colours and places stand in its tag `include`, where the brief was GenEval's. Which detector finds the boxes is for the caller to say: with
another than GenEval's the score is not that of its table.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from renderfarm.errors import UserError
from renderfarm.evaluate.figures import OF_ONE, Figure
from renderfarm.evaluate.gather import Sample
from renderfarm.evaluate.intervals import groups_of, jackknife, wilson

CONFIDENCE_MIN, CONFIDENCE_MIN_COUNTING, BOXES_MAX = 0.3, 0.9, 16
SHRUNK = 0.1
"""A place beside another counts once the middles are apart by more than this share of both boxes' sizes."""
SIDEWAYS = 0.5
TASK_TAGS = ("tag", "task")
COUNTING = "counting"
UNNAMED = "objects"
"""The task of rows that name none."""


@dataclass(frozen=True, slots=True)
class FoundBox:
    """One thing that a detector found: x0, y0, x1, y1 in pixels; `colour` where something told it."""

    thing: str
    score: float
    box: tuple[float, float, float, float]
    colour: str | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """At least `count` of a class, in a colour, beside what an earlier wish asked for."""

    thing: str
    count: int
    colour: str | None = None
    beside: tuple[str, int] | None = None


@dataclass(frozen=True, slots=True)
class WishList:
    """What one row asks for. `limits`: (class, how many are too many)."""

    name: str
    wishes: tuple[Wish, ...]
    limits: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Judged:
    """One picture: whether it is right, None where nobody could tell, and why not."""

    sample: Sample
    task: str
    right: bool | None
    reason: str


def task_of(sample: Sample) -> WishList | None:
    """What the row of a picture asks for; None where it asks for no objects."""
    tags = dict(sample.tags)
    wishes = _said(tags["include"]) if "include" in tags else None
    if wishes is None:
        wishes = tuple(Wish(one.thing, one.low) for one in sample.objects if one.low)
    limits = tuple((one.thing, one.high + 1) for one in sample.objects if one.high is not None)
    name = next((tags[tag] for tag in TASK_TAGS if tag in tags), COUNTING if limits else UNNAMED)
    return WishList(name, wishes, limits) if wishes or limits else None


def _said(text: str) -> tuple[Wish, ...] | None:
    """GenEval's `include`, as the brief keeps it; None where it is something else."""
    try:
        return tuple(_wish(entry, at) for at, entry in enumerate(json.loads(text)))
    except (ValueError, KeyError, TypeError, IndexError):
        return None


def _wish(entry: Mapping[str, Any], at: int) -> Wish:
    beside = entry.get("position")
    target = None if beside is None else (str(beside[0]), int(beside[1]))
    if target is not None and not 0 <= target[1] < at:
        raise ValueError("a place beside what is asked for later")
    return Wish(str(entry["class"]), int(entry["count"]), entry.get("color"), target)


def judge_boxes(task: WishList, boxes: Sequence[FoundBox]) -> tuple[bool | None, str]:
    """Whether boxes are what a task asks for, and why not; None where a colour is asked for and nothing told it."""
    least = CONFIDENCE_MIN_COUNTING if task.name == COUNTING else CONFIDENCE_MIN
    sure = sorted((box for box in boxes if box.score > least), key=lambda box: -box.score)
    found: dict[str, list[FoundBox]] = {}
    for box in sure:
        found.setdefault(box.thing, []).append(box)
    found = {thing: several[:BOXES_MAX] for thing, several in found.items()}
    reasons: list[str] = []
    matched: list[list[FoundBox] | None] = []
    unknown = False
    for wish in task.wishes:
        chosen = found.get(wish.thing, [])[: wish.count]
        reason = ""
        if len(chosen) < wish.count:
            reason = f"{len(chosen)} {wish.thing}, at least {wish.count} wanted"
        elif wish.colour is not None and any(box.colour is None for box in chosen):
            unknown = True
        elif wish.colour is not None and any(box.colour != wish.colour for box in chosen):
            reason = f"{wish.thing} is {' and '.join(str(box.colour) for box in chosen)}, {wish.colour} wanted"
        if not reason and wish.beside is not None:
            reason = _misplaced(wish, chosen, matched[wish.beside[1]])
        reasons += [reason] * bool(reason)
        matched.append(None if reason else chosen)
    for thing, too_many in task.limits:
        if (count := len(found.get(thing, []))) >= too_many:
            reasons.append(f"{count} {thing}, at most {too_many - 1} wanted")
    return (False if reasons else None if unknown else True), "; ".join(reasons)


def _misplaced(wish: Wish, chosen: Sequence[FoundBox], targets: Sequence[FoundBox] | None) -> str:
    """What is wrong with the place, "" for nothing."""
    assert wish.beside is not None
    if targets is None:
        return f"nothing for {wish.thing} to be {wish.beside[0]}"
    right = all(wish.beside[0] in relations(box.box, target.box) for box in chosen for target in targets)
    return "" if right else f"{wish.thing} is not {wish.beside[0]} the {targets[0].thing}" if targets else ""


def relations(one: Sequence[float], other: Sequence[float]) -> set[str]:
    """Where one box is from another: left of, right of, above, below; nothing where they overlap too much."""
    offset = [(one[k] + one[k + 2] - other[k] - other[k + 2]) / 2 for k in (0, 1)]
    sizes = [abs(one[k + 2] - one[k]) + abs(other[k + 2] - other[k]) for k in (0, 1)]
    beyond = [math.copysign(max(abs(d) - SHRUNK * size, 0.0), d) for d, size in zip(offset, sizes, strict=True)]
    length = math.hypot(*offset)
    if length == 0 or max(map(abs, beyond)) < 1e-3:
        return set()
    across, down = (d / length for d in beyond)
    named = (("left of", -across), ("right of", across), ("above", -down), ("below", down))
    return {name for name, share in named if share > SIDEWAYS}


def judged(samples: Sequence[Sample], boxes: Mapping[tuple[str, int], Sequence[FoundBox]]) -> list[Judged]:
    """Every picture whose row asks for objects. Raises: UserError where no row does, or no picture has boxes."""
    asked = [(sample, task) for sample in samples if (task := task_of(sample)) is not None]
    if not asked:
        raise UserError(
            "no row asks for objects", samples[0].name, "rows ask for them in `objects`, or in GenEval's `include` and `exclude`"
        )
    if not any(sample.place in boxes for sample, _ in asked):
        raise UserError("no line is about a picture that asks for objects", "--boxes", "name each picture by `row` and `index`")
    results = []
    for sample, task in asked:
        there = boxes.get(sample.place)
        right, reason = judge_boxes(task, there) if there is not None else (None, "no boxes were given")
        results.append(Judged(sample, task.name, right, reason or ("nothing told the colours" if right is None else "")))
    return results


def geneval_figures(results: Sequence[Judged]) -> list[Figure]:
    """The share of each task, their mean (`geneval`), and of prompts with a right picture (`geneval:prompts`)."""
    told = [one for one in results if one.right is not None]
    tasks = list(dict.fromkeys(one.task for one in told))
    if not told:
        return []
    right = np.array([bool(one.right) for one in told])
    of = np.array([tasks.index(one.task) for one in told])
    rows = groups_of([one.sample.row for one in told])
    group = np.array([rows[one.sample.row] for one in told])
    row_of = {row: at for at, row in enumerate(dict.fromkeys(one.sample.row for one in told))}
    row = np.array([row_of[one.sample.row] for one in told])

    def statistic(keep: np.ndarray) -> list[float]:
        shares = [float(right[keep & (of == at)].mean()) if (keep & (of == at)).any() else math.nan for at in range(len(tasks))]
        any_right = [right[keep & (row == at)].any() for at in np.unique(row[keep])]
        return [float(np.nanmean(shares)), float(np.mean(any_right)), *shares]

    estimates = jackknife(statistic, [group], [[0]])
    counts = [len(told), len(row_of), *(int((of == at).sum()) for at in range(len(tasks)))]
    figures = []
    for name, value, half, count in zip(
        ["geneval", "geneval:prompts", *(f"geneval:{task}" for task in tasks)], estimates.value, estimates.half, counts, strict=True
    ):
        low, high = wilson(float(value), count)
        if not math.isnan(half):
            low, high = max(0.0, min(low, value - half)), min(1.0, max(high, value + half))
        figures.append(Figure(name, OF_ONE, float(value), float(low), float(high), count, better="higher"))
    return figures


def read_boxes(path: Path) -> dict[tuple[str, int], list[FoundBox]]:
    """Boxes that a detector found elsewhere: JSON lines of {"row", "index", "boxes": [{"class", "score", "box", "color"}]}.

    Raises: UserError naming the first line that is none.
    """
    found: dict[tuple[str, int], list[FoundBox]] = {}
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    try:
                        entry = json.loads(line)
                        place = (str(entry["row"]), int(entry.get("index", 0)))
                        found[place] = [_box(one) for one in entry["boxes"]]
                    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                        example = '{"row": "a", "index": 0, "boxes": [{"class": "mug", "score": 0.9, "box": [0, 0, 9, 9]}]}'
                        raise UserError("not the boxes of a picture", f"{path}, line {number}", f"write {example}") from error
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", str(path), "check the path") from error
    except UnicodeDecodeError as error:
        raise UserError("this is no text in UTF-8", str(path), "JSON lines, one a picture") from error
    return found


def _box(one: Mapping[str, Any]) -> FoundBox:
    x0, y0, x1, y1 = (float(edge) for edge in one["box"])
    score, colour = float(one["score"]), one.get("color")
    if not all(map(math.isfinite, (x0, y0, x1, y1, score))):
        raise ValueError("no number")
    return FoundBox(str(one["class"]), score, (x0, y0, x1, y1), None if colour is None else str(colour))
