"""`{red|blue} mug`, `{2$$a|b|c}` and `__colour__` → the prompts that they stand for, as the extension Dynamic Prompts of A1111 reads them.

All combinations, or some at random from a seed; how many there are is known before one is made. `__name__` is a file of the folder that
`--wildcards` names, one text a line, and may hold such syntax itself, five deep at most. Pure but for reading those files.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

DEPTH_MAX = 5
FILE_BYTES_MAX = 16 << 20
_WILD = re.compile(r"__([~!@]?[\w.*/](?:[\w /.*-]*?[\w*])?(?:\([^()]*\))?)__")
_BOUNDS = re.compile(r"\s*(\d{1,3})?\s*(-)?\s*(\d{1,3})?\s*\$\$(?:([^|{}]*?)\$\$)?")
_WEIGHT = re.compile(r"\s*(\d+(?:\.\d+)?|\.\d+)::")
_VARIABLE = re.compile(r"\$\{\s*\w+\s*=")
_SAMPLER = re.compile(r"\s*([~!@])(?=[^\s|}])")
HAS = re.compile(rf"\{{[^{{}}]*\||\{{\s*\d+(?:-\d*)?\$\$|\|[^{{}}]*\}}|{_WILD.pattern}|{_VARIABLE.pattern}")
"""Whether a prompt may hold any of it."""


class NoVariants(Exception):
    """A prompt whose syntax cannot be read. Never leaves this room."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what, remedy)
        self.what, self.remedy = what, remedy


@dataclass(frozen=True, slots=True)
class _Choice:
    """`low` to `high` of the options, each with its weight, joined by `between`."""

    low: int
    high: int
    between: str
    options: tuple[tuple[float, _Words], ...]


_Words = tuple["str | _Choice", ...]


