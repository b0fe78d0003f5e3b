"""Prompt fragility: prompts said otherwise or edited by one word, drawn from the same noise, and how far their pictures move.

Each row gives a base and its variants, all with one seed; one more picture has the base's words and other noise, which is the measure: a
paraphrase that moves a picture as far as other noise does says that the wording decides, not the meaning. Lettering (what stands in
quotation marks) is never touched. The edits are made by rule, in English, so that whoever takes the figure of another model takes the same
one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from renderfarm.errors import UserError
from renderfarm.evaluate.distances import Bools
from renderfarm.evaluate.figures import OF_ONE, Figure
from renderfarm.evaluate.gather import SampleSet
from renderfarm.evaluate.intervals import groups_of, jackknife
from renderfarm.job import JobSettings
from renderfarm.models.features import cosine
from renderfarm.plan import Intent, attempt_of, plan_row
from renderfarm.schema import PromptRow
from renderfarm.wording.quotes import quotations

BASE, NOISE, PARAPHRASE, TYPO, LEFT_OUT, CHANGED = "base", "other noise", "paraphrase", "typo", "word left out", "word changed"
KINDS = (PARAPHRASE, TYPO, LEFT_OUT, CHANGED, NOISE)
TAG_ROW, TAG_KIND = "fragility.row", "fragility.kind"
RATIO = "fragility"
_NOUNS = "photo photograph picture image illustration drawing painting rendering shot poster"
_LEAD = re.compile(rf"(?P<lead>(?:an?|the)\s+(?:[\w-]+\s+){{0,2}}?(?P<noun>{_NOUNS.replace(' ', '|')}))\s+(?:of|showing)\s+", re.I)
_SAME = {
    "photo": "photograph", "photograph": "photo", "picture": "image", "image": "picture", "illustration": "drawing",
    "drawing": "illustration", "painting": "painted picture", "rendering": "render", "shot": "photo", "poster": "placard",
}  # fmt: skip
_COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
_NUMBERS = ("two", "three", "four", "five", "six")
_EMPTY = frozenset(
    {"a", "an", "the", "of", "in", "on", "at", "with", "and", "or", "for", "by", "to", "from", "as", "is", "are", "its", "their"}
    | {"over", "under", "into", "near", "that", "says"}
)
_WORD = re.compile(r"[^\W\d_][\w'’-]*")
_BRACKETS = re.compile(r"<[^>]*>|\([^)]*\)|\[[^\]]*\]")
_LONG = 5


@dataclass(frozen=True, slots=True)
class Moved:
    """One variant: how far its picture is from its base's, as a cosine distance; `picture` and `base` by name."""

    row: str
    kind: str
    prompt: str
    base_prompt: str
    picture: str
    base: str
    distance: float


def variants(prompt: str) -> Iterator[tuple[str, str]]:
    """(kind, text) of every way a prompt is said otherwise here; none equals it, none twice."""
    seen = {prompt}
    for kind, text in (*((PARAPHRASE, one) for one in _paraphrases(prompt)), *_edits(prompt)):
        if text not in seen and text.strip():
            seen.add(text)
            yield kind, text


def _paraphrases(prompt: str) -> Iterator[str]:
    lead = _LEAD.match(prompt)
    if lead is not None:
        rest = prompt[lead.end() :]
        start, end = lead.span("noun")
        other = _SAME[lead["noun"].lower()]
        before = re.sub(r"^(a)n?( )$", "an " if other[0] in "aeiou" else "a ", prompt[:start], flags=re.I)
        yield before + other + prompt[end:]
        yield f"{rest.rstrip(' .')}, {lead['lead'].lower()}"
    else:
        yield f"a picture of {prompt}"
    if not quotations(prompt) and len(parts := [part.strip() for part in prompt.rstrip(" .").split(",")]) > 2:
        yield ", ".join([parts[0], *parts[:0:-1]])
    first = prompt[:1].swapcase() + prompt[1:]
    yield first.rstrip(".") if prompt.endswith(".") else f"{first}."


def _edits(prompt: str) -> Iterator[tuple[str, str]]:
    words = _free_words(prompt)
    long = [word for word in words if len(word[0]) >= _LONG and word[0].isascii()]
    if long:
        text, start, end = max(long, key=lambda word: (len(word[0]), -word[1]))
        middle = len(text) // 2
        yield TYPO, prompt[:start] + text[: middle - 1] + text[middle] + text[middle - 1] + text[middle + 1 :] + prompt[end:]
    lead = _LEAD.match(prompt)
    telling = [word for word in words if word[1] >= (lead.end() if lead else 0) and word[0].lower() not in _EMPTY]
    before = [word for word, following in pairwise(telling) if prompt[word[2] : following[1]] == " "]  # such as a colour before its thing
    if before:
        _, start, end = before[hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).digest()[0] % len(before)]
        yield LEFT_OUT, prompt[:start] + prompt[end + 1 :]
    for table in (_COLOURS, _NUMBERS):
        for text, start, end in words:
            if text.lower() in table:
                yield CHANGED, prompt[:start] + table[(table.index(text.lower()) + 3) % len(table)] + prompt[end:]
                return


