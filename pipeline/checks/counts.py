"""Whether the picture shows as many things as the row's `objects` ask for.

A `Detector` counts the classes that it knows. Where none knows a class the answer is `not_run` with the class named: nobody looked.
No detector ships here: a caller that has one (open-vocabulary weights on disk, a classifier beside the starter weights) passes it in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pipeline.checks.base import Bars, Image, judge, not_run
from pipeline.checks.settings import CountsSettings
from pipeline.schema import Box, PromptRow, Verdict


class Detector(Protocol):
    """Finds things of named classes."""

    def knows(self, name: str) -> bool:
        """Whether it can tell this class."""

    def prepare(self) -> None:
        """Loads its weights, once per worker."""

    def find(self, image: Image, name: str) -> Sequence[Box]:
        """Every instance of the class in uint8 (H, W, 3) sRGB."""


class CountsCheck:
    """Compares counts class by class; the score is the share of classes with the right count."""

    name = "counts"
    cost = 600

    def __init__(self, settings: CountsSettings, detectors: Sequence[Detector] = ()) -> None:
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
        """Judges uint8 (H, W, 3). `not_run` where the row asks for no objects or no detector knows one of their classes."""
        bars = self.bars(row)
        if bars is None:
            return not_run(self.name, "the row asks for no objects")
        wrong: list[str] = []
        unknown: list[str] = []
        boxes: list[Box] = []
        for wanted in row.objects:
            detector = next((d for d in self.detectors if d.knows(wanted.name)), None)
            if detector is None:
                unknown.append(wanted.name)
                continue
            found = detector.find(image, wanted.name)
            if len(found) != wanted.count:
                wrong.append(f"{len(found)} instead of {wanted.count} {wanted.name}")
                boxes += found
        if unknown and not wrong:
            return not_run(self.name, f"no detector that knows {', '.join(unknown)} is installed")
        score = 1 - len(wrong) / len(row.objects)
        return judge(self.name, score, bars, "; ".join(wrong), tuple(boxes))
