"""Compares the words that were read in a picture with the words that were wanted. Pure; no image, no model.

Layout, case, accents and punctuation do not count: signs break lines, join words and are lettered in capitals. The score is the smaller of
two numbers, less a penalty for unexpected and for doubled words: the share of the wanted words that were read, and 1 - the share of
their letters that would have to be edited. Four rules were tuned on 32 labelled pictures (18 wrong, 14 right):

- one wrong word costs at least 1/8 (`DILUTION`): in a long text one misspelt word is still what people reject;
- an unexpected word weighs by its letters, its height beside the wanted words, and the reader's confidence. So a far-off advertisement
  board does not reject a scoreboard, and an ornament that was read as one letter does not count;
- a wanted word repeated in its own line (PARK PARK), or a word of the prompt misspelt beside the text (BAKARY), costs .15 by itself;
- letters that cannot be told apart in print (I l 1 |, O 0) are equal.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from renderfarm.schema import Box

DILUTION = 8
UNEXPECTED_WEIGHT, DOUBLED_WEIGHT, ONE_FAULT = 0.5, 0.8, 0.15
PENALTY_MAX = 0.6
SLIPS = 1
SURE, UNSURE = 0.95, 0.6
"""Confidence of the reader from which an unexpected word counts fully, and up to which not at all."""

_NUMBER_INSIDE = re.compile(r"(?<=\d)[.,:](?=\d)")
_APOSTROPHES = re.compile(r"['’‘`´ʼ]")
_IDEOGRAPHS = "぀-ヿ㐀-䶿一-鿿豈-﫿"
_TOKEN = re.compile(rf"[{_IDEOGRAPHS}]|(?:(?![{_IDEOGRAPHS}])[\w%€$£#@°])+")
_RUNS = re.compile(r"(.)\1+")
_TALL = frozenset("Il1|i")
_ROUND = frozenset("Oo0")
_AND = frozenset({"and", "und", "et", "y", "e"})


@dataclass(frozen=True, slots=True)
class Line:
    """One line that the reader found: its text, the confidence 0..1, where it stands, and the height of its letters in pixels."""

    text: str
    confidence: float
    box: Box
    height: float


@dataclass(frozen=True, slots=True)
class TextWord:
    """One comparable word: `shown` as it was written, `key` folded for comparing, and the line it came from (-1: wanted)."""

    shown: str
    key: str
    line: int = -1


@dataclass(frozen=True, slots=True)
class TextComparison:
    """The score 0..1 and what was wrong: words misread (wanted, read), missing, unexpected and doubled."""

    score: float
    misspelt: tuple[tuple[TextWord, TextWord], ...] = ()
    missing: tuple[TextWord, ...] = ()
    unexpected: tuple[TextWord, ...] = ()
    doubled: tuple[TextWord, ...] = ()

    @property
    def stuttered(self) -> bool:
        """Whether a word was read with a letter once more than wanted (Helllo). Readers drop a letter that comes twice, they add none."""
        return any(
            len(read.key) > len(want.key) and _RUNS.sub(r"\1", read.key.casefold()) == _RUNS.sub(r"\1", want.key.casefold())
            for want, read in self.misspelt
        )

    @property
    def lines(self) -> tuple[int, ...]:
        """Indices of the lines with something wrong in them."""
        return tuple(sorted({w.line for w in (*(r for _, r in self.misspelt), *self.unexpected, *self.doubled)}))


def words(text: str, line: int = -1) -> list[TextWord]:
    """Splits at blanks and punctuation, but not inside numbers or at apostrophes; each ideograph is a word of its own."""
    text = _APOSTROPHES.sub("", unicodedata.normalize("NFKC", text))
    text = _NUMBER_INSIDE.sub("", text).replace("_", " ")
    return [TextWord(m.group(), _fold(m.group()), line) for m in _TOKEN.finditer(text)]


def _fold(word: str) -> str:
    """Drops accents (readers lose them) and keeps the case, which the look-alike rule needs."""
    return "".join(c for c in unicodedata.normalize("NFKD", word) if not unicodedata.combining(c))


def alike(wanted: str, read: str) -> bool:
    """Whether two letters count as the same: equal but for case, or not to be told apart in print."""
    if wanted.casefold() == read.casefold():
        return True
    return (wanted in _TALL and read in _TALL) or (wanted in _ROUND and read in _ROUND)


def distance(wanted: str, read: str) -> int:
    """Levenshtein distance under `alike`. In a word read in capitals only, a wanted `l` would be an `L`, which is not like an `I`."""
    if read.isupper():
        wanted = wanted.upper()
    row = list(range(len(read) + 1))
    for i, a in enumerate(wanted, 1):
        diagonal, row[0] = row[0], i
        for j, b in enumerate(read, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (not alike(a, b)))
    return row[-1]


def compare(expected: str, lines: Sequence[Line], prompt: str = "") -> TextComparison:
    """Scores what was read against a wanted text that holds at least one letter or digit; the prompt's words may turn up misspelt, too."""
    spoken = words(prompt)
    wanted = words(expected)
    read = [word for index, line in enumerate(lines) for word in words(line.text, index)]
    wanted_left, read_left, matched = _match(wanted, read)
    misspelt, missing, extra = _pair(wanted_left, read_left)
    keys = [w.key for w in wanted]
    if any("&" in t for t in (expected, *(line.text for line in lines))):
        extra = [w for w in extra if w.key.casefold() not in _AND]
        missing = [w for w in missing if w.key.casefold() not in _AND]
    doubled = [w for w in extra if any(_doubles(key, w.key) for key in keys)]
    unexpected = [w for w in extra if w not in doubled]
    letters = sum(map(len, keys))
    wrong = len(misspelt) + len(missing)
    recall = 1 - wrong / min(len(wanted), DILUTION)
    edits = sum(distance(w.key, r.key) for w, r in misspelt) + sum(len(w.key) for w in missing)
    botched = [w for w in unexpected if _botches(spoken, w.key)]
    matched = matched or [r for _, r in misspelt]
    penalty = _penalty(lines, matched, unexpected, doubled, botched, letters)
    score = min(max(0.0, recall), 1 - min(1.0, edits / letters)) - penalty
    loud = [w for w in unexpected if w in botched or _weight(w, lines, matched) > 0.2]
    return TextComparison(max(0.0, score), tuple(misspelt), tuple(missing), tuple(loud), tuple(doubled))


