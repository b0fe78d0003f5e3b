"""Malformed hands, where people may be in the picture.

No hand detector exists yet. What the check does is to say so where it matters: a row that suggests people, by a word in the prompt or by an
object, gets `not_run` with that reason, so that nobody takes silence for a look. Other rows get `not_run` because no people are asked for.
"""

from __future__ import annotations

import re

from pipeline.checks.base import Image, not_run
from pipeline.checks.settings import HandsSettings
from pipeline.schema import PromptRow, Verdict

_PEOPLE = re.compile(
    r"\b(?:hands?|fingers?|fists?|palms?|thumbs?|holding|holds?|gripping|waving|pointing|man|men|woman|women|persons?|people|boys?|girls?"
    r"|child(?:ren)?|kids?|bab(?:y|ies)|lad(?:y|ies)|gentlem[ae]n|models?|worker|chef|doctor|nurse|baker|barista|athlete|player|runner|customer"
    r"|family|couple|crowd|portrait|selfie|human|hand|mensch(?:en)?|frau(?:en)?|mann|männer|kind(?:er)?|homme|femme|enfants?|personas?|mujer"
    r"|hombre)\b",
    re.IGNORECASE,
)


def people_likely(row: PromptRow) -> bool:
    """Whether the row suggests that a hand may be seen. `handle`, `handmade` and the like do not."""
    return bool(_PEOPLE.search(row.prompt)) or any(_PEOPLE.fullmatch(wanted.name) for wanted in row.objects)


class HandsCheck:
    """Says that hands were not judged, and why."""

    name = "hands"
    cost = 400

    def __init__(self, settings: HandsSettings) -> None:
        self.settings = settings

    def prepare(self) -> None:
        """Nothing to load."""

    def check(self, image: Image, row: PromptRow) -> Verdict:
        """`not_run` for uint8 (H, W, 3), with the reason."""
        if not people_likely(row):
            return not_run(self.name, "the row suggests no people")
        return not_run(self.name, "people may be in the picture, and no detector of hands exists yet")
