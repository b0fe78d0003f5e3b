"""A YAML template: lists, and rows that multiply them. Pure but for reading the file.

    lists:
      colour: [red, blue]
      product:
        - {name: mug, sku: MUG-01}
        - {name: T-shirt, sku: TEE-07}
    defaults: {steps: 20}
    rows:
      - id: "{product.sku}-{colour}"
        prompt: "a photo of {colour|a} {product.name}"
        tags: {sku: "{product.sku}"}

A row template yields one row for each combination of the lists that it names, the list declared first turning slowest.
`{list}` or `{list.field}` stands for the entry; `|a` puts a or an before it, `|slug` makes it fit for an id; `{{` is a
brace. Every scalar is text as it is written: `no`, `007` and `12:30` stay what they are.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from renderfarm.errors import ManifestError
from renderfarm.manifest.cells import NO_TEXT, known_key
from renderfarm.manifest.columns import COLUMNS, nearest, unknown_remedy
from renderfarm.sources.headers import SAID, meaning

Lists = dict[str, list[Any]]

_HOLE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_NAME = re.compile(r"(\w+)(?:\.(\w+))?(?:\|(\w+))?")
_KEYS = ("lists", "defaults", "rows")


class _TextLoader(yaml.BaseLoader):
    """YAML whose scalars are all text, and whose mappings may not name a key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        doubled = next((key for key in keys if keys.count(key) > 1), None)
        if doubled is not None:
            raise yaml.constructor.ConstructorError(None, None, f"the key {doubled!r} is there twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read_template(source: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a template, each with the number of its row template counted from 1.

    Raises: ManifestError for YAML that cannot be read, and for a template that makes no sense as a whole.
    """
    lists, rows = _parts(source)
    for number, row in enumerate(rows, 1):
        place = f"{source}, rows entry {number}"
        named = _named_lists(row, lists, place)
        _refuse_shared_ids(row, named, lists, place)
        for entries in itertools.product(*(lists[name] for name in named)):
            filled = _filled(row, dict(zip(named, entries, strict=True)), place)
            yield number, _cells(filled)


def _parts(source: Path) -> tuple[Lists, list[dict[str, Any]]]:
    """The template's lists, and its row templates with the defaults put in."""
    try:
        document = yaml.load(source.read_text(encoding="utf-8-sig"), _TextLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{source}, line {mark.line + 1}" if mark else str(source)
        what = f"not YAML: {getattr(error, 'problem', None) or error}"
        raise ManifestError(what, where, "mend the indentation, brackets or quotation marks there") from error
    if not isinstance(document, dict):
        raise ManifestError("no template", str(source), "write the keys 'lists' and 'rows'")
    for key in document:
        if key not in _KEYS:
            meant = nearest(key, _KEYS)
            raise ManifestError(f"unknown key {key!r}", str(source), f"use {meant!r}" if meant else f"use {_KEYS}")
    lists, rows, defaults = document.get("lists") or {}, document.get("rows"), document.get("defaults") or {}
    if not isinstance(lists, dict) or not all(isinstance(entries, list) and entries for entries in lists.values()):
        raise ManifestError("'lists' must map each name to a list of entries", str(source), "write - entry lines below it")
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise ManifestError("'rows' must be a list of row templates", str(source), "write - id: ... below it")
    if not isinstance(defaults, dict):
        raise ManifestError("'defaults' must map columns to values", str(source), "write column: value lines below it")
    merged = [_merged(defaults, row) for row in rows]
    for key in dict.fromkeys(itertools.chain.from_iterable(merged)):
        if not known_key(str(key)) and str(key) not in SAID:
            meant = meaning(str(key), {})
            remedy = f"write {meant!r}" if meant in COLUMNS else unknown_remedy(str(key), set(defaults))
            raise ManifestError(f"no such column {key!r}", str(source), remedy)
    return lists, merged


def _merged(defaults: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """The row over the defaults; their tags are joined."""
    merged = {**defaults, **row}
    if isinstance(defaults.get("tags"), dict) and isinstance(row.get("tags"), dict):
        merged["tags"] = {**defaults["tags"], **row["tags"]}
    return merged


def _named_lists(row: Mapping[str, Any], lists: Lists, place: str) -> list[str]:
    """The lists that a row template names, as they are declared. Raises: ManifestError for a name that is none."""
    used = {hole for value in _texts(row) for hole in _holes(value, place)}
    for name in sorted(used - set(lists)):
        meant = nearest(name, tuple(lists))
        remedy = f"use {{{meant}}}" if meant else "declare it under 'lists', or write {{ for a brace"
        raise ManifestError(f"there is no list {name!r}", place, remedy)
    return [name for name in lists if name in used]


def _refuse_shared_ids(row: Mapping[str, Any], named: list[str], lists: Lists, place: str) -> None:
    """Raises: ManifestError when the id leaves out a list that multiplies the row."""
    told = set(_holes(str(row.get("id", "")), place))
    for name in named:
        if name not in told and len(lists[name]) > 1:
            what = f"the id does not name {{{name}}}, so {len(lists[name])} rows would share each id"
            raise ManifestError(what, place, f"put {{{name}}}, or a field of it, into the id")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _texts(key)
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
    else:
        yield str(value)


def _holes(text: str, place: str) -> Iterator[str]:
    """The list names in a text's holes. Raises: ManifestError for a hole that cannot be read."""
    for hole in _HOLE.finditer(text):
        if hole.group() in ("{{", "}}"):
            continue
        name = _NAME.fullmatch(hole.group(1) or "")
        if not name:
            raise ManifestError(f"cannot read {hole.group()!r} in {text!r}", place, "write {list}, {list.field} or {{")
        yield name.group(1)


def _filled(value: Any, entries: Mapping[str, Any], place: str) -> Any:
    """The value with every hole filled."""
    if isinstance(value, dict):
        return {_filled(key, entries, place): _filled(inner, entries, place) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, entries, place) for inner in value]

    def fill(hole: re.Match[str]) -> str:
        if hole.group() in ("{{", "}}"):
            return hole.group()[0]
        match = _NAME.fullmatch(hole.group(1))
        assert match, "the holes were read before"
        name, field, form = match.groups()
        return _formed(_entry(entries[name], name, field, place), form, place)

    return _HOLE.sub(fill, value)


def _entry(entry: Any, name: str, field: str | None, place: str) -> str:
    if field is None and isinstance(entry, str):
        return entry
    if isinstance(entry, dict) and field in entry and isinstance(entry[field], str):
        text: str = entry[field]
        return text
    if field is None:
        raise ManifestError(f"the entries of {name!r} have fields", place, f"say which one, such as {{{name}.name}}")
    raise ManifestError(f"an entry of {name!r} has no field {field!r}: {entry!r}", place, "give every entry that field")


def _formed(text: str, form: str | None, place: str) -> str:
    if form is None:
        return text
    if form == "a":
        return f"{'an' if text[:1].lower() in 'aeiou' else 'a'} {text}"
    if form == "slug":
        return re.sub(r"[^\w]+", "-", text.lower()).strip("-")
    raise ManifestError(f"there is no form |{form}", place, "use |a or |slug")


def _cells(row: dict[str, Any]) -> dict[str, Any]:
    """`text` that is written but empty means: no text wanted."""
    return {**row, "text": NO_TEXT} if row.get("text") == "" else row
