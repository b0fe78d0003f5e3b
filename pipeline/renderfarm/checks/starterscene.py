"""Counts one to three things of eight classes in pictures of the starter weights, by a small convolutional classifier.

It comes with the package, was trained on drawings only (`scripts/starter/counter.py`, which states its accuracy on fresh ones and on
rendered pictures) and means nothing outside that world, so it is asked only where the job renders with the starter weights. 88,000 weights,
NumPy, a few CPU milliseconds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from renderfarm.checks.base import Image
from renderfarm.checks.counts import Counted

WEIGHTS = Path(__file__).with_name("starterscene.safetensors")
CLASSES = ("mug", "bottle", "box", "T-shirt", "tote bag", "lamp", "phone", "sign")
COUNTS = (1, 2, 3)
SIDE = 64
SURE_MIN = 0.6
"""Less sure of class or count than this, it does not answer."""
Floats = npt.NDArray[np.float32]


class StarterScene:
    """The classifier as a detector: it counts without saying where."""

    def __init__(self) -> None:
        self._weights: dict[str, Floats] = {}

    def knows(self, name: str) -> bool:
        """The eight classes, in any case, singular or plural."""
        return _class_of(name) is not None

    def prepare(self) -> None:
        """Loads the weights, a quarter of a megabyte."""
        from safetensors.numpy import load_file

        self._weights = load_file(WEIGHTS)

    def count(self, image: Image, name: str) -> Counted | None:
        """How many of the class uint8 (H, W, 3) shows; None where it is not sure."""
        classes, counts = self.probabilities(image)
        kind, number = int(classes.argmax()), int(counts.argmax())
        if min(classes[kind], counts[number]) < SURE_MIN:
            return None
        return Counted(COUNTS[number] if CLASSES[kind] == _class_of(name) else 0)

    def probabilities(self, image: Image) -> tuple[Floats, Floats]:
        """Of the classes, float32 (8), and of the counts one to three, float32 (3)."""
        import cv2

        small = cv2.resize(np.ascontiguousarray(image), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        values = np.asarray(small, np.float32).transpose(2, 0, 1) / np.float32(127.5) - 1
        for layer in range(3):
            values = np.maximum(_convolved(values, self._weights[f"{layer}.weight"], self._weights[f"{layer}.bias"]), 0)
        pooled = values.reshape(len(values), 4, -1, 8, 1).mean(axis=(2, 4)).ravel()
        logits = self._weights["head.weight"] @ pooled + self._weights["head.bias"]
        return _softmax(logits[: len(CLASSES)]), _softmax(logits[len(CLASSES) :])


def _class_of(name: str) -> str | None:
    folded = name.strip().casefold()
    return next((c for c in CLASSES if folded in (c.casefold(), f"{c}s".casefold(), f"{c}es".casefold())), None)


def _convolved(values: Floats, weight: Floats, bias: Floats) -> Floats:
    """A 3x3 convolution of stride 2 with a border of one: float32 (C, H, W) to (D, H / 2, W / 2)."""
    padded = np.pad(values, ((0, 0), (1, 1), (1, 1)))
    windows: Any = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))[:, ::2, ::2]
    return np.asarray(np.tensordot(weight, windows, axes=([1, 2, 3], [0, 3, 4])) + bias[:, None, None], np.float32)


def _softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max())
    return np.asarray(powers / powers.sum(), np.float32)
