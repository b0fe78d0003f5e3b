"""Sizes as people say them: `1200x628`, `story`, `4:5`. Pure."""

from __future__ import annotations

import functools
import math
import re

from renderfarm.sources.headers import plain

NAMED: dict[str, tuple[int, int]] = {
    **dict.fromkeys(("story", "stories", "instagramstory", "facebookstory", "reel", "reels", "tiktok", "shorts", "snapchat"), (1080, 1920)),
    **dict.fromkeys(("square", "instagramsquare", "feedsquare", "quadrat"), (1080, 1080)),
    **dict.fromkeys(("portrait", "instagramportrait", "feedportrait", "hochformat"), (1080, 1350)),
    **dict.fromkeys(("instagramlandscape",), (1080, 566)),
    **dict.fromkeys(("facebooklink", "facebookad", "linkad", "googlelandscape", "responsivelandscape"), (1200, 628)),
    **dict.fromkeys(("opengraph", "ogimage", "og"), (1200, 630)),
    **dict.fromkeys(("linkedin", "linkedinpost", "linkedinad"), (1200, 627)),
    **dict.fromkeys(("xpost", "xcard", "twitter", "twittercard", "tweet"), (1200, 675)),
    **dict.fromkeys(("pin", "pinterest", "pinterestpin"), (1000, 1500)),
    **dict.fromkeys(("mpu", "mediumrectangle", "mrec"), (300, 250)),
    **dict.fromkeys(("largerectangle",), (336, 280)),
    **dict.fromkeys(("leaderboard",), (728, 90)),
    **dict.fromkeys(("largeleaderboard",), (970, 90)),
    **dict.fromkeys(("billboard",), (970, 250)),
    **dict.fromkeys(("halfpage", "filmstrip"), (300, 600)),
    **dict.fromkeys(("wideskyscraper",), (160, 600)),
    **dict.fromkeys(("mobilebanner", "mobileleaderboard"), (320, 50)),
    **dict.fromkeys(("largemobilebanner",), (320, 100)),
    **dict.fromkeys(("fullbanner",), (468, 60)),
    **dict.fromkeys(("youtubethumbnail", "youtube", "thumbnail", "hd", "720p"), (1280, 720)),
    **dict.fromkeys(("fullhd", "1080p", "fhd"), (1920, 1080)),
    **dict.fromkeys(("4k", "uhd"), (3840, 2160)),
}
"""Advertising formats by the names that the IAB, Meta, Google, LinkedIn, X, Pinterest and YouTube give them, by `headers.plain`."""
_TWO = {
    "banner": "fullbanner (468x60), billboard (970x250) or mobile banner (320x50)",
    "skyscraper": "120x600 or wide skyscraper (160x600)",
    "landscape": "1200x628, 1080x566 or the aspect 16:9",
    "wide": "the aspect 16:9 or 21:9",
}
_PIXELS = re.compile(r"(?<!\d)([0-9]{1,5})\s*(?:px|w)?\s*(?:[x×*X]|by|mal)\s*([0-9]{1,5})\s*(?:pixels?|px|h)?(?![\w])")
_RATIO = re.compile(r"(?<![\d.,:])([0-9]{1,4}(?:[.,][0-9]{1,3})?)\s*[:/∶]\s*([0-9]{1,4}(?:[.,][0-9]{1,3})?)(?::00)?(?![\d:])")
_TO_ONE = re.compile(r"[0-9]{1,2}[.,][0-9]{1,3}")
_SIDE_MIN = 64
"""Below, `4x5` is an aspect: no row may have such a side."""
_STEP = 16
"""Sides are multiples of this where only the aspect is said: every family takes it (8 for Stable Diffusion, 16 for FLUX and SD3)."""


@functools.lru_cache(maxsize=4096)
def size_of(text: str, pixels: int) -> tuple[int, int]:
    """Width and height of a named format, a size, or an aspect at about `pixels`, with words around it. Raises: ValueError in words."""
    if both := _TWO.get(plain(text)):
        raise ValueError(f"{text!r} may be {both}")
    words = _PIXELS.sub(" ", _RATIO.sub(" ", text))
    named = next((NAMED[name] for name in (_name(text), _name(words), _name(re.sub(r"\([^()]*\)", "", words))) if name in NAMED), None)
    sizes = {size for match in _PIXELS.finditer(text) if min(size := (int(match[1]), int(match[2]))) >= _SIDE_MIN}
    if named is not None:
        sizes.add(named)
    if len(sizes) > 1:
        raise ValueError(f"{text!r} may be {' or '.join(f'{wide}x{high}' for wide, high in sorted(sizes))}")
    if not sizes:
        return aspect_size(text, pixels)
    wide, high = next(iter(sizes))
    if _RATIO.search(text) and (sides := ratio(text)) and abs(wide * sides[1] / (high * sides[0]) - 1) > 0.03:
        raise ValueError(f"{text!r} may be {wide}x{high} or the aspect {sides[0]:g}:{sides[1]:g}")
    return wide, high


def _name(text: str) -> str:
    return re.sub(r"^(?:ig|insta)(?=story|stories|reel|portrait|landscape|square)", "instagram", plain(text))


def aspect_size(text: str, pixels: int) -> tuple[int, int]:
    """The size of about `pixels` with the aspect of `16:9`: exactly that where a size near enough has it. Raises: ValueError in words."""
    wide, high = ratio(text)
    if wide == int(wide) and high == int(high):
        common = math.gcd(int(wide), int(high))
        a, b = int(wide) // common, int(high) // common
        # The smallest width and height with this aspect that are multiples of the step, and how often they go into the area.
        unit = math.lcm(_STEP // math.gcd(a, _STEP), _STEP // math.gcd(b, _STEP))
        times = max(1, round(math.sqrt(pixels / (a * b * unit * unit))))
        area = a * b * (unit * times) ** 2
        if 0.75 <= area / pixels <= 1.34:
            return a * unit * times, b * unit * times
    width = math.sqrt(pixels * wide / high)
    return max(_STEP, round(width / _STEP) * _STEP), max(_STEP, round(width * high / wide / _STEP) * _STEP)


def ratio(text: str) -> tuple[float, float]:
    """The two sides of the one aspect in a text. Raises: ValueError in words for none, for several, and for one that no picture has."""
    told = [match.groups() for pattern in (_RATIO, _PIXELS) for match in pattern.finditer(text)]
    if _TO_ONE.fullmatch(text.strip()):
        told = [(text.strip(), "1")]
    found = {tuple(float(side.replace(",", ".")) for side in sides) for sides in told}
    wide, high = next(iter(found)) if len(found) == 1 else (0.0, 0.0)
    if not (wide and high and 1 / 20 <= wide / high <= 20):
        raise ValueError(f"{text!r} is no size: write 1200x628, 16:9 or the name of a format such as story")
    return wide, high
