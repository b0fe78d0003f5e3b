"""The cached training pictures: a memory-mapped array that any process can redraw from its seed."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scripts.starter.drawing import SIZE
from scripts.starter.world import Spec, Split, draw, sample_spec

_CHUNK = 250


def spec_at(index: int, seed: int, split: Split = "train") -> Spec:
    """The scene number `index` of the data set `seed`; independent of how many there are."""
    return sample_spec(np.random.default_rng([seed, index]), split)


def pictures(folder: Path, count: int, seed: int, workers: int = 1) -> NDArray[np.uint8]:
    """The first `count` training pictures, uint8 (count, SIZE, SIZE, 3), drawn once and then mapped from disk.

    The array gets its final name only when it is whole, so an interrupted drawing is begun again. The number of
    worker processes does not change a pixel.
    """
    path = folder / f"pictures-{seed}-{count}.npy"
    if not path.exists():
        unfinished = path.with_suffix(".partial")
        np.lib.format.open_memmap(unfinished, mode="w+", dtype=np.uint8, shape=(count, SIZE, SIZE, 3)).flush()
        starts = range(0, count, _CHUNK)
        job = partial(_draw_chunk, unfinished, count, seed)
        if workers > 1:
            with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
                list(pool.map(job, starts))
        else:
            for start in starts:
                job(start)
        unfinished.rename(path)
    loaded: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    return loaded


def _draw_chunk(path: Path, count: int, seed: int, start: int) -> None:
    array = np.lib.format.open_memmap(path, mode="r+")
    for index in range(start, min(start + _CHUNK, count)):
        array[index] = draw(spec_at(index, seed), seed * 10_000_019 + index)
    array.flush()
