"""Runs networks of LiteRT on one thread: loading without its greeting, letterboxed input, outputs in the order of the graph."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from renderfarm.pictures import Pixels

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Letterbox:
    """A picture scaled into the middle of a black square: float32 (1, side, side, 3) of 0..1, and the way back."""

    values: Floats
    scale: float
    left: int
    top: int

    def back(self, points: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Points (..., 2) of the square, in pixels of it, as pixels of the picture."""
        return np.asarray((points - (self.left, self.top)) / self.scale, np.float64)


def load(data: bytes) -> Any:
    """A network, ready to run. Not thread-safe."""
    from ai_edge_litert.interpreter import Interpreter

    with _hushed():
        network = Interpreter(model_content=data, num_threads=1)
        network.allocate_tensors()
    return network


def letterbox(image: Pixels, side: int) -> Letterbox:
    """uint8 (H, W, 3) as the detectors want it."""
    import cv2

    height, width = image.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(np.ascontiguousarray(image), size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    left, top = (side - size[0]) // 2, (side - size[1]) // 2
    canvas = np.zeros((1, side, side, 3), np.float32)
    canvas[0, top : top + size[1], left : left + size[0]] = small / np.float32(255)
    return Letterbox(canvas, scale, left, top)


def run(network: Any, values: Floats) -> list[Floats]:
    """One inference; the outputs in the order of their names, which is the order of the graph's outputs."""
    network.set_tensor(network.get_input_details()[0]["index"], values.astype(np.float32, copy=False))
    network.invoke()
    details = sorted(network.get_output_details(), key=lambda detail: str(detail["name"]))
    return [np.array(network.get_tensor(detail["index"])) for detail in details]


def sigmoid(values: Floats) -> Floats:
    """Logits as chances, without overflow."""
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -50, 50))), np.float32)


def anchors(side: int, layers: tuple[tuple[int, int], ...]) -> Floats:
    """The middles of a detector's boxes, float32 (N, 2), shares of the side; `layers`: stride and boxes a cell."""
    middles = [
        ((x + 0.5) / cells, (y + 0.5) / cells)
        for stride, each in layers
        for cells in (side // stride,)
        for y in range(cells)
        for x in range(cells)
        for _ in range(each)
    ]
    return np.array(middles, np.float32)


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """LiteRT greets on the process's error stream while it loads, below Python; progress and errors of commands belong there."""
    stderr, sink = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(sink)
