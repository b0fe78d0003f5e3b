"""Which column of a manifest a header means: its own name in any spelling, a name that another tool gives it, or what a person says.

What a source may say beside the manifest's columns: `size` (`story`, `1200x628`), `aspect` (`16:9`), `style` (a name in the list of styles)
and `infotext` (prompt and settings in one block). Names that are known to be no setting of ours become tags. A name that is not known is
refused, with what could be done about it: a column left out silently is money spent on the wrong picture. Pure.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

from renderfarm.errors import ManifestError
from renderfarm.manifest.cells import EXCLUDE, INCLUDE, TAG_PREFIX
from renderfarm.manifest.columns import COLUMNS, LIST_OF_ADAPTERS, nearest

IGNORE = "-"
"""What a mapping says of a column that is to be left out."""
REST = "*"
"""In a mapping: every column that is not known."""
SIZE, ASPECT, STYLE, INFOTEXT = "size", "aspect", "style", "infotext"
SAID = (SIZE, ASPECT, STYLE, INFOTEXT, INCLUDE, EXCLUDE)
"""What a source may say beside the manifest's columns; `brief.rows` makes columns of it."""


def plain(name: str) -> str:
    """A header without what people vary: case, width, blanks, underscores, points, hyphens, a byte order mark, a star or colon behind it.

    `#`, `N°` and `№` are what people write for number.
    """
    folded = unicodedata.normalize("NFKC", name.strip().casefold().replace("°", "o"))
    return re.sub(r"[\W_]+", "", folded) or ("no" if folded == "#" else "")


def _known_words(text: str) -> Iterator[str]:
    """The words of a table, and each without its accents."""
    for word in text.split():
        yield word
        if word[0] < "\u0250":
            yield "".join(c for c in unicodedata.normalize("NFKD", word) if not unicodedata.combining(c))


_TABLE = tomllib.loads(resources.files(__package__).joinpath("headers.toml").read_text(encoding="utf-8"))
_TAGS = frozenset(word for words in _TABLE["tags"].values() for word in _known_words(words))
_OWN = {plain(name): name for name in (*COLUMNS, LIST_OF_ADAPTERS)} | {name: name for name in SAID}
_KNOWN = {word: f"{TAG_PREFIX}{word}" for word in _TAGS} | {
    word: target for target, words in _TABLE["columns"].items() for word in _known_words(words)
}
_REMARK = re.compile(r"\(.*?\)|\[.*?\]")
_INDEX = re.compile(r"Unnamed: \d+(?:\.\d+)?|__index_level_\d+__")
"""What pandas calls its index, and columns without a name."""
_LANGUAGE = re.compile("prompt(?:en|eng|english|cn|zh|chinese|de|german|fr|french|es|spanish|it|italian|pt|ja|jp|ko|ru|nl|pl|tr|ar)")
"""Sets of prompts that come in several languages name the column by its own."""


@dataclass(frozen=True, slots=True)
class Columns:
    """What each column of a source means, in its order (None: nothing), and what is to be said of that."""

    targets: tuple[str | None, ...]
    notes: tuple[str, ...] = ()


def meaning(name: str, mapping: Mapping[str, str]) -> str | None:
    """What one header means by itself; None where that is not known. `-`: it is to be left out."""
    name = name.strip().lstrip("\ufeff")
    if (said := mapping.get(plain(name))) is not None:
        return f"{TAG_PREFIX}{_tag(name)}" if said == TAG_PREFIX + REST else said
    if name.casefold().startswith(TAG_PREFIX) and len(name) > len(TAG_PREFIX):
        return TAG_PREFIX + name[len(TAG_PREFIX) :]
    if _INDEX.fullmatch(name):
        return IGNORE
    for bare in dict.fromkeys((plain(name), plain(_REMARK.sub("", name)))):  # `Width (px)`, `Seed (optional)`
        if known := _OWN.get(bare) or _KNOWN.get(bare):
            return f"{TAG_PREFIX}{_tag(name)}" if bare in _TAGS else known
        if _LANGUAGE.fullmatch(bare):
            return "prompt"
    if rest := mapping.get(REST):
        return f"{TAG_PREFIX}{_tag(name)}" if rest.startswith(TAG_PREFIX) else rest
    return None


def recognised(names: Sequence[str], mapping: Mapping[str, str]) -> int:
    """How many of these cells are names of columns, if they were a header; 0 where none of them is the prompt."""
    targets = {meaning(name, mapping) for name in names if name.strip()} - {None, IGNORE}
    return len(targets) if targets & {"prompt", INFOTEXT} else 0


def understood(names: Sequence[str], mapping: Mapping[str, str], where: str, needed: Iterable[str] = ()) -> Columns:
    """What a header means as a whole. `needed`: names of the mapping that must be there.

    Raises: ManifestError for names that are doubled, unknown or missing, all of them at once.
    """
    names = [name.strip().lstrip("\ufeff") for name in names]
    _refuse_unused(names, needed, where)
    targets = [meaning(name, mapping) if name else None for name in names]
    # What somebody says wins over a name, and a name over a synonym: `prompt` and `caption` side by side are a prompt and a tag.
    ranks = [_rank(name, target, mapping) for name, target in zip(names, targets, strict=True)]
    best: dict[str, int] = {}
    for target, rank in zip(targets, ranks, strict=True):
        if target is not None and target in _OWN.values():
            best[target] = max(best.get(target, 0), rank)
    targets = [
        f"{TAG_PREFIX}{_tag(name)}" if target and rank < best.get(target, 0) else target
        for name, target, rank in zip(names, targets, ranks, strict=True)
    ]
    wrong = [*_doubled(names, targets), *_unknown(names, targets)]
    if not {"prompt", INFOTEXT} & set(targets):
        wrong.append("the column 'prompt' is missing; name it so, or say which it is: --map NAME=prompt")
    if wrong:
        shown = [*wrong[:20], *([f"and {len(wrong) - 20} more"] if len(wrong) > 20 else [])]
        raise ManifestError("the columns are wrong", where, "mend the row that names them, or say what they mean by --map", shown)
    return Columns(tuple(target if target != IGNORE else None for target in targets), tuple(_said(names, targets)))