def _free_words(prompt: str) -> list[tuple[str, int, int]]:
    """Words outside quotation marks and other programs' brackets, with their places."""
    kept = [(one.start, one.end) for one in quotations(prompt)] + [match.span() for match in _BRACKETS.finditer(prompt)]
    found = ((match[0], *match.span()) for match in _WORD.finditer(prompt))
    return [(text, start, end) for text, start, end in found if not any(low <= start < high for low, high in kept)]


def fragile_rows(rows: Sequence[PromptRow], job: JobSettings) -> list[PromptRow]:
    """A base, its variants and one with other noise for each row, all with the noise that the job would give it."""
    made: list[PromptRow] = []
    for number, row in enumerate(rows):
        one = plan_row(dataclasses.replace(row, images=1), "", Intent(job, ""))[0]
        seeds = {True: attempt_of(one, 1).seed, False: attempt_of(one, 2).seed}
        for at, (kind, text) in enumerate([(BASE, row.prompt), (NOISE, row.prompt), *variants(row.prompt)]):
            one_of = dataclasses.replace(row, id=f"{number:04d}-{at:02d}", prompt=text, seed=seeds[kind != NOISE], images=1)
            made.append(dataclasses.replace(one_of, text="", objects=(), tags=((TAG_ROW, row.id), (TAG_KIND, kind))))
    return made


def moved(found: SampleSet) -> list[Moved]:
    """How far each variant's picture is from its base's. Raises: UserError where there is no pair."""
    assert found.features is not None
    tags = [dict(sample.tags) for sample in found.samples]
    bases = {tag[TAG_ROW]: at for at, tag in enumerate(tags) if tag.get(TAG_KIND) == BASE}
    pairs = [(at, bases[tag[TAG_ROW]]) for at, tag in enumerate(tags) if tag.get(TAG_KIND) in KINDS and tag.get(TAG_ROW) in bases]
    if not pairs:
        raise UserError(
            "no picture has a base that it could have moved from", found.source, "name an output that --fragility wrote, or none"
        )
    here, there = (np.array(places) for places in zip(*pairs, strict=True))
    apart = 1 - cosine(found.features[here], found.features[there])
    return [
        Moved(tags[at][TAG_ROW], tags[at][TAG_KIND], *_said(found, at, base), max(0.0, float(far)))
        for (at, base), far in zip(pairs, apart, strict=True)
    ]


def _said(found: SampleSet, at: int, base: int) -> tuple[str, str, str, str]:
    one, other = found.samples[at], found.samples[base]
    return one.prompt or "", other.prompt or "", one.name, other.name


def fragility_figures(pairs: Sequence[Moved]) -> list[Figure]:
    """Mean distance by kind, each row once, and what a paraphrase does as a share of what other noise does."""
    of_row: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for pair in pairs:
        of_row[pair.row][pair.kind].append(pair.distance)
    rows = list(of_row)
    kinds = [kind for kind in KINDS if any(kind in by_kind for by_kind in of_row.values())]
    means = np.array([[np.mean(of_row[row][kind]) if of_row[row][kind] else math.nan for kind in kinds] for row in rows])
    groups = groups_of(rows)

    def statistic(keep: Bools) -> list[float]:
        left = means[keep]
        known = [left[:, at][np.isfinite(left[:, at])] for at in range(len(kinds))]
        by_kind = [float(values.mean()) if len(values) else math.nan for values in known]
        at = dict(zip(kinds, by_kind, strict=True))
        noise = at.get(NOISE, math.nan)
        return [*by_kind, at.get(PARAPHRASE, math.nan) / noise if noise > 1e-12 else math.nan]

    estimates = jackknife(statistic, [np.array([groups[row] for row in rows])], [[0]])
    counts = [int(np.isfinite(means[:, at]).sum()) for at in range(len(kinds))]
    figures = []
    names = [*(f"moved:{kind}" for kind in kinds), RATIO]
    for name, value, half, count in zip(names, estimates.value, estimates.half, [*counts, len(rows)], strict=True):
        if math.isfinite(value):
            sure = math.isfinite(half)
            low, high = (max(0.0, float(value - half)), float(value + half)) if sure else (None, None)
            figures.append(Figure(name, OF_ONE, float(value), low, high, count, better="lower" if name == RATIO else ""))
    return figures
