"""Pictures that the project draws for the benchmarks of the checks: mockups, signs, edits and pasted copies. Seeded, no files.

All pictures are uint8 (H, W, 3), sRGB. The font is the one that Pillow carries.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter, ImageFont

Picture = npt.NDArray[np.uint8]
WORDS = tuple(
    "OPEN CLOSED SALE COFFEE BAKERY FRESH BREAD SUMMER MARKET WELCOME TODAY SPECIAL GARDEN CENTER PHARMACY HOTEL PARKING MUSIC FESTIVAL "  # noqa: SIM905
    "Books Flowers Pizza Kitchen Garage Studio Harbor Bridge Station Library Winter Season Organic Orange Tea House Village North".split()
)
SHAPES = ("mug", "bottle", "box", "lamp", "shirt")
COLOURS = ((200, 40, 40), (40, 90, 200), (40, 150, 70), (235, 190, 40), (120, 60, 150), (240, 240, 235), (60, 60, 65), (230, 120, 40))


def mockup(rng: np.random.Generator, shape: str, colour: int, ground: int, side: int = 512) -> Picture:
    """A flat product drawing; the prompt is (shape, colour, ground), the generator is the seed: pose, size, light, props."""
    scale = side / 512
    image = Image.new("RGB", (side, side), _shade(COLOURS[ground], rng.uniform(0.7, 1.1)))
    draw = ImageDraw.Draw(image)
    horizon = int(rng.uniform(0.55, 0.8) * side)
    draw.rectangle([0, horizon, side, side], fill=_shade(COLOURS[ground], rng.uniform(0.4, 0.65)))
    for _ in range(int(rng.integers(2, 7))):
        x, y, r = rng.uniform(0, side), rng.uniform(0, horizon), rng.uniform(10, 60) * scale
        draw.ellipse([x - r, y - r, x + r, y + r], fill=_shade(COLOURS[int(rng.integers(8))], rng.uniform(0.6, 1.1)))
    x, size = rng.uniform(0.3, 0.7) * side, rng.uniform(90, 160) * scale
    _product(draw, shape, x, horizon + size * rng.uniform(0.1, 0.5), size, COLOURS[colour])
    return _grained(image, rng, 2.0)


def _product(draw: ImageDraw.ImageDraw, shape: str, x: float, foot: float, size: float, colour: tuple[int, int, int]) -> None:
    dark, light = _shade(colour, 0.6), _shade(colour, 1.25)
    draw.ellipse([x - size, foot - size * 0.15, x + size, foot + size * 0.2], fill=(50, 45, 45))
    if shape == "mug":
        draw.ellipse([x + size * 0.4, foot - size, x + size * 1.1, foot - size * 0.3], outline=dark, width=max(2, int(size / 8)))
    if shape == "lamp":
        draw.rectangle([x - size * 0.06, foot - size, x + size * 0.06, foot], fill=dark)
        draw.polygon(
            [
                (x - size * 0.7, foot - size),
                (x + size * 0.7, foot - size),
                (x + size * 0.3, foot - size * 1.8),
                (x - size * 0.3, foot - size * 1.8),
            ],
            fill=colour,
        )
        return
    height = {"mug": 1.2, "bottle": 1.5, "box": 1.0, "shirt": 1.3}[shape] * size
    half = {"mug": 0.6, "bottle": 0.4, "box": 0.9, "shirt": 0.7}[shape] * size
    draw.rounded_rectangle([x - half, foot - height, x + half, foot], radius=size * 0.1, fill=colour)
    draw.rectangle([x - half * 0.7, foot - height * 0.9, x - half * 0.45, foot - height * 0.15], fill=light)
    if shape == "bottle":
        draw.rectangle([x - half * 0.35, foot - height * 1.35, x + half * 0.35, foot - height], fill=dark)
    if shape == "shirt":
        draw.polygon([(x - half, foot - height), (x - half * 1.7, foot - height * 0.6), (x - half, foot - height * 0.5)], fill=dark)
        draw.polygon([(x + half, foot - height), (x + half * 1.7, foot - height * 0.6), (x + half, foot - height * 0.5)], fill=dark)


def _shade(colour: tuple[int, int, int], factor: float) -> tuple[int, int, int]:
    red, green, blue = (int(min(255, max(0, c * factor))) for c in colour)
    return red, green, blue


def _grained(image: Image.Image, rng: np.random.Generator, sigma: float) -> Picture:
    array = np.asarray(image, np.float32) + rng.normal(0, sigma, (image.height, image.width, 1)).astype(np.float32)
    return np.clip(np.rint(array), 0, 255).astype(np.uint8)


def sign(rng: np.random.Generator, text: str, side: int = 512) -> Picture:
    """A sign with a text of one to four words, one or two to a line, turned and seen at a slant, with blur and noise."""
    words = text.split()
    lines = [" ".join(words[i : i + 2]) for i in range(0, len(words), 2)]
    board = Image.new("RGB", (side, side), _shade(COLOURS[int(rng.integers(8))], rng.uniform(0.5, 1.0)))
    draw = ImageDraw.Draw(board)
    ground = COLOURS[int(rng.integers(8))]
    ink = (20, 20, 20) if sum(ground) > 330 else (245, 245, 245)
    longest = max(map(len, lines), default=1)
    size = min(0.72 * side / max(1, longest) / 0.6, 0.5 * side / max(1, len(lines)) / 1.3, 0.2 * side) * rng.uniform(0.7, 1.0)
    font = ImageFont.load_default(size=size)
    height = len(lines) * size * 1.3
    draw.rounded_rectangle([side * 0.08, (side - height) / 2 - size * 0.5, side * 0.92, (side + height) / 2 + size * 0.5], 12, fill=ground)
    for n, line in enumerate(lines):
        draw.text((side / 2, (side - height) / 2 + (n + 0.5) * size * 1.3), line, fill=ink, font=font, anchor="mm")
    slant = rng.uniform(-0.12, 0.12, 8) * side * 0.5
    corners = np.array([0, 0, 0, side, side, side, side, 0]) + slant
    board = board.transform(board.size, Image.Transform.QUAD, tuple(corners), Image.Resampling.BICUBIC)
    return _grained(board.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.8))), rng, rng.uniform(0, 8))


def spoiled(rng: np.random.Generator, text: str) -> str:
    """The text with one fault of a diffusion model: a letter changed, lost, or doubled, a word doubled, or one lost."""
    words = text.split()
    k = int(rng.integers(len(words)))
    word = words[k]
    i = int(rng.integers(1, len(word)))
    kind = int(rng.integers(5 if len(words) > 1 else 4))
    if kind == 0:
        old = word[i]
        choice = "ABDEGHKMNPRSTUVW" if old.isupper() else "abdeghkmnprstuvw"
        word = word[:i] + str(rng.choice([c for c in choice if c != old])) + word[i + 1 :]
    elif kind == 1:
        word = word[:i] + word[i + 1 :]
    elif kind == 2:
        word = word[:i] + word[i] + word[i:]
    words[k : k + 1] = [word, word] if kind == 3 else [] if kind == 4 else [word]
    return " ".join(words)


def edits() -> dict[str, Callable[[Picture, np.random.Generator], Picture]]:
    """Random edits that leave a picture the same to a person, by name."""
    return {
        "jpeg": lambda p, r: _jpeg(p, int(r.integers(40, 91))),
        "resize": lambda p, r: _resize(p, r.uniform(0.5, 1.5)),
        "brightness": lambda p, r: np.clip(p * r.uniform(0.85, 1.15) + r.uniform(-10, 10), 0, 255).astype(np.uint8),
        "noise": lambda p, r: np.clip(p + r.normal(0, r.uniform(2, 8), p.shape), 0, 255).astype(np.uint8),
        "blur": lambda p, r: np.asarray(Image.fromarray(p).filter(ImageFilter.GaussianBlur(r.uniform(0.5, 2)))),
        "crop": lambda p, r: _crop(p, r.uniform(0.005, 0.02)),
        "mirror": lambda p, r: np.ascontiguousarray(p[:, ::-1]),
        "turn": lambda p, r: np.ascontiguousarray(np.rot90(p, int(r.integers(1, 4)))),
        "seed": lambda p, r: _jpeg(np.clip(p + r.normal(0, 3, p.shape), 0, 255).astype(np.uint8), 85),
    }


def _jpeg(picture: Picture, quality: int) -> Picture:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file).convert("RGB"))


def _resize(picture: Picture, factor: float) -> Picture:
    size = (round(picture.shape[1] * factor), round(picture.shape[0] * factor))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))


def _crop(picture: Picture, share: float) -> Picture:
    edge = max(1, int(share * min(picture.shape[:2])))
    return np.ascontiguousarray(picture[edge:-edge, edge:-edge])


def texture(rng: np.random.Generator, side: int = 512) -> Picture:
    """A picture with detail at every scale, like ground or foliage, and some objects: what copies are pasted into."""
    total = np.zeros((side, side, 3), np.float32)
    for level in range(1, 8):
        cells = max(2, side >> level)
        layer = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
        total += (np.asarray(layer, np.float32) - 128) * 2.0 ** (level * 0.5) * 0.12
    image = Image.fromarray(np.clip(total + 128, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(1, 5))):
        size = rng.uniform(40, 100) * side / 512
        shape, colour = SHAPES[int(rng.integers(5))], COLOURS[int(rng.integers(8))]
        _product(draw, shape, rng.uniform(0.1, 0.9) * side, rng.uniform(0.3, 0.95) * side, size, colour)
    return _grained(image, rng, 3.0)


def pasted(rng: np.random.Generator, picture: Picture) -> Picture:
    """The picture with one of its own patches (8 to 25 % of a side) pasted elsewhere, a little turned and scaled, as JPEG 85."""
    side = min(picture.shape[:2])
    size = int(rng.uniform(0.08, 0.25) * side)
    limit = side - size
    while True:
        x, y, u, v = (int(rng.integers(0, limit)) for _ in range(4))
        if max(abs(x - u), abs(y - v)) > size * 1.1:
            break
    patch = Image.fromarray(picture[y : y + size, x : x + size])
    patch = patch.rotate(rng.uniform(-10, 10), Image.Resampling.BICUBIC).resize((int(size * rng.uniform(0.9, 1.1)),) * 2)
    mask = Image.new("L", patch.size, 0)
    ImageDraw.Draw(mask).ellipse([2, 2, patch.width - 3, patch.height - 3], fill=255)
    image = Image.fromarray(picture)
    image.paste(patch, (u, v), mask.filter(ImageFilter.GaussianBlur(2)))
    return _jpeg(np.asarray(image), 85)