def doubted(found: TextComparison, expected: str, lines: Sequence[Line]) -> bool:
    """Whether all that is wrong may be the reader's doing, or meant: a letter in words that it was not sure of, as in curved, script and
    worn lettering, and wanted words that stand elsewhere again, as on a second shirt."""
    read = [*(r for _, r in found.misspelt), *found.unexpected]
    slips = sum(distance(want.key, r.key) for want, r in found.misspelt)
    if found.stuttered or found.missing or slips > SLIPS or not (read or found.doubled):
        return False
    return all(lines[w.line].confidence < SURE for w in read) and _stands_again(found.doubled, expected, lines)


def _stands_again(doubled: Sequence[TextWord], expected: str, lines: Sequence[Line]) -> bool:
    """Whether doubled words, none or several, stand in lines of wanted words alone, each once: not PARK PARK, and no single word."""
    said = [[word.key.casefold() for word in words(lines[at].text)] for at in {word.line for word in doubled}]
    wanted = [want.key for want in words(expected)]
    clean = all(len(set(line)) == len(line) and all(any(distance(want, key) == 0 for want in wanted) for key in line) for line in said)
    return clean and len({word.key.casefold() for word in doubled}) != 1


def _match(wanted: list[TextWord], read: list[TextWord]) -> tuple[list[TextWord], list[TextWord], list[TextWord]]:
    """Takes out equal words, then joined ones (QUANTUMLEAP), then split ones (O P E N): what is left of each, and the matches."""
    wanted, read, matched = list(wanted), list(read), []
    for want in list(wanted):
        hit = next((r for r in read if distance(want.key, r.key) == 0), None)
        if hit is not None:
            wanted.remove(want)
            _drop(read, hit)
            matched.append(hit)
    for token in list(read):
        parts = _tiling(token.key, wanted)
        if parts:
            _drop(read, token)
            matched.append(token)
            for part in parts:
                _drop(wanted, part)
    for want in list(wanted):
        run = _run(want.key, read)
        if run:
            wanted.remove(want)
            matched += run
            for token in run:
                _drop(read, token)
    return wanted, read, matched