class Wildcards:
    """The lists of a folder, read when they are first named."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._lists: dict[tuple[str, int], _Choice] = {}

    def choice(self, name: str, depth: int) -> _Choice:
        """The lines of one list as a choice of one. Raises: NoVariants."""
        if name[0] in "~!@":
            raise NoVariants(f"{name[0]!r} before a choice says how it is drawn", "remove it; --variants N takes some at random")
        if name.endswith(")"):
            raise NoVariants(f"__{name}__ gives a list a variable, which is not read here", "write the words")
        if depth > DEPTH_MAX:
            raise NoVariants(f"__{name}__ stands more than {DEPTH_MAX} deep in other lists", "does a list name itself?")
        if (name, depth) not in self._lists:
            self._lists[name, depth] = _Choice(1, 1, "", tuple(self._option(line, name, depth) for line in self._lines(name)))
        return self._lists[name, depth]

    def _option(self, line: str, name: str, depth: int) -> tuple[float, _Words]:
        weight, line = _weighted(line)
        try:
            return weight, parsed(line, self, depth + 1)
        except NoVariants as error:
            raise NoVariants(f"in the list {name!r}: {error.what}", error.remedy) from error

    def _lines(self, name: str) -> list[str]:
        """The lines of a list; with `*` in its name, of all whose names fit, each line once."""
        if self._folder is None:
            raise NoVariants(f"__{name}__ names a list, and no folder of lists is given", "give it: --wildcards DIR; or write the words")
        if "*" not in name:
            return self._lines_of(name)
        if {"", ".", ".."} & set(name.split("/")):
            raise NoVariants(f"__{name}__ is no plain name of a list", "use names without .. and without links")
        fitting = sorted(path.relative_to(self._folder) for path in self._folder.glob(f"{name}.txt"))
        plain = [path for path in fitting if not any((self._folder / part).is_symlink() for part in (path, *path.parents))]
        if not plain:
            raise NoVariants(f"there is no list {name}.txt in the folder of --wildcards", "check its name")
        return list(dict.fromkeys(line for path in plain for line in self._lines_of(path.with_suffix("").as_posix())))

    def _lines_of(self, name: str) -> list[str]:
        assert self._folder is not None
        path, parts = self._folder, name.split("/")
        for part in parts:
            path = path / part
            if part in ("", ".", "..") or path.is_symlink() or path.with_name(f"{path.name}.txt").is_symlink():
                raise NoVariants(f"__{name}__ is no plain name of a list", "use names without .. and without links")
        path = path.with_name(f"{path.name}.txt")
        try:
            if path.stat().st_size > FILE_BYTES_MAX:
                raise NoVariants(f"{name}.txt has more than {FILE_BYTES_MAX >> 20} MiB", "split it")
            text = path.read_text(encoding="utf-8-sig")
        except OSError as error:
            raise NoVariants(f"there is no list {name}.txt in the folder of --wildcards", "check its name") from error
        except UnicodeDecodeError as error:
            raise NoVariants(f"{name}.txt is not UTF-8", "save it as UTF-8") from error
        lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
        if not lines:
            raise NoVariants(f"{name}.txt holds no line", "write one text a line")
        return lines


def parsed(prompt: str, wildcards: Wildcards, depth: int = 0) -> _Words:
    """The prompt as words and choices. Raises: NoVariants."""
    try:
        words, rest = _words(prompt, 0, wildcards, depth, inside=False)
    except RecursionError:
        raise NoVariants("braces stand too deep in each other", "write it simpler") from None
    assert rest == len(prompt), "outside of braces the whole text is read"
    return words


def count(words: _Words) -> int:
    """How many texts these stand for."""
    return math.prod(1 if isinstance(word, str) else _count_choice(word) for word in words)


def every(words: _Words) -> Iterator[str]:
    """All of them, the first choice turning slowest."""
    if not words:
        yield ""
        return
    for first in [words[0]] if isinstance(words[0], str) else _every_choice(words[0]):
        for rest in every(words[1:]):
            yield first + rest


def some(words: _Words, number: int, seed: str) -> list[str]:
    """`number` different ones at random, or as many as there are; the same for the same seed on every machine."""
    if count(words) <= number:
        return list(dict.fromkeys(every(words)))
    # random() alone is promised to stay the same over versions of Python; so nothing else of it is used.
    draw = random.Random(hashlib.sha256(seed.encode()).digest()).random
    texts: dict[str, None] = {}
    for _ in range(50 * number):
        texts[_drawn(words, draw)] = None
        if len(texts) == number:
            break
    return list(texts)


def _words(text: str, at: int, wildcards: Wildcards, depth: int, inside: bool) -> tuple[_Words, int]:
    """Words and choices up to the end, or up to a `|` or `}` inside braces; and where that is."""
    words: list[str | _Choice] = []
    plain = ""
    while at < len(text):
        char = text[at]
        if char == "\\" and text[at + 1 : at + 2] in ("{", "}", "|"):
            plain, at = plain + text[at + 1], at + 2
            continue
        if inside and char in "|}":
            break
        if char == "}":
            raise NoVariants("a brace } closes nothing", "open it: {red|blue}; or write \\}")
        if variable := _VARIABLE.match(text, at):
            raise NoVariants(f"{variable.group()}…}} sets a variable, which is not read here", "write the words")
        if char == "{":
            choice, end = _braces(text, at, wildcards, depth)
            words += [plain, choice] if choice else [plain + text[at:end]]
            plain, at = "", end
        elif match := _WILD.match(text, at):
            words += [plain, wildcards.choice(match.group(1), depth + 1)]
            plain, at = "", match.end()
        else:
            plain, at = plain + char, at + 1
    return tuple(word for word in (*words, plain) if word != ""), at


def _braces(text: str, at: int, wildcards: Wildcards, depth: int) -> tuple[_Choice | None, int]:
    """The choice that begins here and where it ends; None for braces without a choice, which are shown as they stand."""
    start = at + 1
    bounds = _BOUNDS.match(text, start)
    if bounds:
        start = bounds.end()
    if sampler := _SAMPLER.match(text, start):
        mark = sampler.group(1)
        raise NoVariants(f"{mark!r} before a choice says how it is drawn", "remove it; --variants N takes some at random")
    options: list[tuple[float, _Words]] = []
    while True:
        weight = _WEIGHT.match(text, start)
        inner, end = _words(text, weight.end() if weight else start, wildcards, depth + 1, inside=True)
        if end >= len(text):
            raise NoVariants("a brace { is opened and not closed", "close it: {red|blue}")
        options.append((float(weight.group(1)) if weight else 1.0, _trimmed(inner)))
        start = end + 1
        if text[end] == "}":
            break
    if len(options) == 1 and not bounds:
        grouped = any(isinstance(word, _Choice) for word in options[0][1])
        return (_Choice(1, 1, "", tuple(options)) if grouped else None), start
    low, high = 1, 1
    if bounds:
        first, dash, last = bounds.group(1), bounds.group(2), bounds.group(3)
        low = int(first) if first else 0 if dash else 1
        high = int(last) if last else len(options) if dash else low
        if len(options) == 1 and isinstance(options[0][1][:1], tuple) and len(options[0][1]) == 1 and isinstance(options[0][1][0], _Choice):
            options = list(options[0][1][0].options)  # {2$$__colour__}: two lines of one list
            high = min(high, len(options)) if dash and not last else high
    if not 0 <= low <= high <= len(options):
        raise NoVariants(f"{text[at:start]!r} asks for {low} to {high} of {len(options)}", "ask for as many as there are")
    return _Choice(low, high, (bounds.group(4) if bounds and bounds.group(4) is not None else ","), tuple(options)), start


def _trimmed(words: _Words) -> _Words:
    """An option without blanks at its ends: `{red | blue}` holds `red`."""
    trimmed = list(words)
    if trimmed and isinstance(trimmed[0], str):
        trimmed[0] = trimmed[0].lstrip()
    if trimmed and isinstance(trimmed[-1], str):
        trimmed[-1] = trimmed[-1].rstrip()
    return tuple(word for word in trimmed if word != "")


def _weighted(line: str) -> tuple[float, str]:
    match = _WEIGHT.match(line)
    return (float(match.group(1)), line[match.end() :]) if match else (1.0, line)


def _count_choice(choice: _Choice) -> int:
    """One of n: the sum. More: permutations, by elementary symmetric sums over how often each option stands for a text."""
    counts = [count(option) for _, option in choice.options]
    if choice.high == 1:
        return sum(counts) + (choice.low == 0)
    sums = [1] + [0] * choice.high
    for number in counts:
        for size in range(choice.high, 0, -1):
            sums[size] += sums[size - 1] * number
    return sum(math.factorial(size) * sums[size] for size in range(choice.low, choice.high + 1))


def _every_choice(choice: _Choice) -> Iterator[str]:
    for size in range(choice.low, choice.high + 1):
        for picked in itertools.permutations([option for _, option in choice.options], size):
            for texts in itertools.product(*(list(every(option)) for option in picked)):
                yield choice.between.join(texts)


def _drawn(words: _Words, draw: Callable[[], float]) -> str:
    parts = []
    for word in words:
        if isinstance(word, str):
            parts.append(word)
            continue
        left = list(word.options)
        picked = []
        for _ in range(word.low + int(draw() * (word.high - word.low + 1))):
            point = draw() * sum(weight for weight, _ in left)
            at = 0
            while at < len(left) - 1 and (point := point - left[at][0]) >= 0:
                at += 1
            picked.append(_drawn(left.pop(at)[1], draw))
        parts.append(word.between.join(picked))
    return "".join(parts)
