"""Counts anything that words name, by weights on disk: Grounding DINO or OWLv2 (`renderfarm.models.vision`)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from renderfarm.checks.base import Image, box_around
from renderfarm.checks.counts import Counted

if TYPE_CHECKING:
    from renderfarm.models.vision import Detector


class OpenVocabulary:
    """A detector that knows every class."""

    def __init__(self, folder: str, confidence_min: float) -> None:
        self.folder = folder
        self.confidence_min = confidence_min
        self._detector: Detector | None = None

    def knows(self, name: str) -> bool:
        """Everything that has a name."""
        return bool(name.strip())

    def prepare(self) -> None:
        """Loads the weights. Raises: WeightsError."""
        from renderfarm.models.vision import Detector

        self._detector = Detector(Path(self.folder).expanduser())

    def count(self, image: Image, name: str) -> Counted:
        """The instances of the class in uint8 (H, W, 3) sRGB."""
        if self._detector is None:
            self.prepare()
        assert self._detector is not None
        things = self._detector.find(image, name, self.confidence_min)
        height, width = image.shape[:2]
        return Counted(len(things), tuple(box_around(np.array(thing.box).reshape(2, 2), width, height) for thing in things))