def _drop(items: list[TextWord], item: TextWord) -> None:
    """Removes this very word, not an equal one."""
    del items[next(i for i, other in enumerate(items) if other is item)]


def _tiling(token: str, wanted: list[TextWord]) -> list[TextWord] | None:
    """Two or more wanted words that, written together, give the token; or None."""

    def extend(rest: str, left: list[TextWord]) -> list[TextWord] | None:
        if not rest:
            return []
        for i, want in enumerate(left):
            if len(want.key) <= len(rest) and distance(want.key, rest[: len(want.key)]) == 0:
                tail = extend(rest[len(want.key) :], left[:i] + left[i + 1 :])
                if tail is not None:
                    return [want, *tail]
        return None

    if len(token) < 2 or len(token) > 60:
        return None
    return extend(token, wanted)


def _run(want: str, read: list[TextWord]) -> list[TextWord] | None:
    """Consecutive read words that, written together, give the wanted one; or None."""
    for start in range(len(read)):
        joined = ""
        for stop in range(start, len(read)):
            joined += read[stop].key
            if len(joined) > len(want):
                break
            if len(joined) == len(want) and stop > start and distance(want, joined) == 0:
                return read[start : stop + 1]
    return None


def _pair(wanted: list[TextWord], read: list[TextWord]) -> tuple[list[tuple[TextWord, TextWord]], list[TextWord], list[TextWord]]:
    """Pairs what is left by likeness, best first, while at least half of the letters agree: (misspelt, missing, left over)."""
    options = []
    for i, want in enumerate(wanted):
        for j, token in enumerate(read):
            likeness = 1 - distance(want.key, token.key) / max(len(want.key), len(token.key))
            if likeness >= 0.5:
                options.append((-likeness, i, j))
    used_i: set[int] = set()
    used_j: set[int] = set()
    pairs = []
    for _, i, j in sorted(options):
        if i not in used_i and j not in used_j:
            used_i.add(i)
            used_j.add(j)
            pairs.append((wanted[i], read[j]))
    missing = [w for i, w in enumerate(wanted) if i not in used_i]
    return pairs, missing, [r for j, r in enumerate(read) if j not in used_j]


def _doubles(wanted: str, read: str) -> bool:
    """Whether a left-over word repeats a wanted one, perhaps with one letter wrong."""
    return len(read) >= 2 and distance(wanted, read) <= (len(wanted) >= 4)


def _penalty(
    lines: Sequence[Line],
    matched: list[TextWord],
    unexpected: list[TextWord],
    doubled: list[TextWord],
    botched: list[TextWord],
    letters: int,
) -> float:
    def mass(words: list[TextWord]) -> float:
        return sum(len(w.key) * _weight(w, lines, matched) for w in words) / letters

    penalty = UNEXPECTED_WEIGHT * mass(unexpected) + DOUBLED_WEIGHT * mass(doubled)
    touching = {(m.line, m.key.casefold()) for m in matched}
    if any((w.line, w.key.casefold()) in touching for w in doubled) or any(_weight(w, lines, matched) > 0.3 for w in botched):
        penalty = max(penalty, ONE_FAULT)
    return min(PENALTY_MAX, penalty)


def _botches(spoken: Sequence[TextWord], read: str) -> bool:
    """Whether a left-over word is a word of the prompt with one or two letters wrong (BAKARY), and is none of them itself."""
    if len(read) < 4:
        return False
    near = [distance(w.key, read) for w in spoken if len(w.key) >= 4]
    return bool(near) and 0 < min(near) <= 1 + (len(read) >= 8)


def _weight(word: TextWord, lines: Sequence[Line], matched: Sequence[TextWord]) -> float:
    """0..1: how much an unexpected word disturbs. Confidence ramp x height beside the matched lines; single signs hardly count."""
    line = lines[word.line]
    sure = min(1.0, max(0.0, (line.confidence - UNSURE) / (SURE - UNSURE)))
    heights = sorted(lines[m.line].height for m in matched)
    usual = heights[len(heights) // 2] if heights else line.height
    size = min(1.0, line.height / max(1.0, usual))
    return sure * size * (0.3 if len(word.key) == 1 else 1.0)
