"""Whether the picture shows as many things as the row's `objects` ask for: so many, at least or at most so many.

An `ObjectCounter` counts the classes that it knows. Where none knows a class, or is not sure, the answer is `not_run` with the class named:
nobody looked. Two detectors exist: an open-vocabulary one (Grounding DINO, OWLv2) whose weights the job names, and a small counter for
pictures of the starter weights (`starterscene`), which the farm asks for where a job renders with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from renderfarm.checks.base import Bars, Image, judge, not_run
from renderfarm.job.checks import CountsSettings
from renderfarm.schema import Box, PromptRow, Verdict


@dataclass(frozen=True, slots=True)
class Counted:
    """How many were found, and where, if the detector tells: then one box each."""

    count: int
    boxes: tuple[Box, ...] = ()


class ObjectCounter(Protocol):
    """Counts things of named classes."""

    def knows(self, name: str) -> bool:
        """Whether it can tell this class."""

    def prepare(self) -> None:
        """Loads its weights, once per worker."""

    def count(self, image: Image, name: str) -> Counted | None:
        """The instances of the class in uint8 (H, W, 3) sRGB; None where it is not sure."""


class CountsCheck:
    """Compares counts class by class; the score is the share of classes with the right count."""

    name = "counts"
    cost = 600

    def __init__(self, settings: CountsSettings, detectors: Sequence[ObjectCounter] = ()) -> None:
        self.settings = settings
        self.detectors = detectors

    def prepare(self) -> None:
        """Loads every detector."""
        for detector in self.detectors:
            detector.prepare()

    def bars(self, row: PromptRow) -> Bars | None:
        """One bar for every row that asks for objects."""
        return Bars.one(self.settings.min_score, self.settings.on_fail) if row.objects else None

    def check(self, image: Image, row: PromptRow) -> Verdict:
        """Judges uint8 (H, W, 3). `not_run` where the row asks for no objects or nobody can tell how many there are."""
        bars = self.bars(row)
        if bars is None:
            return not_run(self.name, "the row asks for no objects")
        wrong: list[str] = []
        right: list[str] = []
        unknown: list[str] = []
        unsure: list[str] = []
        boxes: list[Box] = []
        found: dict[str, Counted | None] = {}
        for wanted in row.objects:
            detector = next((d for d in self.detectors if d.knows(wanted.thing)), None)
            if wanted.thing not in found:  # one that has a least and a most is counted once
                found[wanted.thing] = detector.count(image, wanted.thing) if detector else None
            counted = found[wanted.thing]
            if counted is None:
                (unsure if detector else unknown).append(wanted.thing)
            elif counted.count < wanted.low or (wanted.high is not None and counted.count > wanted.high):
                unwanted = f"{counted.count} {wanted.thing}, and none is wanted"
                wrong.append(unwanted if wanted.high == 0 else f"{counted.count} instead of {wanted}")
                boxes += counted.boxes
            else:
                right.append(f"{counted.count} {wanted.thing}")
        if unknown and not wrong:
            return not_run(self.name, f"no detector that knows {_list(unknown)} is installed")
        if unsure and not wrong:
            return not_run(self.name, f"the detector cannot tell how many there are: {_list(unsure)}")
        score = 1 - len(wrong) / len(row.objects)
        return judge(self.name, score, bars, "; ".join(wrong), tuple(boxes), f"shows {_list(right)}")


def _list(parts: list[str]) -> str:
    return ", ".join(dict.fromkeys(parts))
