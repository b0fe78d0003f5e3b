"""The cached training pictures: memory-mapped arrays that any process can redraw from their seed.

There are two sets: one of the whole world, evenly, and one in which every scene bears a word, since a word is on one picture in
seven of the first, and letters are what takes longest to learn.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from scripts.starter.drawing import SIZE
from scripts.starter.world import Spec, Split, captions, compose, sample_spec

_CHUNK = 250
_WORDED_SEED = 0x10EA  # tells the second set's random numbers from the first's


def spec_at(index: int, seed: int, split: Split = "train", worded: bool = False) -> Spec:
    """The scene number `index` of the data set `seed`; independent of how many there are. `worded`: of the second set."""
    if not worded:
        return sample_spec(np.random.default_rng([seed, index]), split)
    rng = np.random.default_rng([seed, _WORDED_SEED, index])
    while (spec := sample_spec(rng, split)).word is None:
        pass
    return spec


def pictures(folder: Path, count: int, seed: int, workers: int = 1, worded: bool = False) -> NDArray[np.uint8]:
    """The first `count` training pictures of a set, uint8 (count, SIZE, SIZE, 3), drawn once and then mapped from disk."""
    return _drawn(folder, count, seed, workers, worded).pixels


@dataclass(frozen=True, slots=True)
class Drawn:
    """One set as it lies in its files."""

    pixels: NDArray[np.uint8]
    specs: list[Spec]
    lettering: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Scenes:
    """Both sets in one row, first the even one. `lettering`: float32 (N, 4), x0, y0, x1, y1 of each word as shares of the
    frame, zeros where there is none. `worded`: int64, which scenes of either set bear a word."""

    parts: tuple[NDArray[np.uint8], NDArray[np.uint8]]
    specs: list[Spec]
    lettering: torch.Tensor
    worded: torch.Tensor

    def __len__(self) -> int:
        return len(self.specs)

    @property
    def even(self) -> int:
        """How many of the first set there are; the second begins here."""
        return len(self.parts[0])

    def picture(self, index: int) -> NDArray[np.uint8]:
        """uint8 (SIZE, SIZE, 3), a view into the mapped file."""
        found: NDArray[np.uint8] = self.parts[0][index] if index < self.even else self.parts[1][index - self.even]
        return found


def scenes(folder: Path, even: int, worded: int, seed: int, workers: int = 1) -> Scenes:
    """The first `even` and `worded` scenes of the two sets, drawn where they are not yet."""
    drawn = [_drawn(folder, count, seed, workers, kind) for count, kind in ((even, False), (worded, True))]
    specs = [spec for part in drawn for spec in part.specs]
    lettering = torch.from_numpy(np.concatenate([part.lettering for part in drawn]))
    bearing = torch.tensor([index for index, spec in enumerate(specs) if spec.word is not None])
    return Scenes((drawn[0].pixels, drawn[1].pixels), specs, lettering, bearing)


class Phrasings:
    """Every caption of a list of scenes as token ids on `device`, so that a training step only looks them up."""

    def __init__(self, specs: Sequence[Spec], tokenizer: Any, device: str) -> None:
        texts, rows = [""], {}
        for spec in dict.fromkeys(specs):
            rows[spec] = (len(texts), len(captions(spec)))
            texts += captions(spec)
        ids = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
        self.ids: torch.Tensor = ids.to(device)
        self.rows = torch.tensor([rows[spec] for spec in specs], device=device)

    def pick(self, index: torch.Tensor, rng: torch.Generator, dropped: float) -> torch.Tensor:
        """A random caption of each scene of `index`, int64 (B, tokens); in a share of `dropped` the empty one."""
        choice, kept = torch.rand(2, len(index), generator=rng).to(self.ids.device)
        first, count = self.rows[index].unbind(1)
        return self.ids[(first + (choice * count).long()) * (kept >= dropped)]


def letter_share(lettering: torch.Tensor, cells: int) -> torch.Tensor:
    """How much of each cell of a `cells` x `cells` grid lies in the word's rectangle: (N, 4) to float (N, 1, cells, cells)."""
    edge = torch.arange(cells, dtype=torch.float32, device=lettering.device)
    across, down = (
        (torch.minimum(high * cells, edge + 1) - torch.maximum(low * cells, edge)).clamp(0, 1)
        for low, high in ((lettering[:, 0, None], lettering[:, 2, None]), (lettering[:, 1, None], lettering[:, 3, None]))
    )
    return (down[:, :, None] * across[:, None, :])[:, None]


def _drawn(folder: Path, count: int, seed: int, workers: int, worded: bool) -> Drawn:
    """A set, drawn where it is not yet.

    The pictures get their final name last and only when they are whole, so an interrupted drawing is begun again. The
    number of worker processes does not change a pixel.
    """
    name = f"{'worded' if worded else 'pictures'}-{seed}-{count}"
    path, labels = folder / f"{name}.npy", folder / f"{name}-labels.npz"
    if not (path.exists() and labels.exists()):
        unfinished = path.with_suffix(".partial")
        np.lib.format.open_memmap(unfinished, mode="w+", dtype=np.uint8, shape=(count, SIZE, SIZE, 3)).flush()
        starts = range(0, count, _CHUNK)
        job = partial(_draw_chunk, unfinished, count, seed, worded)
        if workers > 1:
            with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
                found = list(pool.map(job, starts))
        else:
            found = [job(start) for start in starts]
        path.unlink(missing_ok=True)  # pictures without their labels, of an earlier form
        np.savez(labels, codes=np.concatenate([codes for codes, _ in found]), lettering=np.concatenate([boxes for _, boxes in found]))
        unfinished.rename(path)
    with np.load(labels) as known:
        return Drawn(np.load(path, mmap_mode="r"), [Spec.decoded(code) for code in known["codes"]], known["lettering"])


def _draw_chunk(path: Path, count: int, seed: int, worded: bool, start: int) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    """Draws up to _CHUNK pictures into the file; returns their scenes as `Spec.code` and where their words stand."""
    array = np.lib.format.open_memmap(path, mode="r+")
    specs = [spec_at(index, seed, worded=worded) for index in range(start, min(start + _CHUNK, count))]
    lettering = np.zeros((len(specs), 4), np.float32)
    for row, spec in enumerate(specs):
        canvas = compose(spec, seed * 10_000_019 + start + row + (500_000 if worded else 0))
        array[start + row] = canvas.finish()
        lettering[row] = canvas.lettering or (0.0, 0.0, 0.0, 0.0)
    array.flush()
    return np.array([spec.code() for spec in specs], np.int16), lettering
