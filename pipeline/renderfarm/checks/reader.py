"""Reads the words in a picture: RapidOCR with the three ONNX models of its wheel, on one thread, without a network.

The library's defaults find text on an enlarged picture (shorter side at least 736) with all cores. Measured on the 32 labelled pictures of
768x1024 and 1024x1024: finding on 512 pixels (the lines are still cut from the full picture) takes 311 CPU ms instead of 803 and misses
nothing more; it reads a bottle's label that 736 did not. So `FIRST_SIDE` is 512; `SECOND_SIDE` is for a second look.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from renderfarm.checks.base import Image, box_around
from renderfarm.checks.words import Line

FIRST_SIDE = 512
SECOND_SIDE = 960
CONFIDENCE_MIN = 0.3


class LetterReader:
    """One loaded text reader. Not thread-safe; one per worker. About 350 MB of memory."""

    def __init__(self) -> None:
        import cv2
        from rapidocr import RapidOCR

        cv2.setNumThreads(1)
        self._engine: Any = RapidOCR(
            params={
                "EngineConfig.onnxruntime.intra_op_num_threads": 1,
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
                "Global.log_level": "critical",
                "Global.text_score": CONFIDENCE_MIN,
                "Det.limit_type": "max",
                "Det.limit_side_len": FIRST_SIDE,
            }
        )
        blank = np.full((64, 256, 3), 255, np.uint8)
        self._engine(blank)
        self._engine(blank, use_det=False)  # loads the recogniser too: a blank page never gets that far
        recogniser: Any = self._engine.text_rec
        self._known: frozenset[str] = frozenset("".join(recogniser.postprocess_op.character))

    def knows(self, text: str) -> bool:
        """Whether the model's alphabet holds every letter and digit of the text."""
        return all(c in self._known or c.casefold() in self._known for c in text if c.isalnum())

    def read(self, image: Image, side: int = FIRST_SIDE) -> list[Line]:
        """The lines in uint8 (H, W, 3) sRGB, top to bottom; text is looked for with the longer side at `side` pixels.

        A smaller picture is enlarged first, so that small letters have the pixels that the recogniser wants.
        """
        import cv2

        height, width = image.shape[:2]
        scale = max(1.0, side / max(height, width))
        picture = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGR)
        if scale > 1:
            picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        self._engine.text_det.limit_side_len = side
        result = self._engine(picture, use_det=True, use_cls=True, use_rec=True)
        boxes, texts, scores = (getattr(result, name, None) for name in ("boxes", "txts", "scores"))
        if boxes is None or texts is None or scores is None:
            return []
        return [
            Line(str(text), float(score), box_around(np.asarray(quad) / scale, width, height), _letter_height(quad) / scale)
            for quad, text, score in zip(boxes, texts, scores, strict=True)
        ]


def _letter_height(quad: Any) -> float:
    """The shorter side of a text line's four corners, in pixels."""
    corners = np.asarray(quad, np.float64)
    return float(min(np.linalg.norm(corners[1] - corners[0]), np.linalg.norm(corners[2] - corners[1])))