def unknown_name_remedy(name: str, present: Iterable[str | None]) -> str:
    """What to do about a column that is not known."""
    keep = f"keep it as a tag: --map {_quoted(name)}=tag.{_tag(name)}, or leave it out: --map {_quoted(name)}=-"
    if plain(name) in ("weight", "loraweight"):
        return f"write the weight behind the adapter's name (style:0.8), or {keep}"
    meant = nearest(name, COLUMNS)
    return f"did you mean {meant!r}? Else {keep}" if meant and meant not in set(present) else keep


def parsed_mapping(texts: Iterable[str], where: str = "--map") -> dict[str, str]:
    """`Headline=text` as a mapping. Raises: ManifestError for what is no such text, or a meaning that there is not."""
    mapping: dict[str, str] = {}
    for text in texts:
        name, equals, target = (part.strip() for part in text.rpartition("="))
        if not equals or not name or not target:
            raise ManifestError(
                f"{text!r} does not say what a column means", where, "write NAME=prompt, NAME=tag.sku, or NAME=- to leave it out"
            )
        target = _OWN.get(plain(target), target)
        if target not in (*COLUMNS, LIST_OF_ADAPTERS, *SAID, IGNORE) and not (
            target.startswith(TAG_PREFIX) and len(target) > len(TAG_PREFIX)
        ):
            meant = nearest(target, (*COLUMNS, *SAID))
            remedy = f"use {meant!r}" if meant else f"use tag.NAME, - or one of: {', '.join((*COLUMNS, *SAID))}"
            raise ManifestError(f"there is no column {target!r} that {name!r} could mean", where, remedy)
        if name == REST and not (target == IGNORE or target.startswith(TAG_PREFIX)):
            raise ManifestError(f"not every other column can be {target!r}", where, "write *=tag.* or *=-")
        column = REST if name == REST else plain(name)
        if mapping.setdefault(column, target) != target:
            raise ManifestError(f"{name!r} would be both {mapping[column]!r} and {target!r}", where, "keep one of them")
    return mapping


def _rank(name: str, target: str | None, mapping: Mapping[str, str]) -> int:
    """How sure it is that a column means its target: 2 it was said, 1 it has its name, 0 it is a synonym."""
    return 2 if plain(name) in mapping else int(_OWN.get(plain(name)) == target)


def _refuse_unused(names: Sequence[str], needed: Iterable[str], where: str) -> None:
    """Raises: ManifestError for a mapping of a column that is not there."""
    there = {plain(name) for name in names}
    for name in needed:
        if name != REST and name not in there:
            shown = ", ".join(repr(one) for one in names if one)[:300]
            raise ManifestError(f"--map or --id-from names a column {name!r} that is not there", where, f"the columns are {shown}")


def _doubled(names: Sequence[str], targets: Sequence[str | None]) -> list[str]:
    wrong = []
    for target in dict.fromkeys(target for target in targets if target and target != IGNORE):
        same = [name for name, other in zip(names, targets, strict=True) if other == target]
        if len(same) > 1 and len(set(same)) == 1:
            wrong.append(f"{same[0]!r} is there more than once; keep one of them")
        elif len(same) > 1:
            example = f"--map {_quoted(same[0])}={target} --map {_quoted(same[1])}=tag.{_tag(same[1])}"
            wrong.append(f"{' and '.join(map(repr, same))} would all be {target!r}; say which is: {example}")
    if "adapter" in targets and LIST_OF_ADAPTERS in targets:
        wrong.append("'adapter' and 'adapters' say the same; keep one of them")
    return wrong


def _unknown(names: Sequence[str], targets: Sequence[str | None]) -> list[str]:
    unknown = [name for name, target in zip(names, targets, strict=True) if name and target is None]
    return [f"no such column {name!r}; {unknown_name_remedy(name, targets)}" for name in dict.fromkeys(unknown)]


def _said(names: Sequence[str], targets: Sequence[str | None]) -> list[str]:
    """One line for all names that were taken otherwise than they stand there."""
    pairs = [(name, target) for name, target in zip(names, targets, strict=True) if name and target]
    taken = [
        f"{name!r} as {target}"
        for name, target in pairs
        if target != IGNORE and not target.startswith(TAG_PREFIX) and plain(name) != plain(target)
    ]
    tags = [f"{name!r}" for name, target in pairs if target.startswith(TAG_PREFIX) and name.casefold() != target]
    out = [f"{name!r}" for name, target in pairs if target == IGNORE]
    parts = [
        *taken,
        *([f"{', '.join(tags)} kept as tag{'s' if len(tags) > 1 else ''}"] if tags else []),
        *([f"{', '.join(out)} left out"] if out else []),
    ]
    return [f"columns: {', '.join(parts)}"] if parts else []


def _tag(name: str) -> str:
    return re.sub(r"[\s.:*?()\-]+", "_", name.strip().lower()).strip("_") or "column"


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[\w.-]+", name) else f"'{name}'"
