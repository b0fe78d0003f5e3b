"""A worker process that draws without weights, marks, checks and stores as ever, and is sick where a file says so.

The folder in SICK holds one empty file for each sickness; the first workers that come take one each, and their successors none:

    fails    out of memory, with every unit and with the known picture        full     with every unit only
    black    every picture is black                                           nan      as a renderer says that pixels are not finite
    slow     ten times as slow                                                hangs    no answer
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from renderfarm.errors import UserError
from renderfarm.schema import Attempt, RenderInfo
from renderfarm.watermark import MarkKey
from renderfarm.workers import process
from renderfarm.workers.worker import Known, Marking, Order, RendererWorker, RenderReply, Trouble

INFO = RenderInfo("drawn", "", "0" * 64, "none", "none", "none", "cpu", "", "0", "0")
UNIT_S = 0.6


def _sickness() -> str:
    """One that nobody has yet."""
    for name in sorted(os.listdir(os.environ["SICK"])):
        try:
            os.rename(Path(os.environ["SICK"], name), Path(os.environ["SICK"], f".{name}.{os.getpid()}"))
        except OSError:
            continue
        if not name.startswith("."):
            return name
    return ""


class Drawer:
    """In place of `RendererWorker`."""

    def __init__(self, order: Order) -> None:
        torch.set_num_threads(1)
        self.key, self.sickness, self.batch = MarkKey.from_bytes(order.keys.mark_key.secret), _sickness(), 2

    def ready(self) -> int | UserError:
        return self.batch

    def known(self) -> Known:
        if self.sickness in ("fails", "nan"):
            return Known(trouble="cannot draw the known picture")
        return Known("drawn", bytes(range(256)), 0 if self.sickness == "black" else 255, "drawn")

    def render(self, attempts: Sequence[Attempt]) -> tuple[Any, RenderReply | Trouble]:
        while self.sickness == "hangs":
            time.sleep(60)
        if self.sickness in ("fails", "full", "nan"):
            return None, Trouble("fault", "OutOfMemoryError: CUDA out of memory")
        took_s = UNIT_S * (10 if self.sickness == "slow" else 1)
        time.sleep(took_s)
        marking = Marking(attempts, self.key)
        pixels = torch.stack([torch.from_numpy(_drawn(attempt)) for attempt in attempts])
        if self.sickness == "black":
            pixels = torch.zeros_like(pixels)
            marking.marked = (True,) * len(attempts)
        else:
            pixels = marking(pixels)
        return pixels.numpy(), RenderReply(INFO, marking.marked, time.time_ns() // 1000, took_s, {})


def _drawn(attempt: Attempt) -> np.ndarray:
    """A smooth picture by its seed, uint8 (H, W, 3)."""
    y, x = np.mgrid[0 : attempt.image.height, 0 : attempt.image.width] / 256
    phases = np.random.default_rng(attempt.seed % 2**32).uniform(0, 6, 3)
    return np.stack([128 + 90 * np.sin(5 * x + 3 * y * phase + phase) for phase in phases], -1).astype(np.uint8)


assert {name for name in vars(Drawer) if not name.startswith("_")} <= {*vars(RendererWorker)}, "it stands in for the real one"

if __name__ == "__main__":
    process.main(sys.argv[1], {**process.WORKERS, "render": Drawer})
