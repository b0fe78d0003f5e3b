"""Reads the words in a picture: RapidOCR with the three ONNX models of its wheel, on one thread, without a network.

The library's defaults find text on an enlarged picture (shorter side at least 736) with all cores. Measured on the 32 labelled pictures of
768x1024 and 1024x1024: finding on 512 pixels (the lines are still cut from the full picture) takes 311 CPU ms instead of 803 and misses
nothing more; it reads a bottle's label that 736 did not. So `FIRST_SIDE` is 512; `SECOND_SIDE` is for a second look: 640 finds what 960
does. The library's classifier of angles is left out: it turns right lines upside down.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from renderfarm.checks.base import Image, box_around
from renderfarm.checks.words import Line
from renderfarm.wording.scripts import unread

FIRST_SIDE = 512
SECOND_SIDE = 640
CONFIDENCE_MIN = 0.3
LANGUAGES = {
    "Arabic": ("arabic",), "Cyrillic": ("cyrillic", "eslav"), "Devanagari": ("devanagari",), "Greek": ("el",), "Kannada": ("ka",),
    "Korean": ("korean",), "Tamil": ("ta",), "Telugu": ("te",), "Thai": ("th",),
}  # fmt: skip
"""Scripts that RapidOCR has models of their own for, and how the files' names begin (its `default_models.yaml`). They are not in its
wheel."""


def models_folder() -> Path:
    """Where RapidOCR keeps its models."""
    import rapidocr

    return Path(rapidocr.__file__).with_name("models")


def model_of(script: str, folder: Path) -> Path | None:
    """The newest recogniser on disk for a script that the default one does not read, or None. Reads names only."""
    found = [path for language in LANGUAGES.get(script, ()) for path in folder.glob(f"{language}_PP-OCRv*_rec_*.onnx")]
    return max(found, key=lambda path: path.name.partition("_")[2], default=None)


class LetterReader:
    """One text reader, loaded when it is first asked. Not thread-safe; one per worker, shared by the checks that ask it: what it read in
    the last picture it remembers. About 350 MB of memory, and more for each further script it was asked for.

    `folder`: where models of further scripts lie, if not with RapidOCR's own.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._own: tuple[Any, frozenset[str]] | None = None
        self._further: dict[str, tuple[Any, frozenset[str]] | None] = {}
        self._picture: Image | None = None
        self._read: dict[tuple[int, str], list[Line]] = {}

    def load(self) -> tuple[Any, frozenset[str]]:
        """The reader's engine with its alphabet; about a second for the first time."""
        if self._own is None:
            import cv2

            cv2.setNumThreads(1)
            engine = _engine({})
            self._own = engine, _alphabet(engine)
        return self._own

    def knows(self, text: str) -> bool:
        """Whether a recogniser here reads the scripts of the text, and its alphabet holds all letters and digits; marks do not count."""
        found = self._for(text)
        return found is not None and all(c in found[1] or c.casefold() in found[1] for c in text if c.isalnum())

    def _for(self, text: str) -> tuple[Any, frozenset[str]] | None:
        """The engine that reads a text, with its alphabet; None where none does."""
        scripts = unread(text)
        if not scripts:
            return self.load()
        if len(scripts) > 1:
            return None  # two recognisers see one line each in their own letters
        if scripts[0] not in self._further:
            path = model_of(scripts[0], self._folder or models_folder())
            engine = None if path is None else _engine({"Rec.model_path": str(path)})
            self._further[scripts[0]] = None if engine is None else (engine, _alphabet(engine))
        return self._further[scripts[0]]

    def read(self, image: Image, side: int = FIRST_SIDE, expected: str = "") -> list[Line]:
        """The lines in uint8 (H, W, 3) sRGB, top to bottom; text is looked for with the longer side at `side` pixels, and read in the
        script of what is expected. Asked again for the picture that it read last, it answers from memory: nobody may paint on it meanwhile.
        """
        asked = side, " ".join(unread(expected))
        if self._picture is not image:
            self._picture, self._read = image, {}
        if asked not in self._read:
            self._read[asked] = self.look(image, side, expected)
        return list(self._read[asked])

    def look(self, image: Image, side: int, expected: str) -> list[Line]:
        """`read` without the memory. A smaller picture is enlarged, so that small letters have the pixels that the recogniser wants."""
        import cv2

        height, width = image.shape[:2]
        scale = max(1.0, side / max(height, width))
        picture = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGR)
        if scale > 1:
            picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        engine = (self._for(expected) or self.load())[0]
        engine.text_det.limit_side_len = side
        result = engine(picture, use_det=True, use_cls=False, use_rec=True)
        boxes, texts, scores = (getattr(result, name, None) for name in ("boxes", "txts", "scores"))
        if boxes is None or texts is None or scores is None:
            return []
        return [
            Line(str(text), float(score), box_around(np.asarray(quad) / scale, width, height), _letter_height(quad) / scale)
            for quad, text, score in zip(boxes, texts, scores, strict=True)
        ]


def _engine(params: dict[str, Any]) -> Any:
    """A loaded RapidOCR on one thread."""
    from rapidocr import RapidOCR

    engine = RapidOCR(
        params={
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            "Global.log_level": "critical",
            "Global.text_score": CONFIDENCE_MIN,
            "Det.limit_type": "max",
            "Det.limit_side_len": FIRST_SIDE,
            **params,
        }
    )
    blank = np.full((64, 256, 3), 255, np.uint8)
    engine(blank)
    engine(blank, use_det=False)  # loads the recogniser too: a blank page never gets that far
    return engine


def _alphabet(engine: Any) -> frozenset[str]:
    return frozenset("".join(engine.text_rec.postprocess_op.character))


def _letter_height(quad: Any) -> float:
    """The shorter side of a text line's four corners, in pixels."""
    corners = np.asarray(quad, np.float64)
    return float(min(np.linalg.norm(corners[1] - corners[0]), np.linalg.norm(corners[2] - corners[1])))
