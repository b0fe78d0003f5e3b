"""The starter world: which scenes exist, how they are drawn from a seed, and how they are captioned.

A scene is one to three equal objects of one colour before one background, a single one perhaps bearing a word.
The data set is this program and a seed. One combination in five is held out of training by a rule (`is_held_out`),
so evaluation prompts were never a caption. How things look is left to `drawing`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from scripts.starter.drawing import PAINTERS, SCENERY, Canvas, Light, Pose, Rgb

OBJECTS: tuple[str, ...] = ("mug", "bottle", "box", "T-shirt", "tote bag", "lamp", "phone", "sign")
COLOURS: dict[str, Rgb] = {
    "red": (206.0, 40.0, 44.0), "orange": (240.0, 130.0, 34.0), "yellow": (246.0, 208.0, 58.0),
    "green": (42.0, 146.0, 78.0), "blue": (44.0, 92.0, 204.0), "purple": (124.0, 64.0, 176.0),
    "pink": (244.0, 136.0, 180.0), "brown": (112.0, 68.0, 42.0), "black": (40.0, 40.0, 44.0),
    "white": (246.0, 246.0, 244.0),
}  # fmt: skip
BACKGROUNDS: dict[str, tuple[str, ...]] = {
    "studio": ("in a plain studio", "on a plain background"),
    "table": ("on a wooden table",),
    "brick": ("in front of a brick wall", "by a brick wall"),
    "beach": ("on the beach", "at the beach"),
    "garden": ("in the garden", "on the grass in the garden"),
}
WORDS: tuple[str, ...] = (
    "OPEN", "SALE", "NEW", "HELLO", "TEA", "LOVE", "HOME", "BEST", "FREE", "SHOP", "JOY", "STOP",
)  # fmt: skip
LETTERED: tuple[str, ...] = ("box", "T-shirt", "tote bag", "sign")
COUNTS: tuple[int, ...] = (1, 2, 3)
Split = Literal["train", "held_out", "all"]

_NUMBERS = {2: "two", 3: "three"}
_PLURALS = {"box": "boxes"}
_HALF = {1: 0.335, 2: 0.24, 3: 0.172}  # half height of an object, in frame heights
_LEAN = {"mug": 0.84, "box": 0.92, "T-shirt": 0.96, "sign": 0.96}  # wide objects are drawn a little smaller
_CROWD = {"T-shirt": 0.86, "sign": 0.84, "box": 0.9, "lamp": 0.96, "mug": 0.94}  # and smaller again when in company
_CELL = 1 / 16  # of the frame: a word moves by whole latents, so a small model needs to know its letters at one phase only
_OPENINGS = ("", "", "a photo of ", "a product photo of ", "a mockup of ", "an image of ")


@dataclass(frozen=True, slots=True)
class Spec:
    """One scene by what its caption says. `word` only with one object that can bear it."""

    object: str
    colour: str
    background: str
    count: int = 1
    word: str | None = None

    def __post_init__(self) -> None:
        assert self.object in OBJECTS and self.colour in COLOURS and self.background in BACKGROUNDS
        assert self.count in COUNTS
        assert self.word is None or (self.word in WORDS and self.count == 1 and self.object in LETTERED)

    def code(self) -> tuple[int, int, int, int, int]:
        """The scene as numbers, each the place of a value in its list; `decoded` is the way back."""
        places = OBJECTS.index(self.object), list(COLOURS).index(self.colour), list(BACKGROUNDS).index(self.background)
        return *places, self.count, -1 if self.word is None else WORDS.index(self.word)

    @classmethod
    def decoded(cls, code: Sequence[int]) -> Spec:
        """The scene of a `code`."""
        thing, colour, background, count, word = (int(part) for part in code)
        known = OBJECTS[thing], list(COLOURS)[colour], list(BACKGROUNDS)[background]
        return cls(*known, count, None if word < 0 else WORDS[word])


def is_held_out(spec: Spec) -> bool:
    """Whether the combination is kept from training: exactly one in five, along a diagonal of the four attributes.

    Each pair of attribute values still occurs in training; the whole combination, and so its caption, does not.
    """
    place = OBJECTS.index(spec.object) + 2 * list(COLOURS).index(spec.colour) + list(BACKGROUNDS).index(spec.background)
    mark = 0 if spec.word is None else 1 + WORDS.index(spec.word)
    return (place + spec.count + mark) % 5 == 0


def all_specs(split: Split = "all") -> list[Spec]:
    """Every scene of the world, in a fixed order."""
    plain = [Spec(o, c, b, n) for o, c, b, n in product(OBJECTS, COLOURS, BACKGROUNDS, COUNTS)]
    worded = [Spec(o, c, b, 1, w) for o, c, b, w in product(LETTERED, COLOURS, BACKGROUNDS, WORDS)]
    specs = plain + worded
    return specs if split == "all" else [spec for spec in specs if is_held_out(spec) == (split == "held_out")]


def sample_spec(rng: np.random.Generator, split: Split = "train") -> Spec:
    """A random scene of the split: objects, colours and backgrounds evenly; half of the lettered singles bear a word."""
    while True:
        thing = str(rng.choice(OBJECTS))
        count = int(rng.choice(COUNTS, p=(0.5, 0.25, 0.25)))
        word: str | None = None
        if count == 1 and thing in LETTERED and rng.random() < (0.85 if thing == "sign" else 0.5):
            word = str(rng.choice(WORDS))
        spec = Spec(thing, str(rng.choice(list(COLOURS))), str(rng.choice(list(BACKGROUNDS))), count, word)
        if split == "all" or is_held_out(spec) == (split == "held_out"):
            return spec


def captions(spec: Spec) -> tuple[str, ...]:
    """All phrasings of a scene; the first is the plainest. Deterministic, 2 to 20 of them."""
    plural = _PLURALS.get(spec.object, spec.object + "s")
    article = "an" if spec.colour[0] in "aeiou" else "a"
    noun = f"{article} {spec.colour} {spec.object}" if spec.count == 1 else f"{_NUMBERS[spec.count]} {spec.colour} {plural}"
    if spec.word is None:
        subjects = [noun]
    else:
        subjects = [f'{noun} that says "{spec.word}"', f'{noun} with the word "{spec.word}"', f'{noun} with the text "{spec.word}"']
    places = BACKGROUNDS[spec.background]
    texts = [f"{start}{subject} {place}" for start in _OPENINGS for subject in subjects for place in places]
    return tuple(dict.fromkeys(texts))


def draw(spec: Spec, seed: int) -> NDArray[np.uint8]:
    """The scene as uint8 (256, 256, 3), sRGB. The same spec and seed give the same pixels.

    The seed moves the objects, their size, the light, the horizon and the shade of the colour. What bears a word has one
    size and three places.
    """
    return compose(spec, seed).finish()


def compose(spec: Spec, seed: int) -> Canvas:
    """The scene before it is scaled down; its `lettering` says where the word stands."""
    rng = np.random.default_rng([seed, 0x57A2])
    light = Light(side=float(rng.choice((-1.0, 1.0)) * rng.uniform(0.6, 1.0)), strength=float(rng.uniform(0.85, 1.15)))
    canvas = Canvas(light)
    horizon = float(rng.uniform(0.56, 0.64))
    SCENERY[spec.background](canvas, horizon, rng)
    colour = _vary(COLOURS[spec.colour], rng)
    flip = float(rng.choice((-1.0, 1.0)))
    size, rise, shift = rng.uniform(0.9, 1.08), rng.uniform(-0.025, 0.025), rng.uniform(-0.055, 0.055) / spec.count
    if spec.word is not None:
        size, rise, shift = 1.05, 0.0, float(rng.choice((-1, 0, 1))) * _CELL
    for x, base, half in slots(spec):
        pose = Pose(x + float(shift), base + float(rise), half * float(size), flip)
        PAINTERS[spec.object](canvas, pose, colour, spec.word)
    return canvas


def slots(spec: Spec) -> list[tuple[float, float, float]]:
    """Where the objects stand on average: (x of the middle, y of the base, half height) of each, frame units."""
    half = _HALF[spec.count] * _LEAN.get(spec.object, 1.0)
    if spec.count > 1:
        half *= _CROWD.get(spec.object, 1.0)
    base, pitch = {1: (0.87, 0.0), 2: (0.82, 0.46), 3: (0.78, 0.315)}[spec.count]
    return [(0.5 + (index - (spec.count - 1) / 2) * pitch, base, half) for index in range(spec.count)]


def _vary(colour: Rgb, rng: np.random.Generator) -> Rgb:
    """A neighbouring shade: brightness within 7 %, each channel within 6 levels."""
    gain = rng.uniform(0.93, 1.05)
    mixed = np.clip(np.asarray(colour) * gain + rng.uniform(-6, 6, 3), 0, 255)
    return float(mixed[0]), float(mixed[1]), float(mixed[2])
